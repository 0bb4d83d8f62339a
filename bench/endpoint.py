"""Apps over HTTP: three-step runs a second against an app in node that answers at once, and what a step costs.

    python -m bench.endpoint [--runs 20000] [--alone 300] [--apps bare sdk] [--executors 0] [--rounds 2] [--kafka]

The server is the dev composition in a process of its own (with ``--kafka`` a ``millstream server`` on a broker that is
started for it, one copy), the app another: the unmodified SDK over node http (``sdk``), and a program that speaks the
protocol by hand (``bare``), so that our cost can be told from the SDK's. A run of three steps is four calls.

*Under load*: a closed loop of ``--outstanding`` open runs, whose events are posted 100 a post. Of CPU time
each call takes ``server_us_per_call`` in the server's process, ``app_us_per_call`` in node, ``others_us_per_call`` in
the history's and in executor processes.

*Alone*: one run at a time. ``first call`` is from the post of its event to the first call's arrival at the app;
``overhead`` from the app's answer to its next call's arrival, both by the app's clock; ``run`` from the post to the
end's record being durable (on Kafka: to the answer of the last call).

Caveats: app, server, history and generator share the cores (on Kafka the broker, too). The app's own stamps cost it a
microsecond or two a call. ``app`` under ``sdk`` is what bounds the runs a second on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench.rig.brokers import brokers
from bench.rig.disk import Disk
from bench.rig.endpoint_app import EVENT, KINDS, EndpointApp
from bench.rig.figures import Stopwatch, children_of, emit, percentile
from bench.rig.loop import LOOP, parser, run
from bench.rig.posting import Caller, post
from bench.rig.roles import Group
from bench.rig.served import Server
from bench.runs_http import Poster

CALLS_A_RUN = 4
EVENTS_A_POST = 100
WARM_SHARE = 10
WARM_ALONE = 30
PAUSE_S = 0.005
OnEnds = Callable[[int, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """A server and an app that is registered with it. ``pids`` of the server and what it has started, itself first."""

    url: str
    pids: Sequence[int]
    app: EndpointApp
    watch_ends: Callable[[OnEnds], None]
    data: Path
    stated: dict[str, object]


async def main(given: argparse.Namespace, directory: Path) -> None:
    """The rounds."""
    for number in range(given.rounds):
        for kind in given.apps:
            for executors in given.executors:
                place = directory / f"{number}-{kind}-{executors}"
                place.mkdir()
                async with AsyncExitStack() as stack:
                    app = EndpointApp(kind)
                    stack.callback(app.close)
                    stood = _on_kafka if given.kafka else _embedded
                    stand = await stood(given, place, app, executors, stack)
                    if given.alone:
                        await _alone(given, stand)
                    if given.runs:
                        await _under_load(given, stand)


async def _embedded(
    given: argparse.Namespace, place: Path, app: EndpointApp, executors: int, stack: AsyncExitStack
) -> Stand:
    profile = given.server_profile
    server = Server(place / "data", durability=given.durability, executors=executors, profile=profile)
    await server.start()
    stack.callback(server.stop)
    await app.start(server.url)
    app.drain_ends()
    stated = {"app": app.kind, "executors": executors, "durability": given.durability, "loop": LOOP}
    return Stand(
        url=server.url, pids=server.pids, app=app, watch_ends=server.watch_ends, data=server.data, stated=stated
    )


async def _on_kafka(
    given: argparse.Namespace, place: Path, app: EndpointApp, executors: int, stack: AsyncExitStack
) -> Stand:
    servers, pids = stack.enter_context(brokers(given.brokers, place / "brokers"))
    group = Group(servers, place, lanes=given.lanes, copies=1)
    stack.callback(group.close)
    more = ["--executors", str(executors)] if executors else []
    role = await group.server(app.url, *more)
    await app.start(role.url)
    stated = {"app": app.kind, "executors": executors, "durability": "kafka", "lanes": given.lanes, "loop": LOOP}
    started = [role.process.pid, *children_of(role.process.pid), *pids]
    return Stand(url=role.url, pids=started, app=app, watch_ends=app.watch_ends, data=place, stated=stated)


async def _under_load(given: argparse.Namespace, stand: Stand) -> None:
    poster = Poster(stand.url, stand.watch_ends, (EVENTS_A_POST, given.outstanding), EVENT)
    await poster.open(stand.url)
    runs = given.runs // EVENTS_A_POST * EVENTS_A_POST
    await poster.run(max(runs // WARM_SHARE // EVENTS_A_POST, 1) * EVENTS_A_POST)
    stand.app.times()
    watch = Stopwatch([*stand.pids, stand.app.pid], [os.getpid()])
    await poster.run(runs)
    lap = watch.stop()
    poster.close()
    calls = runs * CALLS_A_RUN
    server_s, *others_s, app_s = lap.cpu_s
    emit(
        "three-step runs of an app over HTTP",
        runs / lap.took_s,
        "runs/s",
        lap,
        calls_per_s=round(calls / lap.took_s),
        server_us_per_call=round(server_s / calls * 1e6),
        others_us_per_call=round(sum(others_s) / calls * 1e6),
        app_us_per_call=round(app_s / calls * 1e6),
        latencies_s=poster.latencies_s,
        c=given.outstanding,
        n=runs,
        **stand.stated,
    )


async def _alone(given: argparse.Namespace, stand: Stand) -> None:
    disk, caller = Disk(stand.data), await Caller.open(stand.url)
    request = post(stand.url, "/e/bench", json.dumps({"name": EVENT, "data": {"n": 1}}).encode())
    ended: asyncio.Queue[float] = asyncio.Queue()
    stand.watch_ends(lambda count, at_s: ended.put_nowait(at_s))
    first: list[float] = []
    between: list[float] = []
    whole: list[float] = []
    watch = Stopwatch()
    for number in range(WARM_ALONE + given.alone):
        if number == WARM_ALONE:
            watch = Stopwatch([*stand.pids, stand.app.pid], [os.getpid()])
            disk.took_s.clear()
        disk.sync()
        await asyncio.sleep(PAUSE_S)
        begun = time.perf_counter()
        await caller.ask(request)
        at_s = await ended.get()
        ((calls),) = stand.app.times().values()
        if number >= WARM_ALONE:
            whole.append(at_s - begun)
            first.append(calls[0][0] - begun)
            between += [after[0] - before[1] for before, after in pairwise(calls)]
    lap = watch.stop()
    caller.close()
    disk.close()
    fdatasync_ms = round(percentile(sorted(disk.took_s), 0.5) * 1e3, 3)
    for what, seen in (
        ("an app's answer to its next call (overhead of a step)", between),
        ("the post of an event to the first call", first),
        ("the post of an event to the end of its run", whole),
    ):
        stated = stand.stated | {"n": len(seen), "fdatasync_p50_ms": fdatasync_ms, "c": 1}
        emit(f"alone: {what}", percentile(sorted(seen), 0.5) * 1e3, "ms", lap, latencies_s=seen, **stated)


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--runs", type=int, default=20_000)
    flags.add_argument("--alone", type=int, default=300)
    flags.add_argument("--outstanding", type=int, default=256)
    flags.add_argument("--apps", nargs="+", choices=KINDS, default=list(KINDS))
    flags.add_argument("--executors", type=int, nargs="+", default=[0])
    flags.add_argument("--rounds", type=int, default=2)
    flags.add_argument("--durability", default="fsync")
    flags.add_argument("--kafka", action="store_true")
    flags.add_argument("--brokers", default="", help="with --kafka: those in place of one that is started")
    flags.add_argument("--lanes", type=int, default=1, help="with --kafka")
    flags.add_argument("--server-profile", default="", help="a file for the profile of the server's loop")
    run(main, flags.parse_args())
