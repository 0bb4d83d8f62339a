"""Workers put their apps into the catalogue; none of them takes it back to what it was before (lanes.md rule 23)."""

from __future__ import annotations

import pytest

from millstream.errors import ConfigError
from millstream.log.memory.log import MemoryLog
from millstream.log.port import TopicKind, TopicSpec
from millstream.model.function import AppSpec
from millstream.wire.messages import decode_app
from millstream.worker.registration import register
from tests.core.values import app, function

OLD, NEW, NEWEST = (app(*(function(f"f{n}", "order/placed") for n in range(count))) for count in (1, 2, 3))


async def topic() -> MemoryLog:
    log = MemoryLog()
    await log.create_topics([TopicSpec("shop.functions", 1, TopicKind.COMPACTED)])
    return log


async def known(log: MemoryLog) -> AppSpec:
    records = log.cluster.partitions["shop.functions", 0].read(0, 1 << 30, 1 << 40)[0]
    return decode_app(records[-1].value or b"")


async def test_a_newer_version_replaces_an_older_one_and_not_the_other_way_round() -> None:
    log = await topic()
    for spec in (OLD, NEW):
        await register(log, "shop", [spec], "newer")
        assert await known(log) == spec
    end = await register(log, "shop", [OLD], "newer")
    assert await known(log) == NEW
    assert end == 2
    await register(log, "shop", [NEWEST], "newer")
    for spec in (OLD, NEW):
        await register(log, "shop", [spec], "newer")
        assert await known(log) == NEWEST


async def test_a_rollback_is_asked_for_and_then_holds() -> None:
    log = await topic()
    for spec in (OLD, NEW):
        await register(log, "shop", [spec], "newer")
    await register(log, "shop", [OLD], "always")
    assert await known(log) == OLD
    await register(log, "shop", [NEW], "newer")
    assert await known(log) == OLD


async def test_never_registers_nothing_and_names_what_lanes_must_have_seen() -> None:
    log = await topic()
    await register(log, "shop", [OLD])
    assert await register(log, "shop", [NEW], "never") == 1
    assert await known(log) == OLD


async def test_two_apps_of_one_id_are_refused() -> None:
    with pytest.raises(ConfigError, match="same id"):
        await register(await topic(), "shop", [OLD, NEW])
