"""One run at a time on Kafka: how long a step takes, and how long an event is on its way to its first step.

    python -m bench.kafka_idle [--runs 300] [--lanes 8] [--copies 1] [--brokers HOST:PORT]

**Per step**: from one step's result being durable to the next one's. **To the first step**: from the event being handed
to a producer, or posted to ``millstream api``, to the beginning of its first step's code; both ways in turns. The step
notes the machine's own clock, which all processes share. Between two runs there is a pause, so that everything is at
rest: this is the latency of an idle group, not its throughput.

Caveats: producing directly means a producer of its own with ``linger.ms`` 0, in this process, with the event made by
our encoder; one that lingers adds that. The worker runs in the measuring process, the api in another; without
``--brokers`` the brokers share the cores with both. What the machine does beside it shows at once, in the p99 first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from confluent_kafka import Producer

from bench.rig.brokers import brokers
from bench.rig.engine import Engine
from bench.rig.figures import Lap, Stopwatch, emit
from bench.rig.functions import STAMPED
from bench.rig.loop import LOOP, parser, run
from bench.rig.posting import Caller, post
from bench.rig.roles import Group, Role
from millstream.model.event import Envelope
from millstream.model.facts import Fact, RunCompleted, RunFailed, StepCompleted
from millstream.model.ids import encode_ulid
from millstream.wire.messages import encode_envelope

WARM_RUNS: Final = 60
PAUSE_S: Final = 0.02
ENDS_WITHIN_S: Final = 60.0


class Alone:
    """The run that is under way: when each of its steps was durable, and when its first one began."""

    def __init__(self) -> None:
        self.durable_s: list[float] = []
        self.began_s = 0.0
        self._over: asyncio.Future[None] | None = None

    def on_facts(self, facts: Sequence[Fact], at_ms: int) -> None:
        """What the engine tells of every durable record."""
        for fact in facts:
            if type(fact) is StepCompleted:
                if not self.durable_s:
                    self.began_s = json.loads(fact.data)
                self.durable_s.append(time.perf_counter())
            elif type(fact) in (RunCompleted, RunFailed) and self._over is not None:
                assert type(fact) is RunCompleted, "a run failed: the figure would mean nothing"
                self._over.set_result(None)
                self._over = None

    def begin(self) -> asyncio.Future[None]:
        """The next run: done when it has ended."""
        self.durable_s.clear()
        self._over = asyncio.get_running_loop().create_future()
        return self._over


class Direct:
    """A producer as any program has one."""

    def __init__(self, servers: str, topic: str, partitions: int) -> None:
        self._producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 0})
        self._topic, self._partitions, self._made = topic, partitions, 0

    def send(self) -> None:
        """One event, to each partition in turn."""
        now_ms = time.time_ns() // 1_000_000
        self._made += 1
        id = encode_ulid(now_ms << 80 | int.from_bytes(os.urandom(9), "big"))
        value = encode_envelope(Envelope(id, id, False, STAMPED, b"{}", now_ms, now_ms))
        self._producer.produce(self._topic, value, partition=self._made % self._partitions)
        self._producer.poll(0)

    def close(self) -> None:
        """Once all is reported."""
        self._producer.flush()


async def main(given: argparse.Namespace, directory: Path) -> None:
    """An engine, an api, and runs one after another."""
    with brokers(given.brokers, directory / "brokers", nodes=given.copies) as (servers, pids):
        group = Group(servers, directory, lanes=given.lanes, copies=given.copies)
        alone = Alone()
        try:
            async with Engine(
                directory / "engine",
                alone.on_facts,
                lanes=given.lanes,
                brokers=servers,
                copies=given.copies,
                group=group.name,
            ) as engine:
                api = await group.api()
                await _measured(given, alone, Direct(servers, engine.events_topic, given.lanes), api, pids)
        finally:
            group.close()


async def _measured(
    given: argparse.Namespace, alone: Alone, direct: Direct, api: Role, broker_pids: Sequence[int]
) -> None:
    caller = await Caller.open(api.url)
    request = post(api.url, "/e/bench", json.dumps({"name": STAMPED, "data": {}}).encode())
    steps: list[float] = []
    ways: dict[str, list[float]] = {"produced directly": [], "posted to millstream api": []}
    watch = Stopwatch([os.getpid(), api.process.pid, *broker_pids])
    for number in range(WARM_RUNS + given.runs):
        if number == WARM_RUNS:
            watch = Stopwatch([os.getpid(), api.process.pid, *broker_pids])
            steps.clear()
            for seen in ways.values():
                seen.clear()
        await asyncio.sleep(PAUSE_S)
        way = tuple(ways)[number % 2]
        over, begun_s = alone.begin(), time.perf_counter()
        if number % 2:
            await caller.ask(request)
        else:
            direct.send()
        await asyncio.wait_for(over, ENDS_WITHIN_S)
        ways[way].append(alone.began_s - begun_s)
        one, two, three = alone.durable_s
        steps += [two - one, three - two]
    caller.close()
    direct.close()
    _tell(given, watch.stop(), {"a step alone, durable to durable": steps} | _named(ways))


def _named(ways: dict[str, list[float]]) -> dict[str, list[float]]:
    return {f"an event {way}, to its first step": seen for way, seen in ways.items()}


def _tell(given: argparse.Namespace, lap: Lap, figures: dict[str, list[float]]) -> None:
    for what, seen in figures.items():
        emit(
            f"{what}, Kafka",
            sorted(seen)[len(seen) // 2] * 1e3,
            "ms",
            lap,
            latencies_s=seen,
            c=1,
            n=len(seen),
            lanes=given.lanes,
            copies=given.copies,
            durability="acks=all",
            loop=LOOP,
        )


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--runs", type=int, default=300)
    flags.add_argument("--lanes", type=int, default=8)
    flags.add_argument("--copies", type=int, default=1, help="of each record; as many brokers are started")
    flags.add_argument("--brokers", default="")
    run(main, flags.parse_args())
