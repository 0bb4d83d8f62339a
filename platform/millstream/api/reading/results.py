"""Ends of runs, for those who wait for them: one look at the index answers all, and only where it has changed.

    result(run, wait_s) ──> a waiter ──┐         every LOOK_S, while anybody waits:
    result(run, wait_s) ──> a waiter ──┼──> changed? (positions) ──yes──> the runs of all waiters; else: of new ones
    result(run, wait_s) ──> a waiter ──┘

A thousand waiters cost a thousand look-ups by key at each change, 2 to 3 ms, and never more than a fifth of the time.
A run that is not there may be one that the history has not come to yet: it is not there once the history has come to
where the lane's journal ended when it was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from millstream.api.sockets.connections import connections_max
from millstream.errors import Busy, LogUnavailable
from millstream.history.queries import Queries
from millstream.history.results import STATUS_ALONE, ResultSeen
from millstream.log.port import Log
from millstream.model import limits
from millstream.model.ids import lane_of
from millstream.model.messages import group_topic

LOOK_S: Final = 0.01
QUIET_LOOK_S: Final = 0.05
QUIET_AFTER_S: Final = 1.0
"""Where nobody came and nothing changed for so long, looks are that far apart."""
SHARE: Final = 4
"""The pause after a look is at least so many times as long as the look."""
STATUSES_AT_ONCE_MAX: Final = 200
RESULTS_AT_ONCE_MAX: Final = 8
"""Results may have megabytes."""
UNKNOWN_LOOK_S: Final = 0.1

T = TypeVar("T")
Positions = dict[tuple[str, int], int]


class Asks(Protocol):
    """``Reads.ask``."""

    async def __call__(self, question: Callable[[Queries], T], /) -> T: ...


class _Waiter:
    """One who waits for the end of a run. ``seen``: the run at the last look; ``looked_at``: how far the index was."""

    __slots__ = ("failure", "looked_at", "over", "run", "seen")

    def __init__(self, run: str) -> None:
        self.run = run
        self.over = asyncio.Event()
        self.seen: ResultSeen | None = None
        self.looked_at: Positions = {}
        self.failure: Busy | LogUnavailable | None = None

    async def wait(self, length_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), length_s)


@functools.cache
def _waits_max() -> int:
    """Who waits holds a connection: the other half is for those who send events and ask for more."""
    return min(limits.RESULTS_AWAITED_MAX, connections_max() // 2)


def check_waits(waits: int) -> None:
    """Raise Busy where so many requests wait that no more may."""
    if waits >= _waits_max():
        raise Busy(f"{waits} requests already wait for ends of runs, the most that may. Ask again.")


class Results:
    """Waits for ends of runs in this process's own history."""

    def __init__(self, ask: Asks, log: Log, group: str, lanes: int) -> None:
        self._ask = ask
        self._log = log
        self._journal = group_topic(group, "journal")
        self._lanes = lanes
        self._waiters: set[_Waiter] = set()
        self._fresh: set[_Waiter] = set()
        self._looking: asyncio.Task[None] | None = None
        self._is_ending = False

    async def result(self, run: str, wait_s: float) -> ResultSeen | None:
        """The run once it is over, or as it is after ``wait_s``; None where there is none of this id.

        Raises Busy when too many wait, LogUnavailable where there is no index, or no log to compare it with.
        """
        if wait_s <= 0 or self._is_ending:
            return await self._now(run)
        check_waits(len(self._waiters))
        waiter = _Waiter(run)
        self._waiters.add(waiter)
        self._fresh.add(waiter)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_out())
        loop = asyncio.get_running_loop()
        ends = loop.time() + wait_s
        try:
            await waiter.wait(min(wait_s, UNKNOWN_LOOK_S))
            if waiter.seen is None and not await self._appears(waiter, ends):
                return None
            await waiter.wait(ends - loop.time())
        finally:
            self._waiters.discard(waiter)
            self._fresh.discard(waiter)
        if waiter.seen is None:
            raise waiter.failure or Busy(f"the history does not show run {run} yet, if there is one. Ask again.")
        if waiter.seen.is_over and not waiter.seen.has_end:
            return await self._now(run)  # The time was over between the two questions of a look.
        return waiter.seen

    async def _now(self, run: str) -> ResultSeen | None:
        return next(iter(await self._ask(functools.partial(_results, (run,)))), None)

    async def _appears(self, waiter: _Waiter, ends: float) -> bool:
        """Wait for a run that is not shown; False once the history has all that its lane had recorded, and no such run.

        True says nothing: it is shown now, or nobody can say yet.
        """
        loop, lane = asyncio.get_running_loop(), lane_of(waiter.run, self._lanes)
        end = await self._log.end_offset(self._journal, lane)
        while waiter.seen is None and not self._is_ending and loop.time() < ends:
            if waiter.looked_at.get((self._journal, lane), 0) >= end:
                return False
            await waiter.wait(min(UNKNOWN_LOOK_S, ends - loop.time()))
        return True

    async def end(self) -> None:
        """Nobody waits any longer: everybody is answered with what is known."""
        self._is_ending = True
        for waiter in self._waiters:
            waiter.over.set()

    def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()

    async def _look_out(self) -> None:
        known: Positions | None = None
        loop = asyncio.get_running_loop()
        stirred = loop.time()
        while self._waiters:
            began = loop.time()
            fresh, self._fresh = self._fresh, set()
            try:
                now = await self._ask(lambda queries: queries.positions())
                if fresh or now != known:
                    stirred = began
                looked = fresh if now == known else set(self._waiters)
                await self._look(looked)
                for waiter in looked:
                    waiter.looked_at = now
                known = now
            except (Busy, LogUnavailable) as passing:  # Those who came meanwhile are looked at with all others.
                known = None
                for waiter in self._waiters:
                    waiter.failure = passing
            pause_s = LOOK_S if began - stirred < QUIET_AFTER_S else QUIET_LOOK_S
            await asyncio.sleep(max(pause_s, SHARE * (loop.time() - began)))

    async def _look(self, waiters: set[_Waiter]) -> None:
        by_run: dict[str, list[_Waiter]] = {}
        for waiter in waiters:
            by_run.setdefault(waiter.run, []).append(waiter)
        over: list[str] = []
        for some in _parts(list(by_run), STATUSES_AT_ONCE_MAX):
            for seen in await self._ask(functools.partial(_statuses, some)):
                if seen.is_over:
                    over.append(seen.run)
                for waiter in by_run[seen.run]:
                    waiter.seen, waiter.failure = seen, None
        for some in _parts(over, RESULTS_AT_ONCE_MAX):
            for seen in await self._ask(functools.partial(_results, some)):
                for waiter in by_run[seen.run]:
                    waiter.seen = seen
                    waiter.over.set()


def _parts(runs: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    for at in range(0, len(runs), most):
        yield runs[at : at + most]


def _statuses(runs: Sequence[str], queries: Queries) -> list[ResultSeen]:
    return queries.results(runs, STATUS_ALONE)


def _results(runs: Sequence[str], queries: Queries) -> list[ResultSeen]:
    return queries.results(runs)
