"""Three-step runs a second with their events posted over HTTP, 100 a post: the claim of the whole server.

    python -m bench.runs_http [--runs 50000] [--outstanding 256 1000] [--events 100] [--rounds 2]

The server is the dev composition in a process of its own, history beside it; the generator is this process. A closed
loop: a post goes out whenever ``--events`` runs have ended, so that about ``--outstanding`` are open. (With fewer than
``--events`` × 2 that means one post at a time.) The server reports ends through a pipe, when their record is durable.

Caveats: generator, server and history share the cores: read ``generator_cores``. ``cpu_s_per_1000_runs`` is of
server and history together, without the generator. Latencies are from the post to the end's record being durable.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from bench.rig.figures import Stopwatch, emit
from bench.rig.functions import THREE
from bench.rig.loop import LOOP, parser, run
from bench.rig.posting import Connection, connect, post
from bench.rig.served import Server


class Poster:
    """The closed loop over HTTP. Ends are matched to posts in order, which is right on average and for percentiles."""

    def __init__(
        self, url: str, watch_ends: Callable[[Callable[[int, float], None]], None], load: tuple[int, int], event: str
    ) -> None:
        """``watch_ends`` tells how many runs have ended, and when; ``load`` is events a post, runs outstanding."""
        self.latencies_s: list[float] = []
        self.refused = 0
        self._events, self._outstanding = load
        self._begun: deque[tuple[int, float]] = deque()  # (runs not ended yet, time of their post)
        self.ended = self._open = self._left = self._wanted = 0
        self._over = asyncio.Event()
        self._free: list[Connection] = []
        body = json.dumps([{"name": event, "data": {"n": 1}}] * self._events)
        self._request = post(url, "/e/bench", body.encode())
        watch_ends(self._on_ends)

    async def open(self, url: str) -> None:
        """Connect as often as posts can be under way."""
        count = max(1, self._outstanding // self._events)
        self._free = [await connect(url, self._answered) for _ in range(count)]

    async def run(self, runs: int, within_s: float = 300.0) -> None:
        """Post until ``runs`` runs have ended."""
        self.latencies_s.clear()
        self._over.clear()
        self.ended, self._wanted, self._left = 0, runs, runs
        self._more()
        await asyncio.wait_for(self._over.wait(), within_s)
        if self.refused:
            raise RuntimeError(f"{self.refused} posts were refused: the figure would mean nothing.")

    def close(self) -> None:
        """Hang up."""
        for connection in self._free:
            connection.close()

    def _more(self) -> None:
        while self._left > 0 and self._free and self._open + self._events <= max(self._outstanding, self._events):
            self._left -= self._events
            self._open += self._events
            self._begun.append((self._events, time.perf_counter()))
            self._free.pop().send(self._request)

    def _answered(self, connection: Connection, status: int, body: bytes, took_s: float) -> None:
        self._free.append(connection)
        self.refused += status != 200
        self._more()

    def _on_ends(self, count: int, at_s: float) -> None:
        self.ended += count
        self._open -= count
        while count and self._begun:
            left, begun = self._begun[0]
            if left > count:
                self._begun[0] = (left - count, begun)
                break
            count -= left
            self._begun.popleft()
            self.latencies_s.append(at_s - begun)
        if self.ended >= self._wanted:
            self._over.set()
        self._more()


async def main(given: argparse.Namespace, directory: Path) -> None:
    """The rounds."""
    for number in range(given.rounds):
        for outstanding in given.outstanding:
            await _round(given, directory / f"{outstanding}-{number}", outstanding)


async def _round(given: argparse.Namespace, directory: Path, outstanding: int) -> None:
    server = Server(directory, durability=given.durability)
    await server.start()
    try:
        poster = Poster(server.url, server.watch_ends, (given.events, outstanding), THREE)
        await poster.open(server.url)
        runs = given.runs // given.events * given.events
        await poster.run(runs // 10 // given.events * given.events)
        watch = Stopwatch(server.pids, [os.getpid()])
        await poster.run(runs)
        lap = watch.stop()
        poster.close()
        emit(
            f"three-step runs, events posted over HTTP, {given.events} a post",
            runs / lap.took_s,
            "runs/s",
            lap,
            latencies_s=poster.latencies_s,
            c=outstanding,
            n=runs,
            runs=runs,
            server_cores=round(lap.cpu_s[0] / lap.took_s, 2),
            history_cores=round(sum(lap.cpu_s[1:]) / lap.took_s, 2),
            durability=given.durability,
            loop=LOOP,
        )
    finally:
        server.stop()


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--runs", type=int, default=50_000)
    flags.add_argument("--outstanding", type=int, nargs="+", default=[256, 1_000])
    flags.add_argument("--events", type=int, default=100)
    flags.add_argument("--rounds", type=int, default=2)
    flags.add_argument("--durability", default="fsync")
    run(main, flags.parse_args())
