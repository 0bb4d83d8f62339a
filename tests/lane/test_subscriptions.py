"""``lane/input/subscriptions.py``: existing topics are read from the right place, every partition of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from millstream.log.port import Produced, TopicSpec
from millstream.model.facts import CommandRefused, EventAccepted, RunStarted, SourceGap, SourceOpened, TopicSeen
from millstream.model.function import AppSpec, FunctionSpec, Reading, TopicTrigger
from millstream.model.ids import lane_of_source
from tests.core.values import FAST, PLACE
from tests.lane.rig import LETTERS, Rig, until

PAY = "payments"


def bill(slug: str = "shop-bill", *, since_ms: int = 0, expression: str = "", reading: Reading | None = None) -> Any:
    trigger = TopicTrigger(PAY, expression, since_ms, reading or Reading())
    return FunctionSpec(slug, slug, (trigger,), retries=0, backoff=FAST)


def shop(*functions: FunctionSpec, id: str = "shop") -> AppSpec:
    return AppSpec(id, functions)


async def make(rig: Rig, partitions: int = 4) -> list[int]:
    """The topic; and the partitions of it that the lane reads."""
    await rig.logs["a"].create_topics([TopicSpec(PAY, partitions)])
    return _mine(partitions)


def _mine(partitions: int) -> list[int]:
    return [p for p in range(partitions) if lane_of_source(PAY, p, PLACE.lanes) == PLACE.lane]


def started(rig: Rig, function: str = "shop-bill") -> list[str]:
    """The data of the events that a function's runs started on, in order."""
    data = {fact.internal_id: json.loads(fact.data) for fact in rig.facts(EventAccepted)}
    return [data[f.events[0]].get("n") for f in rig.facts(RunStarted) if f.function == function]


def json_records(*numbers: int) -> list[Produced]:
    return [Produced(b'{"n":%d}' % n, b"k%d" % n) for n in numbers]


async def test_a_function_is_started_by_each_record_of_its_topic(rig: Rig) -> None:
    await rig.client("a")
    p = (await make(rig))[0]
    await rig.put(PAY, *json_records(1, 2), partition=p)
    await rig.register(shop(bill()))
    await rig.own()
    await until(lambda: len(rig.facts(RunStarted)) == 2)
    await rig.put(PAY, *json_records(3), partition=p)
    await until(lambda: len(rig.facts(RunStarted)) == 3)
    accepted = rig.facts(EventAccepted)[0]
    assert (accepted.name, accepted.id, accepted.key, accepted.data) == (PAY, f"{PAY}-{p}-0", "k1", b'{"n":1}')
    assert json.loads(accepted.meta)["kafka"]["offset"] == 0


async def test_latest_begins_at_the_end_and_every_partition_is_opened_by_a_fact(rig: Rig) -> None:
    await rig.client("a")
    mine = await make(rig)
    await rig.put(PAY, *json_records(1, 2), partition=mine[0])
    await rig.register(shop(bill(since_ms=-1)))
    owner = await rig.own()
    await until(lambda: owner.lane.catalogue_seen == 1)
    await rig.put(PAY, *json_records(3), partition=mine[0])
    await until(lambda: started(rig) == [3])
    opened = [(f.topic, f.partition, f.offset) for f in rig.facts(SourceOpened) if f.topic == PAY]
    assert opened == [(PAY, p, 2 if p == mine[0] else 0) for p in mine]


async def test_a_partition_that_is_added_later_opens_at_its_beginning(rig: Rig) -> None:
    await rig.client("a")
    await make(rig, 2)
    await rig.register(shop(bill(since_ms=-1)))
    owner = await rig.own()
    await until(lambda: owner.lane.catalogue_seen == 1)
    rig.cluster.grow(PAY, 4)
    new = next(p for p in _mine(4) if p >= 2)
    await rig.put(PAY, *json_records(7), partition=new)
    await until(lambda: started(rig) == [7])
    assert [f.partitions for f in rig.facts(TopicSeen) if f.topic == PAY] == [2, 4]


async def test_a_topic_that_is_missing_is_looked_for_again_and_read_from_its_beginning(rig: Rig) -> None:
    await rig.client("a")
    await rig.register(shop(bill(since_ms=-1)))
    owner = await rig.own()
    await until(lambda: owner.lane.catalogue_seen == 1)
    p = (await make(rig))[0]
    await rig.put(PAY, *json_records(1), partition=p)
    await until(lambda: started(rig) == [1])


async def test_a_topic_made_anew_is_a_gap_and_is_read_from_its_beginning(rig: Rig) -> None:
    await rig.client("a")
    p = (await make(rig))[0]
    await rig.register(shop(bill()))
    owner = await rig.own()
    await rig.put(PAY, *json_records(1, 2, 3), partition=p)
    await until(lambda: len(started(rig)) == 3)
    rig.cluster.make_anew(PAY)
    await rig.here.sleep(1)
    await rig.put(PAY, *json_records(4), partition=p)
    await until(lambda: started(rig) == [1, 2, 3, 4])
    gap = rig.facts(SourceGap)[0]
    assert (gap.topic, gap.partition, gap.from_offset, gap.to_offset) == (PAY, p, 3, 0)
    await owner.stop()
    await rig.own()
    await rig.put(PAY, *json_records(5), partition=p)
    await until(lambda: started(rig) == [1, 2, 3, 4, 5])


async def test_a_poison_record_goes_to_the_dead_letters_as_it_was_and_the_partition_goes_on(rig: Rig) -> None:
    await rig.client("a")
    p = (await make(rig))[0]
    await rig.register(shop(bill(reading=Reading("json"))))
    await rig.own()
    poison = Produced(b"\xff\x00", b"\xfe", (("trace", b"\x01"), ("trace", b"\x02")))
    await rig.put(PAY, poison, *json_records(1), partition=p)
    await until(lambda: started(rig) == [1])
    await until(lambda: rig.records(LETTERS))
    (letter,) = rig.records(LETTERS)
    assert (letter.key, letter.value, letter.headers[:2]) == (b"\xfe", b"\xff\x00", poison.headers)
    reasons = dict(letter.headers[2:])
    assert (reasons["millstream-topic"], reasons["millstream-partition"], reasons["millstream-offset"]) == (
        PAY.encode(), b"%d" % p, b"0",
    )  # fmt: skip
    assert b"JSON" in reasons["millstream-reason"] and int(reasons["millstream-at"]) > 0
    assert [f.subject for f in rig.facts(CommandRefused)] == [f"{PAY}/{p}@0"]


async def test_a_tombstone_starts_nothing_and_is_passed_over(rig: Rig) -> None:
    await rig.client("a")
    p = (await make(rig))[0]
    await rig.register(shop(bill()))
    await rig.own()
    await rig.put(PAY, Produced(None, b"k"), *json_records(1), partition=p)
    await until(lambda: started(rig) == [1])
    assert not rig.facts(CommandRefused)


async def test_an_expression_chooses_and_an_id_by_rule_is_known_when_it_comes_again(rig: Rig) -> None:
    await rig.client("a")
    p = (await make(rig))[0]
    await rig.register(shop(bill(expression="event.data.n > 1", reading=Reading(id="data.id"))))
    owner = await rig.own()
    records = [Produced(b'{"n":%d,"id":"%s"}' % (n, id)) for n, id in ((1, b"a"), (2, b"a"), (3, b"a"), (4, b"b"))]
    await rig.put(PAY, *records, partition=p)
    await until(lambda: (row := owner.lane.tables.durable.positions.get((PAY, p))) and row.offset == 4)
    assert started(rig) == [2, 4]


async def test_two_ways_of_reading_one_record_are_two_events(rig: Rig) -> None:
    await rig.client("a")
    p = (await make(rig))[0]
    await rig.register(shop(bill(reading=Reading("json")), bill("shop-keep", reading=Reading("raw"))))
    await rig.own()
    await rig.put(PAY, Produced(b'{"n":1}'), Produced(b"\xff"), partition=p)
    await until(lambda: len(rig.facts(RunStarted)) == 3)
    assert [f.function for f in rig.facts(RunStarted)] == ["shop-bill", "shop-keep", "shop-keep"]
    await until(lambda: len(rig.records(LETTERS)) == 1)


async def test_a_topic_of_the_group_itself_is_never_read(rig: Rig) -> None:
    trigger = TopicTrigger(f"{PLACE.group}.journal", since_ms=0, reading=Reading("raw"))
    await rig.register(shop(FunctionSpec("shop-spy", "spy", (trigger,))))
    owner = await rig.own()
    await until(lambda: owner.lane.catalogue_seen == 1)
    await rig.here.sleep(30)
    assert not rig.facts(RunStarted) and [topic for topic, _ in owner.lane.subscriptions.sources] == ["events"]


async def test_a_source_nobody_subscribes_to_any_more_is_not_read_on(rig: Rig) -> None:
    await rig.client("a")
    p = (await make(rig))[0]
    await rig.register(shop(bill()))
    owner = await rig.own()
    await until(lambda: (PAY, p) in owner.lane.subscriptions.sources)
    await rig.register(shop())
    await until(lambda: (PAY, p) not in owner.lane.subscriptions.sources)
    await rig.put(PAY, *json_records(1), partition=p)
    await rig.here.sleep(10)
    await rig.register(shop(bill()))  # It comes back, and goes on where it was.
    await until(lambda: started(rig) == [1])


@pytest.mark.parametrize("since_ms", [0, 1])
async def test_a_later_subscription_gets_what_lies_before_by_a_scan_and_the_rest_live(rig: Rig, since_ms: int) -> None:
    await rig.client("a")
    p = (await make(rig))[0]
    await rig.register(shop(bill()))
    owner = await rig.own()
    await rig.put(PAY, *json_records(*range(250)), partition=p)
    await until(lambda: len(started(rig)) == 250)
    await rig.register(shop(bill("late-bill", since_ms=since_ms), id="late"))
    await rig.put(PAY, *json_records(250, 251), partition=p)
    await until(lambda: len(started(rig, "late-bill")) == 252)
    await rig.here.sleep(30)
    assert sorted(started(rig, "late-bill")) == list(range(252)) == started(rig)
    assert not owner.lane.tables.durable.scans.scan(limit=1)
    await owner.stop()
    await rig.own()  # Nothing begins again.
    await rig.here.sleep(30)
    assert len(started(rig, "late-bill")) == 252
