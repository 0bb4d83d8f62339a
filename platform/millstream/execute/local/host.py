"""What bodies and their executor call on each other: a lane, a loop and threads for the one, a budget for the other."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Final, Protocol

from millstream.execute.local.threads import Threads
from millstream.execute.port import RunSource
from millstream.model.commands import ParkDispatch
from millstream.sdk.payloads import Reader

WATCH_EVERY_S: Final = 0.5
"""How often the executor looks after its bodies: one tick."""


class HostedBody(Protocol):
    """A body, as the executor's bookkeeping sees it."""

    run_id: str
    check_due: bool
    threaded: bool

    @property
    def idle(self) -> bool:
        """Whether it only waits."""
        ...

    @property
    def executing(self) -> bool:
        """Whether a step of it runs under its own dispatch."""
        ...

    def dispatches(self) -> list[tuple[str, int]]:
        """The dispatches, as (step, number), that are under way."""
        ...

    def answer_if_quiescent(self) -> bool:
        """Answer where nothing more can come before the answer; True: check again next turn."""
        ...

    def close(self) -> None:
        """Cancel everything of it."""
        ...


class BodyHost(Protocol):
    """The executor, as its bodies see it. All bodies of one executor share these."""

    source: RunSource
    loop: asyncio.AbstractEventLoop
    context: Context
    handler_threads: Threads
    step_threads: Threads
    payloads: dict[str, Reader]
    threaded: set[str]
    """The functions whose handlers run in threads, by slug."""
    tick: int

    def check_soon(self, body: HostedBody) -> None:
        """Check this body for quiescence at the end of this turn of the loop, or in the next."""
        ...

    def park(self, park: ParkDispatch) -> None:
        """Give a dispatch back; with a reason where the code has changed."""
        ...

    def forget(self, body: HostedBody) -> None:
        """The body has ended; forget it once nothing of it runs."""
        ...
