"""The key of a group: one, whoever makes it, and for every door and worker the same."""

from __future__ import annotations

import asyncio
from itertools import count

from millstream.api.door.catalogue import Catalogue
from millstream.log.group_topics import GroupShape, topics_of
from millstream.log.memory.log import MemoryCluster, MemoryLog
from millstream.log.port import Produced
from millstream.model.function import AppSpec
from millstream.model.waits.callback_token import KEY_BYTES
from millstream.wire.callback_key import RECORD_PREFIX, key_record
from millstream.worker.callback_key import callback_key
from millstream.worker.registration import register

GROUP = "shop"
FUNCTIONS = "shop.functions"
_numbers = count(1)


def entropy(size: int) -> bytes:
    """Other bytes each time."""
    return next(_numbers).to_bytes(size, "big")


async def group() -> MemoryCluster:
    cluster = MemoryCluster()
    await cluster.client("maker").create_topics(topics_of(GroupShape(group=GROUP, lanes=1)))
    return cluster


async def key_of(log: MemoryLog) -> bytes:
    return await callback_key(log, GROUP, entropy)


async def test_workers_that_begin_at_once_agree_and_so_do_those_that_come_later() -> None:
    cluster = await group()
    keys = await asyncio.gather(*(key_of(cluster.client(f"worker{n}")) for n in range(5)))
    assert len(set(keys)) == 1 and len(keys[0]) == KEY_BYTES
    end = await cluster.client("look").end_offset(FUNCTIONS, 0)
    assert await key_of(cluster.client("later")) == keys[0]
    assert await cluster.client("look").end_offset(FUNCTIONS, 0) == end, "a group that has a key gets no other"


async def test_a_door_that_began_before_the_key_was_made_knows_it_soon_and_takes_it_for_no_app() -> None:
    cluster = await group()
    catalogue = Catalogue(cluster.client("api"), GROUP)
    await catalogue.start()
    assert catalogue.callback_key == b""
    worker = cluster.client("worker")
    key = await key_of(worker)
    assert await register(worker, GROUP, [AppSpec("shop", ())]) == 2
    async with asyncio.timeout(5):
        while "shop" not in catalogue.apps:  # noqa: ASYNC110 - it follows
            await asyncio.sleep(0.01)
    assert catalogue.callback_key == key
    assert list(catalogue.apps) == ["shop"]
    await catalogue.close()


async def test_what_is_no_key_is_passed_over() -> None:
    cluster = await group()
    log = cluster.client("worker")
    _, short = key_record(b"short", "x")
    broken = [Produced(b"no app", RECORD_PREFIX + b"a"), Produced(short, RECORD_PREFIX + b"b")]
    writer = log.writer(FUNCTIONS, 0)
    await writer.append(broken)
    await writer.close()
    assert len(await key_of(log)) == KEY_BYTES
