"""Events taken in over HTTP that no function subscribes to: posts of 100, and single ones.

    python -m bench.intake [--seconds 8] [--durability fsync]

Every post is answered after its events are durable. The server is the dev composition in a process of its own with
the history beside it; the lane reads the events and finds nothing to start.

Caveats: generator, server and history share the cores: read ``generator_cores``. Posts of 100 on 16 connections,
single ones on 64; one post under way a connection; the same body every time, without ids of the client's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from pathlib import Path

from bench.rig.figures import Stopwatch, emit
from bench.rig.functions import NOBODY
from bench.rig.loop import LOOP, parser, run
from bench.rig.posting import Connection, connect, post
from bench.rig.served import Server

WARM_S = 1.0
DATA = {"order": 4711, "amount": 99.5, "customer": "c-1234567890"}


class Load:
    """Posts as fast as the door answers, one under way on each connection."""

    def __init__(self, request: bytes) -> None:
        self.took_s: list[float] = []
        self.refused = 0
        self.stopping = False
        self._request = request

    def answered(self, connection: Connection, status: int, body: bytes, took_s: float) -> None:
        """A post was answered: the next."""
        self.refused += status != 200
        self.took_s.append(took_s)
        if self.stopping:
            connection.close()
        else:
            connection.send(self._request)


async def main(given: argparse.Namespace, directory: Path) -> None:
    """One server for each size of post."""
    for events, connections in ((100, 16), (1, 64)):
        server = Server(directory / str(events), durability=given.durability)
        await server.start()
        try:
            await _measured(given, server, events, connections)
        finally:
            server.stop()


async def _measured(given: argparse.Namespace, server: Server, events: int, connections: int) -> None:
    body = json.dumps([{"name": NOBODY, "data": DATA}] * events, separators=(",", ":")).encode()
    request = post(server.url, "/e/bench", body)
    load = Load(request)
    made = [await connect(server.url, load.answered) for _ in range(connections)]
    for connection in made:
        connection.send(request)
    await asyncio.sleep(WARM_S)
    load.took_s.clear()
    watch = Stopwatch(server.pids, [os.getpid()])
    await asyncio.sleep(given.seconds)
    lap, took_s = watch.stop(), list(load.took_s)
    load.stopping = True
    await asyncio.wait([connection.closed for connection in made], timeout=10)
    emit(
        f"events over HTTP that start nothing, {events} a post",
        len(took_s) * events / lap.took_s,
        "events/s",
        lap,
        posts_per_s=round(len(took_s) / lap.took_s),
        latencies_s=took_s,
        c=connections,
        n=len(took_s) * events,
        refused=load.refused,
        server_cores=round(lap.cpu_s[0] / lap.took_s, 2),
        history_cores=round(sum(lap.cpu_s[1:]) / lap.took_s, 2),
        durability=given.durability,
        loop=LOOP,
    )


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--seconds", type=float, default=8.0)
    flags.add_argument("--durability", default="fsync")
    run(main, flags.parse_args())
