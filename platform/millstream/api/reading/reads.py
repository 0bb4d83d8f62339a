"""Questions to the history index, off the loop: one thread with one connection, a bounded queue before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from millstream.errors import Busy, LogUnavailable
from millstream.history.damage import RowDamaged
from millstream.history.queries import Queries

READS_WAITING_MAX: Final = 200
FOLDED_WAIT_S_MAX: Final = 1.0
FOLDED_POLL_S: Final = 0.01

T = TypeVar("T")


class Reads:
    """The read side as the door's handlers use it."""

    def __init__(self, index: Path) -> None:
        self._queries = Queries(index)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history-reads")
        self._waiting = 0
        self._waiters: dict[asyncio.Future[None], tuple[tuple[str, int], int]] = {}
        self._poller: asyncio.Task[None] | None = None

    async def ask(self, question: Callable[[Queries], T]) -> T:
        """The answer to a question. Raises Busy when too many wait, LogUnavailable where there is no index yet."""
        if self._waiting >= READS_WAITING_MAX:
            raise Busy(f"{self._waiting} reads already wait for the history index. Try again.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)
        finally:
            self._waiting -= 1

    def _answer(self, question: Callable[[Queries], T]) -> T:
        """In the thread."""
        try:
            return question(self._queries)
        except (msgspec.MsgspecError, UnicodeDecodeError, RowDamaged) as error:
            raise self._queries.unreadable(error) from error

    async def wait_folded(self, topic: str, partition: int, offset: int, *, wait_s: float = FOLDED_WAIT_S_MAX) -> bool:
        """Wait until the index shows a partition's record at ``offset``, for so long at most. Whether it does."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = ((topic, partition), offset)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            await asyncio.wait_for(waiter, wait_s)
        except TimeoutError:
            return False
        finally:
            self._waiters.pop(waiter, None)
        return True

    async def _poll(self) -> None:
        """Ask how far the index is, once for all who wait, while anybody does."""
        while self._waiters:
            try:
                folded = await self.ask(lambda queries: queries.positions())
            except (Busy, LogUnavailable):
                folded = {}
            for waiter, (place, offset) in tuple(self._waiters.items()):
                if folded.get(place, 0) > offset and not waiter.done():
                    waiter.set_result(None)
                    del self._waiters[waiter]
            await asyncio.sleep(FOLDED_POLL_S)

    async def status_of(self, run: str) -> str | None:
        """The status of a run; None where there is none."""
        full = await self.ask(lambda queries: queries.run(run))
        return None if full is None else full.run.status

    def close(self) -> None:
        """Wait for the read under way, then let go of the index."""
        if self._poller is not None:
            self._poller.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._queries.close()
