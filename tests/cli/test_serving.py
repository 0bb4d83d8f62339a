"""How a server process ends, whatever its role."""

from __future__ import annotations

import asyncio
import os
import signal

from millstream.cli.support.serving import serve


class Slow:
    """A role that is told to stop while it is long in starting: its lanes are restored, its brokers do not answer."""

    def __init__(self) -> None:
        self.did: list[str] = []

    async def start(self) -> None:
        self.did.append("start")
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    async def stop(self, grace_s: float) -> None:
        self.did.append(f"stop {grace_s:g}")


async def test_told_to_stop_before_it_serves_a_server_does_as_told_and_that_is_no_failure() -> None:
    role = Slow()
    code = await asyncio.wait_for(serve(role, asyncio.Event().wait(), 2.0, "up"), 60)  # type: ignore[arg-type]
    assert code == 0
    assert role.did == ["start", "stop 2"]
