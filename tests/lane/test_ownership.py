"""``lane/ownership/fencing.py``: nobody fences a lane that the group has not just said is theirs."""

from __future__ import annotations

import pytest

from millstream.lane.ownership.fencing import NotOwned, take_over
from millstream.lane.ownership.restore import Reached
from millstream.lane.parts import LaneParts
from millstream.log.memory.faults import UNKNOWN_NOT_WRITTEN
from millstream.log.port import Produced
from millstream.model.facts import LaneFenced, RunStarted
from millstream.model.journal import JournalRecord
from millstream.state.tables import LaneTables
from millstream.wire.journal import Validity, decode_record, encode_record
from tests.core.values import START_MS, app, event, function
from tests.lane.rig import JOURNAL, Rig, until


def fresh(parts: LaneParts) -> tuple[LaneTables, Reached]:
    return LaneTables(parts.place, parts.store), Reached(0, Validity(), 0, 0)


async def test_the_group_is_asked_before_every_fence(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, _ = await rig.parts()
    order: list[str] = []
    journal = rig.journal()
    owns, fence = parts.membership.still_owns, journal.fence

    async def asked(lane: int, *, inbox_position: int) -> bool:
        order.append("asked")
        return await owns(lane, inbox_position=inbox_position)

    async def fenced(worker: str, owner: bytes, at_ms: int) -> int:
        order.append("fenced")
        return await fence(worker, owner, at_ms)

    monkeypatch.setattr(parts.membership, "still_owns", asked)
    monkeypatch.setattr(journal, "fence", fenced)
    rig.faults.appends[JOURNAL] += [UNKNOWN_NOT_WRITTEN, UNKNOWN_NOT_WRITTEN]
    tables, reached = fresh(parts)
    await take_over(parts, tables, journal, reached)
    assert order == ["asked", "fenced"] * 3


async def test_a_lane_that_belongs_to_another_is_never_fenced(rig: Rig) -> None:
    parts, _ = await rig.parts("a")
    await rig.client("b")
    await rig.cluster.steal(0, "b")
    tables, reached = fresh(parts)
    with pytest.raises(NotOwned):
        await take_over(parts, tables, rig.journal(), reached)
    assert rig.records(JOURNAL) == []


async def test_the_check_commits_the_inbox_position_the_lane_has(rig: Rig) -> None:
    parts, _ = await rig.parts()
    tables, reached = fresh(parts)
    await take_over(parts, tables, rig.journal(), reached)
    assert rig.cluster.committed(0) == 0


async def test_two_who_believe_they_own_a_lane_end_with_the_one_the_group_names(rig: Rig) -> None:
    await rig.register(app(function("ship", "order/placed")))
    zombie = await rig.own("a")
    await rig.client("b")
    await rig.cluster.steal(0, "b")
    lawful = await rig.own("b")
    await rig.send(event(1))
    await until(lambda: zombie.task.done())
    await rig.send(event(2))
    await until(lambda: len(rig.facts(RunStarted)) == 2)
    assert zombie.task.exception() is None, "losing a lane is no error"
    assert lawful.lane.live
    assert [fence.worker for fence in rig.facts(LaneFenced)] == ["a", "b"]


async def test_a_lane_that_met_a_newer_fence_waits_a_little_before_it_fences_again(rig: Rig) -> None:
    await rig.register(app(function("ship", "order/placed")))
    await rig.own("a")
    stranger = JournalRecord(b"stranger", 0, rig.here.true_ms(), (LaneFenced("z"),))
    await rig.put(JOURNAL, Produced(encode_record(stranger)))
    met_ms = rig.here.true_ms()
    await rig.send(event(1))
    await until(lambda: rig.facts(RunStarted))
    fenced_ms = [record.at_ms for record in rig.records(JOURNAL) if is_fence(record.value or b"")][-1]
    assert 100 <= fenced_ms - met_ms <= 600, "lanes.md rule 4"


def is_fence(value: bytes) -> bool:
    return isinstance(decode_record(value).facts[0], LaneFenced) if decode_record(value).facts else False


async def test_what_lies_below_the_fence_is_folded_before_anything_is_decided(rig: Rig) -> None:
    await rig.register(app(function("ship", "order/placed")))
    before = await rig.own("a")
    await rig.send(event(1))
    parts, _ = await rig.parts("b")
    await rig.cluster.steal(0, "b")
    tables, reached = fresh(parts)
    await until(lambda: rig.facts(RunStarted))
    run = rig.facts(RunStarted)[0].run
    assert tables.runs.get(run) is None
    journal = rig.journal("b")
    reached, _ = await take_over(parts, tables, journal, reached)
    assert tables.runs.get(run) is not None
    assert (reached.offset, journal.expected) == (len(rig.records(JOURNAL)),) * 2
    await before.stop()


async def test_a_fence_is_never_older_than_what_lies_below_it(rig: Rig) -> None:
    parts, _ = await rig.parts()
    tables, _ = fresh(parts)
    await take_over(parts, tables, rig.journal(), Reached(0, Validity(), START_MS + 60_000, 0))
    assert rig.decisions()[0].at_ms == START_MS + 60_000
