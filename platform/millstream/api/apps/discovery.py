"""Looking for apps on this machine, in dev mode: the ports that frameworks take, and the paths that SDKs advise.

A port where nothing listens costs one refused connection. One where something else answers is asked less and less
often, so that a server of another kind gets no stream of requests in its log; once it has been closed, it counts as
new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from millstream.execute.endpoint.caller import HANDLED_HEADER, REFUSED, Caller
from millstream.execute.endpoint.explain import PATHS

PORTS: Final = (
    80, 443, *range(3000, 3011), 4321, 5000, 5173, 8000, 8080, 8081, 8787, 8888, *range(8910, 8916),
)  # fmt: skip
LOOKED_LESS_OFTEN_MAX: Final = 12
"""Rounds that are left out at most, between two looks at a port where no SDK has answered."""


@dataclass(slots=True)
class Discovery:
    """The ports of this machine, looked at in rounds."""

    caller: Caller
    ports: tuple[int, ...] = PORTS
    _wait: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Of a port without an SDK: the rounds to leave out, and how many of them are left."""

    async def look(self, covered: Iterable[int]) -> list[str]:
        """The URLs where an SDK answers, on ports that are not covered."""
        ports = [port for port in self.ports if port not in set(covered) and self._is_due(port)]
        found = await asyncio.gather(*(self._look_at(port) for port in ports))
        return [url for url in found if url]

    def _is_due(self, port: int) -> bool:
        pause, left = self._wait.get(port, (0, 0))
        self._wait[port] = (pause, max(left - 1, 0))
        return left == 0

    async def _look_at(self, port: int) -> str:
        if not await _listens(port):
            self._wait.pop(port, None)
            return ""
        for path in PATHS:
            url = f"{'https' if port == 443 else 'http'}://localhost:{port}{path}"
            reply = await self.caller.get(url)
            if reply.is_sdk or HANDLED_HEADER in reply.headers:
                self._wait.pop(port, None)
                return url
            if reply.failure:
                if reply.failure == REFUSED:
                    return ""
                break
        pause = min(2 * self._wait.get(port, (0, 0))[0] + 1, LOOKED_LESS_OFTEN_MAX)
        self._wait[port] = (pause, pause)
        return ""


async def _listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection("localhost", port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
