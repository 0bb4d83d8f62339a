"""``worker/worker.py``: a lane comes back however long it was away, and none ends without a word."""

from __future__ import annotations

import asyncio

import pytest

from millstream.errors import InternalError, LogUnavailable
from millstream.log.memory.log import MemoryCluster
from millstream.log.port import Log
from millstream.sdk.app import App
from millstream.state.memory import MemoryStore
from millstream.state.store import Store
from millstream.worker.parts import WorkerParts
from millstream.worker.worker import AGAIN_S_MAX, Worker
from tests.lane.rig import Here, until

OUTAGES = 3_000
"""Failures in a row: at one every 5 s, a night without brokers."""


def worker_on(log: Log, here: Here, failures: list[BaseException]) -> Worker:
    """A worker whose lane meets these before it can be opened."""

    def make_store(lane: int) -> Store:
        if failures:
            raise failures.pop()
        return MemoryStore()

    app = App("shop")
    return Worker(WorkerParts(log=log, group="g", lanes=1, apps=[app], make_store=make_store, surroundings=here))


async def test_a_lane_whose_log_was_away_for_a_night_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.worker.worker.LIVE_LOOK_S", 1.0)  # A night of looks.
    here = Here()
    outage: list[BaseException] = [LogUnavailable("no broker answers") for _ in range(OUTAGES)]
    worker = worker_on(MemoryCluster(now_ms=here.true_ms).client("w"), here, outage)
    async with asyncio.timeout(OUTAGES * AGAIN_S_MAX + 60):
        await worker.start()
    assert worker.ready and not outage
    await worker.stop(0)


async def test_a_lane_that_had_lived_for_long_is_opened_again_soon() -> None:
    here = Here()
    outage: list[BaseException] = [LogUnavailable("no broker answers") for _ in range(10)]
    cluster = MemoryCluster(now_ms=here.true_ms)
    worker = worker_on(cluster.client("w"), here, outage)
    await worker.start()
    await asyncio.sleep(3_600)
    outage.append(LogUnavailable("no broker answers"))
    first = worker.lanes[0]
    assert first._tasks is not None
    first._tasks.create_task(_fails(outage[-1]))
    failed_at_s = asyncio.get_running_loop().time()
    await until(lambda: worker.ready and worker.lanes[0] is not first)
    assert asyncio.get_running_loop().time() - failed_at_s < AGAIN_S_MAX / 2
    await worker.stop(0)


async def _fails(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("end", [KeyError("a bug"), asyncio.CancelledError()])
async def test_a_lane_that_ends_unasked_ends_the_worker(end: BaseException) -> None:
    here = Here()
    worker = worker_on(MemoryCluster(now_ms=here.true_ms).client("w"), here, [end])
    with pytest.raises((KeyError, InternalError)):
        async with asyncio.timeout(3_600):
            await worker.start()


async def test_a_worker_that_is_no_member_any_more_is_not_ready() -> None:
    here = Here()
    log = MemoryCluster(now_ms=here.true_ms).client("w")
    worker = worker_on(log, here, [])
    await worker.start()
    assert worker.ready
    membership = worker._membership
    assert membership is not None
    await membership.leave()  # As a membership that ends by itself: the lanes go, and nobody asked for it.
    assert not worker.ready and not worker.joined
    await worker.stop(0)
