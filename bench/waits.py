"""Waits resolved a second through a whole lane: an event starts a run, it waits, its answer comes, it ends.

    python -m bench.waits [--runs 20000] [--outstanding 256] [--waiting 100000] [--rounds 1] [--profile]

One lane, the embedded log, dedupe on. A closed loop: whenever runs end, as many start events are appended; as soon as a
wait is durable its answer is appended, an event with the same value at the path that the wait names. Measured twice, on
one directory: alone, and beside ``--waiting`` runs that wait for values which never come. Between the two: what those
take in memory and on the disk, rows of the run and its event included.

Caveats: no HTTP, no JSON at a door, no history process. An answer behind its wait is the common case, not the only one:
one that comes before is kept and found, which costs about the same. Injecting costs some 10 µs a wait, and is within.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.rig.engine import Engine
from bench.rig.figures import Stopwatch, directory_mb, emit, resident_mb
from bench.rig.functions import ORDERED, PAID, app
from bench.rig.loop import LOOP, parser, run
from millstream.model.facts import Fact, RunCompleted, RunFailed, StepFailed, WaitStarted
from millstream.model.ids import run_id

SLUG: Final = f"{app.id}-order"
WARM_SHARE: Final = 10
AHEAD_MAX: Final = 2_000
WITHIN_S: Final = 600.0
SETTLE_S: Final = 15.0


class Orders:
    """A load of runs that wait, each answered as soon as it does, or never."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.latencies_s: list[float] = []
        self.waiting = 0
        self.is_answering = True
        self._numbers: dict[str, tuple[int, float]] = {}
        self._made = self._ended = self._to_begin = self._left = 0
        self._answers: list[bytes] = []
        self._is_scheduled = False
        self._moved = asyncio.Event()

    def on_facts(self, facts: Sequence[Fact], at_ms: int) -> None:
        """What the engine tells of every durable record."""
        for fact in facts:
            if isinstance(fact, WaitStarted):
                self.waiting += 1
                if self.is_answering:
                    self._answers.append(b'{"n":%d}' % self._numbers[fact.run][0])
            elif isinstance(fact, RunCompleted):
                self.latencies_s.append(time.perf_counter() - self._numbers.pop(fact.run)[1])
                self._ended += 1
                self._to_begin += 1
            elif isinstance(fact, StepFailed | RunFailed):
                raise RuntimeError(f"{fact}: the figure would mean nothing.")
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._follow)

    def _follow(self) -> None:
        self._is_scheduled = False
        answers, self._answers = self._answers, []
        if answers:
            assert self.engine is not None
            self.engine.inject(PAID, answers)
        count, self._to_begin = min(self._to_begin, self._left), 0
        self._left -= count
        if count:
            self.begin(count)
        self._moved.set()

    def begin(self, count: int) -> None:
        """Start so many runs, each with a number of its own."""
        assert self.engine is not None
        begun, first = time.perf_counter(), self._made
        self._made += count
        made = self.engine.inject(ORDERED, [b'{"n":%d}' % n for n in range(first, first + count)])
        for number, (internal, at_ms, _) in enumerate(made, first):
            self._numbers[run_id(at_ms, internal, SLUG, "", lane=0, lanes=1)] = (number, begun)

    async def answered(self, runs: int, outstanding: int) -> None:
        """Start ``runs`` runs, so many at once; return once all have ended."""
        self.is_answering = True
        self.latencies_s.clear()
        self._ended, self._left = 0, max(runs - outstanding, 0)
        self.begin(min(runs, outstanding))
        await self._until(lambda: self._ended >= runs)

    async def unanswered(self, runs: int) -> None:
        """Start ``runs`` runs; return once all of them wait."""
        self.is_answering, self.waiting = False, 0
        begun = 0
        while begun < runs:
            count = min(AHEAD_MAX // 4, runs - begun)
            self.begin(count)
            begun += count
            self._numbers.clear()
            await self._waiting(begun - AHEAD_MAX)
        await self._waiting(runs)

    async def _waiting(self, runs: int) -> None:
        await self._until(lambda: self.waiting >= runs)

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not reached():
                self._moved.clear()
                await self._moved.wait()


async def main(given: argparse.Namespace, directory: Path) -> None:
    """The rounds."""
    for number in range(given.rounds):
        at = directory / str(number)
        at.mkdir()
        await _round(given, at)


async def _round(given: argparse.Namespace, directory: Path) -> None:
    pid, orders = os.getpid(), Orders()
    async with Engine(directory, orders.on_facts, durability=given.durability) as engine:
        orders.engine = engine
        await orders.answered(max(given.runs // WARM_SHARE, given.outstanding), given.outstanding)
        await _answered(given, orders, beside=0)
        if not given.waiting:
            return
        gc.collect()
        before_mb, before_disk_mb = resident_mb(pid), directory_mb(directory)
        watch = Stopwatch([pid])
        await orders.unanswered(given.waiting)
        lap = watch.stop()
        await asyncio.sleep(SETTLE_S)
        emit(
            f"memory with {given.waiting} waiting runs",
            resident_mb(pid),
            "MB",
            lap,
            more_mb=round(resident_mb(pid) - before_mb),
            more_disk_mb=round(directory_mb(directory) - before_disk_mb),
            put_to_wait_per_s=round(given.waiting / lap.took_s),
            n=given.waiting,
            runs=given.waiting,
            durability=given.durability,
            loop=LOOP,
        )
        await _answered(given, orders, beside=given.waiting)


async def _answered(given: argparse.Namespace, orders: Orders, *, beside: int) -> None:
    watch = Stopwatch([os.getpid()])
    await orders.answered(given.runs, given.outstanding)
    lap = watch.stop()
    emit(
        f"waits resolved, beside {beside} that are not",
        given.runs / lap.took_s,
        "waits/s",
        lap,
        latencies_s=orders.latencies_s,
        c=given.outstanding,
        n=given.runs,
        runs=given.runs,
        durability=given.durability,
        loop=LOOP,
    )


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--runs", type=int, default=20_000)
    flags.add_argument("--outstanding", type=int, default=256)
    flags.add_argument("--waiting", type=int, default=100_000)
    flags.add_argument("--rounds", type=int, default=1)
    flags.add_argument("--durability", default="fsync")
    run(main, flags.parse_args())
