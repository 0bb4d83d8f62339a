"""A lane's core matches events with waits of one event name: the claim that a match does not grow with the waits.

    python -m bench.matching [--n 1000000] [--events 50000] [--unmatched 10000] [--profile]

One lane's tables over RocksDB; no log, no loop of a lane, no functions. ``--n`` steps wait for events of one name, each
with a value of its own (an equality: ``match`` or ``if_``); rows go to RocksDB as a lane sends them there, in batches.
Then come ``--events`` events, each for one of the waits, picked at random: first *decided* only, then *settled*, that
is, decided, folded, promoted and flushed. Beside it: what a wait costs in memory before its row is flushed, and then on
the disk. Last, ``--unmatched`` waits of another name that ask for no equal value; what an event costs for each of them.

Caveats: the waits have no runs. What a wait leads to in its run's lane (its step's result, the body's next dispatch),
and the rows that every run has, are not in it: that is ``waits``. Rows found are in the store, few in its cache.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bench.rig.figures import Stopwatch, directory_mb, emit, resident_mb
from bench.rig.loop import parser, run
from millstream.core.decide import decide
from millstream.core.settle import settle
from millstream.lane.settings import LaneSettings
from millstream.model.commands import AwaitEvent, Command, EventsSought, FireTimer, TakeEvent
from millstream.model.event import Envelope
from millstream.model.facts import Fact, WaiterGone
from millstream.model.ids import encode_ulid
from millstream.model.limits import UNMATCHED_WAITS_MAX
from millstream.model.place import Place
from millstream.model.waits.awaited import place_of
from millstream.roles.process import tune_process
from millstream.state.marker import Marker
from millstream.state.rocksdb import RocksBudget, RocksStore
from millstream.state.tables import LaneTables

PAID: Final = "bench/paid"
SAID: Final = "bench/said"
PATH: Final = "data.order_id"
EXPRESSION: Final = "async.data.amount > event.data.amount"
PER_TURN: Final = 500
IN_MEMORY: Final = 100_000
"""Waits whose rows are measured before any is flushed."""


class Home:
    """The tables of a lane, and what its turns do with them."""

    def __init__(self, directory: Path) -> None:
        self.tables = LaneTables(Place("bench", 0, 1), RocksStore(directory / "state", RocksBudget()))
        self.now_ms = time.time_ns() // 1_000_000
        self.flushes = True
        self._turns = 0

    async def take(self, commands: Iterable[Command]) -> list[Fact]:
        """Settle commands in turns; the facts that tell of waits gone."""
        gone: list[Fact] = []
        for number, command in enumerate(commands, 1):
            facts, _ = settle(self.tables, command, self.now_ms)
            gone += [fact for fact in facts if type(fact) is WaiterGone]
            if number % PER_TURN == 0:
                await self.turn()
        await self.turn()
        return gone

    async def turn(self) -> None:
        """What was folded is acknowledged; rows go to the store when there are enough."""
        self._turns += 1
        self.tables.promote()
        if self.flushes and self.tables.overlay_rows >= LaneSettings().flush_rows:
            await self.flush()

    async def flush(self) -> None:
        """They go now."""
        await self.tables.flush(Marker(self.tables.journal, self._turns, b"bench", self._turns))


def number_run(number: int) -> str:
    """The run that waits for this order."""
    return encode_ulid(1 << 100 | number * 0x9E3779B97F4A7C15 % (1 << 64))


def waits(numbers: Iterable[int], since_ms: int) -> Iterable[AwaitEvent]:
    """Each for an order of its own."""
    for n in numbers:
        place = place_of(PAID, PATH, f"s{n}")
        yield AwaitEvent(number_run(n), "paid", 0, place, PAID, PATH, since_ms, "", b"", b"8 bytes.")


def answers(numbers: Iterable[int], now_ms: int) -> list[TakeEvent]:
    """The events they wait for."""
    return [
        TakeEvent(event(PAID, n, b'{"order_id":"%d"}' % n, now_ms), (place_of(PAID, PATH, f"s{n}"),)) for n in numbers
    ]


def event(name: str, number: int, data: bytes, now_ms: int) -> Envelope:
    """One that was received now."""
    id = encode_ulid(now_ms << 80 | number)
    return Envelope(id, id, False, name, data, now_ms, now_ms)


async def main(given: argparse.Namespace, directory: Path) -> None:
    """The waits, their events, and those without an equality."""
    tune_process()
    home = Home(directory)
    await _waiting(given, home, directory)
    await _matching(given, home)
    await _unmatched(given, home)


async def _waiting(given: argparse.Namespace, home: Home, directory: Path) -> None:
    """All waits begin; what they cost in memory unflushed, and on the disk."""
    pid, in_memory = os.getpid(), min(IN_MEMORY, given.n)
    gc.collect()
    empty_mb = resident_mb(pid)
    home.flushes = False
    watch = Stopwatch([pid])
    await home.take(waits(range(in_memory), home.now_ms))
    unflushed_mb = resident_mb(pid)
    home.flushes = True
    await home.take([EventsSought(PAID, PATH, 0, 1)])
    await home.take(waits(range(in_memory, given.n), home.now_ms))
    await home.flush()
    lap = watch.stop()
    gc.collect()
    flushed_mb = resident_mb(pid)
    emit(
        f"{given.n} waits of one event name begin",
        given.n / lap.took_s,
        "waits/s",
        lap,
        n=given.n,
        empty_mb=round(empty_mb),
        bytes_a_wait_unflushed=round((unflushed_mb - empty_mb) * 1e6 / in_memory),
        flushed_mb=round(flushed_mb),
        bytes_a_wait_flushed=round((flushed_mb - empty_mb) * 1e6 / given.n),
        disk_bytes_a_wait=round(directory_mb(directory) * 1e6 / given.n),
    )


async def _matching(given: argparse.Namespace, home: Home) -> None:
    """Events come, each for one of the waits."""
    coming = answers(random.Random(1).sample(range(given.n), min(given.events, given.n)), home.now_ms)
    watch = Stopwatch([os.getpid()])
    for command in coming:
        decide(home.tables, command, home.now_ms)
    lap = watch.stop()
    what = f"events met by one of {given.n} waits"
    emit(f"{what}: decided", len(coming) / lap.took_s, "events/s", lap, n=len(coming), runs=len(coming))
    watch = Stopwatch([os.getpid()])
    gone = await home.take(coming)
    lap = watch.stop()
    if len(gone) != len(coming):
        raise RuntimeError(f"{len(gone)} waits were met by {len(coming)} events: the figure would mean nothing.")
    emit(f"{what}: settled and flushed", len(coming) / lap.took_s, "events/s", lap, n=len(coming), runs=len(coming))


async def _unmatched(given: argparse.Namespace, home: Home) -> None:
    """Events that every one of the waits without an equality looks at: half of them take it."""
    count = min(given.unmatched, UNMATCHED_WAITS_MAX)
    place = place_of(SAID, "", "")
    since_ms = home.now_ms
    await home.take(
        AwaitEvent(number_run(n), "said", 0, place, SAID, "", since_ms, EXPRESSION, b'{"data":{"amount":%d}}' % n, b"")
        for n in range(count)
    )
    await home.take([EventsSought(SAID, "", 0, 1)])
    await home.flush()
    watch, looked = Stopwatch([os.getpid()]), 0
    for amount in (0, count // 2):  # Nobody takes the first; half of them take the second.
        coming = TakeEvent(event(SAID, amount + 1, b'{"amount":%d}' % amount, home.now_ms), (place,))
        gone, looked = await home.take([coming]), looked + count
        while (page := home.tables.timers.scan(limit=1)) and page[0][1].kind == "match":
            (at_ms, kind, id, step), _ = page[0]
            gone += await home.take([FireTimer(at_ms, kind, id, step)])
        if len(gone) != amount:
            raise RuntimeError(f"{len(gone)} waits took the event, expected {amount}")
    lap = watch.stop()
    emit(
        f"an event among {count} waits without an equality, for each of them",
        lap.took_s / looked * 1e6,
        "µs",
        lap,
        n=looked,
    )


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--n", type=int, default=1_000_000)
    flags.add_argument("--events", type=int, default=50_000)
    flags.add_argument("--unmatched", type=int, default=UNMATCHED_WAITS_MAX)
    run(main, flags.parse_args())
