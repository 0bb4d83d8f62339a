"""A worker that stops in good order gives back what it could not finish: nothing counts as lost with a dead worker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from millstream import App, Context
from millstream.log.memory.log import MemoryLog
from millstream.log.port import Produced
from millstream.model import limits
from millstream.model.event import Envelope
from millstream.model.facts import DispatchLost, Fact, RunCompleted, RunFailed
from millstream.model.ids import ulid
from millstream.state.memory import MemoryDisk, MemoryStore
from millstream.wire.messages import encode_envelope
from millstream.worker.parts import WorkerParts
from millstream.worker.worker import Worker

NOW_MS = 1_795_323_198_051


async def test_a_step_under_way_survives_more_stops_than_it_may_be_lost() -> None:
    app = App("shop")
    begun, may_end, over = asyncio.Event(), asyncio.Event(), asyncio.Event()
    facts: list[Fact] = []

    def listen(new: Sequence[Fact], at_ms: int) -> None:
        facts.extend(new)
        if any(isinstance(fact, RunCompleted | RunFailed) for fact in new):
            over.set()

    async def long() -> str:
        begun.set()
        await may_end.wait()
        return "done"

    @app.function(on="shop/go")
    async def go(ctx: Context) -> str:
        return await ctx.step.run("long", long)

    log, disk = MemoryLog(), MemoryDisk()
    parts = WorkerParts(
        log=log,
        group="shop",
        lanes=1,
        apps=[app],
        make_store=lambda lane: MemoryStore(disk),
        on_facts=listen,
    )
    worker = Worker(parts)
    await worker.start()
    id = ulid(NOW_MS, bytes(10))
    event = Envelope(id, id, False, "shop/go", b"{}", NOW_MS, NOW_MS)
    await log.writer("events", 0).append([Produced(encode_envelope(event))])
    for _ in range(limits.DISPATCHES_LOST_MAX + 2):
        await asyncio.wait_for(begun.wait(), 10)
        begun.clear()
        await worker.stop(grace_s=0.01)
        worker = Worker(parts)
        await worker.start()
    await asyncio.wait_for(begun.wait(), 10)
    may_end.set()
    await asyncio.wait_for(over.wait(), 10)
    await worker.stop(grace_s=1)
    assert [fact for fact in facts if isinstance(fact, DispatchLost)] == []
    assert [fact.result for fact in facts if isinstance(fact, RunCompleted)] == [b'"done"']
