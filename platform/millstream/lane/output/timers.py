"""Timers of a lane: the next stretch of time in memory, all later ones in the table only.

A million sleeping runs are a million rows, not a million objects: only timers within the horizon are in the heap. The
horizon moves on by reading the next stretch from the table. A timer that was disarmed may still fire here; the core
sees that its row is gone.

Timers that start work wait while the lane cannot take any; those that only end runs or look on (``starts_work`` of
their handlers) have a heap of their own, and wait for the queue and the disk alone: an executor that is full of runs
that hang is emptied by them.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Container
from typing import Final

from millstream.core.nouns import FIRE
from millstream.core.tables import Tables, TimerKey
from millstream.lane.port import Alarm, Surroundings
from millstream.model.commands import FireTimer

HORIZON_MS: Final = 20_000
RELOAD_MS: Final = 5_000
PAGE_ROWS: Final = 2_000
FIRED_AT_ONCE_MAX: Final = 1_000
FULL_WAIT_S: Final = 0.02
HEAP_MAX: Final = 50_000
"""Timers loaded at once. More that are due (a worker comes back to a million) wait in the table for these."""


class Timers:
    """Fires ``FireTimer`` commands when their time has come.

    ``submit`` queues the command; ``lateness_s`` receives how late it was; ``has_capacity`` asks the
    lane, first for what no executor is needed for, then for what starts work.
    """

    def __init__(
        self,
        tables: Tables,
        surroundings: Surroundings,
        submit: Callable[[FireTimer], None],
        lateness_s: Callable[[float], None],
        has_capacity: tuple[Callable[[], bool], Callable[[], bool]],
    ) -> None:
        self._tables = tables
        self._now_ms = surroundings.now_ms
        self._call_later = surroundings.call_later
        self._submit = submit
        self._lateness_s = lateness_s
        self._starting: list[TimerKey] = []
        self._others: list[TimerKey] = []
        self._gates = tuple(zip((self._others, self._starting), has_capacity, strict=True))
        self._horizon_ms = 0
        self._handle: Alarm | None = None
        self._handle_at_ms = 0
        self._running = False
        self._cut = False  # The horizon is where the heap was full, not where it should be.
        self._reload = asyncio.Event()
        self.paused = False  # While the clock is known to be wrong.

    @property
    def pending(self) -> int:
        """Timers within the horizon."""
        return len(self._starting) + len(self._others)

    def reload(self) -> None:
        """Read the heap's stretch of time again: records of another owner were folded."""
        self._clear()
        self._horizon_ms = 0
        self._reload.set()

    def arm(self, at_ms: int, kind: str, id: str, step: str) -> None:
        """Fire then; later than the horizon, the table alone remembers."""
        if at_ms >= self._horizon_ms or not self._running:
            return
        self._push((at_ms, kind, id, step))
        if self._handle is None or at_ms < self._handle_at_ms:
            self._schedule()

    async def fire_overdue(self, kinds: Container[str], wait_for_capacity: Callable[[], Awaitable[None]]) -> None:
        """Fire at once those of these kinds whose time is over, before others that are due; nothing while paused."""
        now_ms = self._now_ms()
        start: TimerKey = (0, "", "", "")
        while not self.paused and (page := self._tables.timers.scan(start, limit=PAGE_ROWS)):
            for key, _ in page:
                if key[0] > now_ms:
                    return
                if key[1] in kinds:
                    self._submit(FireTimer(*key))
            start = _behind(page[-1][0])
            await wait_for_capacity()
            await asyncio.sleep(0)

    async def run(self) -> None:
        """Keep the heap filled up to the horizon, for ever."""
        self._running = True
        while True:
            self._reload.clear()  # First: what is asked for while loading is done next.
            until = self._now_ms() + HORIZON_MS
            if until > self._horizon_ms:
                if self.pending <= HEAP_MAX // 2:
                    await self._load(self._horizon_ms, until)
                else:
                    self._cut = True
            alarm = self._call_later(RELOAD_MS / 1000, self._reload.set)
            await self._reload.wait()
            alarm.cancel()

    async def _load(self, start_ms: int, until_ms: int) -> None:
        # The horizon moves first: what is armed from now on goes to the heap by itself; firing twice does no harm.
        self._horizon_ms = until_ms
        self._cut = False
        start: TimerKey = (start_ms, "", "", "")
        while True:
            page = self._tables.timers.scan(start, limit=PAGE_ROWS)
            for key, _ in page:
                if key[0] >= until_ms:
                    break
                self._push(key)
            self._schedule()
            if len(page) < PAGE_ROWS or page[-1][0][0] >= until_ms:
                return
            last = page[-1][0]
            if self.pending >= HEAP_MAX:
                # Some of this very millisecond may be loaded again: firing twice does no harm.
                self._horizon_ms, self._cut = min(self._horizon_ms, last[0]), True
                return
            start = _behind(last)
            await asyncio.sleep(0)

    def _push(self, key: TimerKey) -> None:
        handler = FIRE.get(key[1])
        heapq.heappush(self._starting if handler is None or handler.starts_work else self._others, key)

    def _clear(self) -> None:
        self._starting.clear()
        self._others.clear()

    def _schedule(self) -> None:
        if not self.pending:
            return
        if self._handle is not None:
            self._handle.cancel()
        self._handle_at_ms = min(heap[0][0] for heap in (self._starting, self._others) if heap)
        delay_s = max(self._handle_at_ms - self._now_ms(), 0) / 1000
        self._handle = self._call_later(delay_s, self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self.paused:
            self._handle = self._call_later(RELOAD_MS / 1000, self._fire)
            return
        now_ms = self._now_ms()
        is_full = False
        for heap, has_capacity in self._gates:
            if heap and heap[0][0] <= now_ms:
                # Everything that is due would start at once: the world's queue is the table, not our memory.
                if has_capacity():
                    self._submit_due(heap, now_ms)
                else:
                    is_full = True
        if self._cut and self.pending <= HEAP_MAX // 2:
            self._reload.set()
        if is_full:
            self._handle_at_ms = now_ms + int(FULL_WAIT_S * 1000)
            self._handle = self._call_later(FULL_WAIT_S, self._fire)
        else:
            self._schedule()

    def _submit_due(self, heap: list[TimerKey], now_ms: int) -> None:
        last_ms = now_ms
        for _ in range(FIRED_AT_ONCE_MAX):
            if not heap or heap[0][0] > now_ms:
                break
            key = heapq.heappop(heap)
            self._submit(FireTimer(*key))
            last_ms = key[0]
        self._lateness_s((now_ms - last_ms) / 1000)

    def close(self) -> None:
        """Fire nothing more."""
        self._running = False
        self._clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


def _behind(key: TimerKey) -> TimerKey:
    return (*key[:3], key[3] + "\x00")
