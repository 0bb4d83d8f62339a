"""What all bodies of one executor share: the lane they report to, the loop, the threads, and two calls back."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Protocol

from millstream.execute.local.threads import Threads
from millstream.execute.port import RunSource
from millstream.sdk.payloads import Reader


class Alive(Protocol):
    """A body, as the executor's bookkeeping sees it."""

    run_id: str
    touched: bool
    threaded: bool

    @property
    def idle(self) -> bool:
        """Whether it only waits."""
        ...

    @property
    def executing(self) -> bool:
        """Whether a step of it runs under its own dispatch."""
        ...

    def out(self) -> list[tuple[str, int]]:
        """The dispatches, as (step, number), that are under way."""
        ...

    def settle(self) -> bool:
        """Answer if it has settled; True: look again next turn."""
        ...

    def close(self) -> None:
        """Cancel everything of it."""
        ...


class Shared(Protocol):
    """The executor, as its bodies see it."""

    source: RunSource
    loop: asyncio.AbstractEventLoop
    context: Context
    handler_threads: Threads
    step_threads: Threads
    payloads: dict[str, Reader]
    threaded: set[str]
    """The functions whose handlers run in threads, by slug."""
    tick: int

    def touch(self, body: Alive) -> None:
        """Look at this body at the end of this turn of the loop, or in the next."""
        ...

    def forget(self, body: Alive) -> None:
        """The body has ended; forget it once nothing of it runs."""
        ...
