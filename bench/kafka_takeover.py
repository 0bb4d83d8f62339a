"""Seconds that lanes have no owner when their worker is killed or stopped, with a measured amount to restore.

    python -m bench.kafka_takeover [--runs 20000] [--times 3] [--lanes 8] [--copies 1] [--brokers HOST:PORT]

A worker fills its lanes with runs that sleep for hours. A second one, the measuring process, joins and gets half of the
lanes; then the first one goes, and the clock runs until **every lane is live** here. Killed: SIGKILL; the group's
session timeout, stated as ``session_s``, is within the figure and taken off in ``beyond_session_s``. Left: SIGTERM.
Then it starts again on its directory, and once more. While it leaves, events are posted to ``millstream api`` one after
another; ``failed_requests`` is how many were not answered with 200. ``facts`` and ``rows`` are what the lanes that came
here folded and read; ``allowed_s`` is the session (killed only) + 1 s + 20 µs for each of them.

Caveats: the topics are in the brokers' page cache. The data directory of this process is kept between the times, as
a user's is, so a lane that was here before reads little; ``--fresh`` starts on an empty one each time. Half of the
lanes move. Sleeping runs owe nothing when they are taken over.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final

from confluent_kafka import Producer

from bench.rig.brokers import brokers
from bench.rig.engine import Engine
from bench.rig.figures import Stopwatch, emit
from bench.rig.functions import NAP, THREE
from bench.rig.log_lines import LogLines
from bench.rig.loop import LOOP, parser, run
from bench.rig.posting import Caller, post
from bench.rig.roles import SESSION_S, Group, Role
from millstream.model.event import Envelope
from millstream.model.ids import encode_ulid
from millstream.wire.messages import encode_envelope

LOOK_S: Final = 0.002
WITHIN_S: Final = 120.0
REST_S: Final = 3.0
"""For the group to settle, and for what was asleep to be checkpointed or not."""
EACH_S: Final = 20e-6
PAUSE_S: Final = 0.01
GOER: Final = "goes"
KILLED: Final = "was killed"
LEFT: Final = "left in order"


async def main(given: argparse.Namespace, directory: Path) -> None:
    """Fill, then let the first worker go again and again."""
    with brokers(given.brokers, directory / "brokers", nodes=given.copies) as (servers, _):
        group = Group(servers, directory, lanes=given.lanes, copies=given.copies)
        try:
            goer = await group.worker(GOER)
            await _fill(servers, f"{group.name}-events", goer, given)
            api = await group.api()
            for number in range(given.times):
                for how in (KILLED, LEFT):
                    engine = Engine(
                        directory / (f"here{number}{how[0]}" if given.fresh else "here"),
                        lambda facts, at_ms: None,
                        lanes=given.lanes,
                        brokers=servers,
                        copies=given.copies,
                        group=group.name,
                    )
                    goer = await _once(given, group, engine, (goer, api), how)
        finally:
            group.close()


async def _once(given: argparse.Namespace, group: Group, engine: Engine, roles: tuple[Role, Role], how: str) -> Role:
    """One going; the worker that goes next time."""
    goer, api = roles
    async with engine:
        await _until(lambda: _live(engine) == given.lanes // 2)
        await asyncio.sleep(REST_S)
        door = Door(api)
        with LogLines() as log_lines:
            watch, begun_s = Stopwatch([os.getpid()]), time.perf_counter()
            if how == KILLED:
                goer.kill()
            else:
                posting = asyncio.create_task(door.post())
                goer.terminate()
            await _until(lambda: _live(engine) == given.lanes)
            took_s, lap = time.perf_counter() - begun_s, watch.stop()
        if how == LEFT:
            door.over = True
            await posting
        session_s = SESSION_S if how == KILLED else 0
        facts, rows = log_lines.total("lane restored", "facts"), log_lines.total("lane restored", "rows")
        emit(
            f"lanes live elsewhere after their worker {how}, Kafka",
            took_s,
            "s",
            lap,
            beyond_session_s=round(took_s - session_s, 2),
            session_s=session_s or None,
            allowed_s=round(session_s + 1 + (facts + rows) * EACH_S, 2) if how == KILLED else 2.0,
            facts=facts,
            rows=rows,
            lanes_moved=given.lanes // 2,
            requests=door.asked or None,
            failed_requests=door.failed if how == LEFT else None,
            slowest_request_ms=round(door.slowest_s * 1e3) or None,
            n=given.runs,
            copies=given.copies,
            loop=LOOP,
        )
        await asyncio.to_thread(goer.process.wait, WITHIN_S)
        return await group.worker(GOER)


class Door:
    """Posts three-step events to an api, one after another, until it is ``over``."""

    def __init__(self, api: Role) -> None:
        self.over = False
        self.asked = self.failed = 0
        self.slowest_s = 0.0
        self._url = api.url

    async def post(self) -> None:
        """Until then."""
        caller = await Caller.open(self._url)
        request = post(self._url, "/e/bench", json.dumps({"name": THREE, "data": {"n": 1}}).encode())
        while not self.over:
            self.asked += 1
            begun_s = time.perf_counter()
            try:
                await caller.ask(request)
            except RuntimeError:
                self.failed += 1
            self.slowest_s = max(self.slowest_s, time.perf_counter() - begun_s)
            await asyncio.sleep(PAUSE_S)
        caller.close()


def _live(engine: Engine) -> int:
    return sum(lane.live for lane in engine.worker.lanes.values())


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)


async def _fill(servers: str, topic: str, worker: Role, given: argparse.Namespace) -> None:
    """Return once all runs sleep."""
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True})
    now_ms = time.time_ns() // 1_000_000
    for number in range(given.runs):
        id = encode_ulid(now_ms << 80 | number)
        value = encode_envelope(Envelope(id, id, False, NAP, b'{"s":36000}', now_ms, now_ms))
        producer.produce(topic, value, partition=number % given.lanes)
        producer.poll(0)
    await asyncio.to_thread(producer.flush)
    async with asyncio.timeout(WITHIN_S):
        while await asyncio.to_thread(_started, worker.url) < given.runs:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    await asyncio.sleep(REST_S)  # The last ones started have yet to fall asleep.


def _started(url: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("millstream_runs_started_total{"))


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--runs", type=int, default=20_000)
    flags.add_argument("--times", type=int, default=3)
    flags.add_argument("--lanes", type=int, default=8)
    flags.add_argument("--copies", type=int, default=1, help="of each record; as many brokers are started")
    flags.add_argument("--fresh", action="store_true", help="this process has an empty directory each time")
    flags.add_argument("--brokers", default="")
    run(main, flags.parse_args())
