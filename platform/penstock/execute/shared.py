"""What all bodies of one executor share: the lane they report to, the loop, the threads, and two calls back."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Protocol

from penstock.execute.port import RunSource
from penstock.execute.threads import Threads
from penstock.sdk.payloads import Reader

if TYPE_CHECKING:
    from penstock.execute.body import Body


class Shared(Protocol):
    """The executor, as its bodies see it."""

    source: RunSource
    loop: asyncio.AbstractEventLoop
    context: Context
    handler_threads: Threads
    step_threads: Threads
    payloads: dict[str, Reader]
    tick: int

    def touch(self, body: Body) -> None:
        """Look at this body at the end of this turn of the loop, or in the next."""
        ...

    def forget(self, body: Body) -> None:
        """The body has ended; forget it once nothing of it runs."""
        ...
