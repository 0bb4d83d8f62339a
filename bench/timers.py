"""Sleeping runs: the memory that a million take, and how late they wake at 5,000 wake-ups a second.

    python -m bench.timers [--n 1000000] [--wakes 50000] [--per-second 5000] [--durability fsync]

``--n`` runs go to sleep for an hour; then ``--wakes`` more for a while that ends spread evenly, ``--per-second`` a
second. Lateness is from the recorded time of a sleep's end to the record of its end being durable, in steps of 1 ms;
timer, decision and append are within it. The run goes on and ends within the same load.

Caveats: memory is that of the whole process, bench included, measured before the wakes begin and at its highest after;
pages that RocksDB maps count. The sleepers were injected behind the door. A wake's time is in whole milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

from bench.rig.engine import Engine
from bench.rig.figures import Stopwatch, directory_mb, emit, resident_mb
from bench.rig.functions import NAP
from bench.rig.loop import LOOP, parser, run
from millstream.model.facts import Fact, RunCompleted, SleepEnded, SleepStarted

FAR_S = 3_600
BATCH = 500
AHEAD_MAX = 2_000
LEAD_S = 5.0
SETTLE_S = 15.0


class Sleepers:
    """Counts sleeps begun and ended; remembers when those should end that end soon."""

    def __init__(self) -> None:
        self.begun = self.ended = self.runs_ended = 0
        self.late_s: list[float] = []
        self._wakes_ms: dict[str, int] = {}
        self._awaited = 0
        self._reached = asyncio.Event()

    async def asleep(self, count: int) -> None:
        """Return once at least ``count`` have fallen asleep."""
        self._awaited = count
        self._reached.clear()
        if self.begun < count:
            await self._reached.wait()

    def on_facts(self, facts: Sequence[Fact], at_ms: int) -> None:
        """What the engine tells of every durable record."""
        now_ms = time.time() * 1000
        for fact in facts:
            kind = type(fact)
            if kind is SleepStarted:
                self.begun += 1
                if fact.wake_at_ms < now_ms + FAR_S * 500:  # type: ignore[union-attr]
                    self._wakes_ms[fact.run] = fact.wake_at_ms  # type: ignore[union-attr]
            elif kind is SleepEnded:
                self.ended += 1
                self.late_s.append((now_ms - self._wakes_ms.pop(fact.run)) / 1000)  # type: ignore[union-attr]
            elif kind is RunCompleted:
                self.runs_ended += 1
        if self.begun >= self._awaited:
            self._reached.set()


async def main(given: argparse.Namespace, directory: Path) -> None:
    """Put to sleep, look at memory, wake."""
    pid, sleepers = os.getpid(), Sleepers()
    empty_mb = resident_mb(pid)
    async with Engine(directory, sleepers.on_facts, durability=given.durability) as engine:
        watch = Stopwatch([pid])
        await _asleep(engine, sleepers, [FAR_S] * given.n)
        lap = watch.stop()
        await asyncio.sleep(SETTLE_S)
        emit(
            f"memory with {given.n} sleeping runs",
            resident_mb(pid),
            "MB",
            lap,
            empty_mb=round(empty_mb),
            disk_mb=round(directory_mb(directory)),
            put_to_sleep_per_s=round(given.n / lap.took_s),
            n=given.n,
            runs=given.n,
            durability=given.durability,
            loop=LOOP,
        )
        # They fall asleep slower than they wake: the wave begins once all of them surely sleep.
        lead_s = LEAD_S + given.wakes / 3_000
        first = time.time() + lead_s
        spread = [first + number / given.per_second for number in range(given.wakes)]
        await _asleep_until(engine, sleepers, spread, given.n)
        begun_late = time.time() > first
        await asyncio.sleep(max(0.0, first - time.time() - 0.5))
        watch = Stopwatch([pid])
        highest = 0.0
        while sleepers.ended < given.wakes:
            highest = max(highest, resident_mb(pid))
            await asyncio.sleep(0.25)
        lap = watch.stop()
        emit(
            f"wake lateness at {given.per_second} wake-ups/s among {given.n} sleeping runs",
            given.wakes / (time.time() - first),
            "wakes/s",
            lap,
            latencies_s=sleepers.late_s,
            n=given.wakes,
            runs=given.wakes,
            highest_mb=round(highest),
            begun_late=begun_late,
            durability=given.durability,
            loop=LOOP,
        )


async def _asleep(engine: Engine, sleepers: Sleepers, lengths: Sequence[float]) -> None:
    """Return once a run sleeps for each length."""
    before = sleepers.begun
    for at in range(0, len(lengths), BATCH):
        engine.inject(NAP, [b'{"s":%.3f}' % length for length in lengths[at : at + BATCH]])
        await sleepers.asleep(before + at + BATCH - AHEAD_MAX)
    await sleepers.asleep(before + len(lengths))


async def _asleep_until(engine: Engine, sleepers: Sleepers, times: Sequence[float], before: int) -> None:
    """Return once a run sleeps until each time, as nearly as a length known beforehand can say."""
    for at in range(0, len(times), BATCH):
        now = time.time()
        engine.inject(NAP, [b'{"s":%.3f}' % max(time_ - now, 0.001) for time_ in times[at : at + BATCH]])
        await sleepers.asleep(before + at + BATCH - AHEAD_MAX)
    await sleepers.asleep(before + len(times))


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--n", type=int, default=1_000_000)
    flags.add_argument("--wakes", type=int, default=50_000)
    flags.add_argument("--per-second", type=int, default=5_000)
    flags.add_argument("--durability", default="fsync")
    run(main, flags.parse_args())
