"""``lane/maintenance/upkeep.py``: flushed, checkpointed and trimmed in time; a failure costs another try."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from millstream.lane.settings import LaneSettings
from millstream.log.memory.faults import UNKNOWN_NOT_WRITTEN, UNKNOWN_WRITTEN, Fate, Verdict
from millstream.log.port import Produced
from millstream.model.facts import RunStarted
from millstream.model.messages import InboxRecord
from millstream.model.run_requests import CancelRun
from millstream.state.checkpoint import Checkpoint
from millstream.state.checkpointed import Checkpointed
from millstream.state.dump import dump
from millstream.state.marker import Marker
from millstream.state.tables import LaneTables
from millstream.wire.messages import encode_inbox
from tests.core.values import PLACE, app, event, function
from tests.lane.rig import EVENTS, INBOX, JOURNAL, Owner, Rig, offsets, until

SHOP = app(function("ship", "order/placed"))
QUICK = LaneSettings(
    flush_after_ms=200,
    checkpoint_facts=1_000,
    checkpoint_after_ms=2_000,
    checkpoint_gap_ms=1_000,
    trim_lag_ms=0,
    trim_every_ms=500,
    history_ms=0,
)


class Feeder:
    """Sends one event at a time."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.sent = 0

    def started(self) -> int:
        """Counted as the lane tells it: the journal loses its beginning here."""
        return sum(isinstance(fact, RunStarted) for fact in self.rig.recorded)

    async def one(self) -> None:
        self.sent += 1
        await self.rig.put(INBOX, Produced(encode_inbox(InboxRecord(1, self.sent, CancelRun("x", "", "", -1)))))
        await self.rig.send(event(self.sent))
        await until(lambda: self.started() == self.sent)


async def fed(rig: Rig, settings: LaneSettings = QUICK) -> tuple[Owner, Feeder]:
    await rig.register(SHOP)
    owner = await rig.own(settings=settings)
    feeder = Feeder(rig)
    await feeder.one()
    return owner, feeder


def start(rig: Rig, topic: str = JOURNAL) -> int:
    return rig.cluster.partitions[topic, 0].start


async def test_what_is_durable_is_flushed_when_it_is_old_enough(rig: Rig) -> None:
    owner, _ = await fed(rig)
    await rig.here.sleep(1)
    assert owner.lane.tables.overlay_rows == 0
    assert owner.lane.tables.marker is not None
    assert owner.lane.tables.marker.offset == len(rig.records(JOURNAL)) - 1


async def test_a_checkpoint_comes_in_time_and_only_after_something_happened(rig: Rig) -> None:
    owner, feeder = await fed(rig)
    await rig.here.sleep(3)
    assert len(owner.lane.upkeep._done) == 1
    first = owner.lane.upkeep._last
    assert first is not None
    await rig.here.sleep(60)
    assert owner.lane.upkeep._last == first
    await feeder.one()
    await rig.here.sleep(1)
    assert owner.lane.upkeep._last != first


async def test_a_clock_that_is_set_back_holds_up_no_flush_and_no_checkpoint(rig: Rig) -> None:
    owner, feeder = await fed(rig)
    await rig.here.sleep(3)
    first = owner.lane.upkeep._last
    rig.here.off_ms = -3_600_000
    await feeder.one()
    await rig.here.sleep(1)
    assert owner.lane.tables.overlay_rows == 0
    await rig.here.sleep(3)
    assert owner.lane.upkeep._last != first


async def test_many_facts_bring_a_checkpoint_forward_but_never_below_the_gap(rig: Rig) -> None:
    owner, _ = await fed(rig, LaneSettings(checkpoint_facts=2, checkpoint_gap_ms=3_000))
    await rig.here.sleep(2)
    assert not owner.lane.upkeep._done
    await rig.here.sleep(2)
    assert len(owner.lane.upkeep._done) == 1


@pytest.mark.parametrize(
    "verdict",
    [Verdict(fate=Fate.REFUSED, written_after_s=None), UNKNOWN_NOT_WRITTEN, UNKNOWN_WRITTEN],
    ids=["refused", "unknown, not written", "unknown, written"],
)
async def test_a_failed_transaction_is_made_up_for_and_loses_nothing(rig: Rig, verdict: Verdict) -> None:
    owner, feeder = await fed(rig)
    rig.faults.transactions += [verdict, verdict]
    for _ in range(4):
        await rig.here.sleep(2.5)
        await feeder.one()
    await rig.here.sleep(3)
    assert owner.lane.upkeep._done
    await rig.logs["a"].trim(JOURNAL, 0, owner.lane.upkeep._done[-1].offset)
    await owner.stop()
    assert await rig.rows_from_topics() == dump(owner.lane.tables.durable)


async def test_a_checkpoint_begun_before_the_lane_went_and_came_back_is_refused(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are those of the time before; others may have checkpointed in between (lanes.md rule 13)."""
    owner, feeder = await fed(rig, LaneSettings(checkpoint_after_ms=1_000_000, checkpoint_facts=1_000_000))
    await rig.client("b")
    await feeder.one()
    begin = Checkpoint.begin

    async def begun(tables: LaneTables, marker: Marker, done: Sequence[Checkpointed]) -> Checkpoint:
        made = await begin(tables, marker, done)
        await rig.cluster.steal(0, "b")
        await rig.cluster.steal(0, "a")
        return made

    monkeypatch.setattr(Checkpoint, "begin", begun)
    await owner.lane.upkeep.checkpoint()
    assert owner.lane.upkeep.checkpointed_at == -1
    assert not rig.records(f"{PLACE.group}.steps"), "nothing of it is visible"


async def test_an_owner_that_has_not_noticed_that_the_lane_went_and_came_back_makes_no_checkpoint(rig: Rig) -> None:
    """Found by simulation: older rows lay over the newer ones of the owner in between, and a restore mixed them."""
    settings = LaneSettings(checkpoint_after_ms=1_000_000, checkpoint_facts=1_000_000)
    owner, feeder = await fed(rig, settings)
    await feeder.one()
    await rig.client("b")
    await rig.cluster.steal(0, "b")
    other = await rig.own("b", settings=settings)
    await other.lane.wait_live()
    await other.lane.upkeep.checkpoint()
    held = len(rig.records(f"{PLACE.group}.keys"))
    assert held
    await other.stop()
    await rig.cluster.steal(0, "a")
    assert owner.lane.live
    await owner.lane.upkeep.checkpoint()
    assert owner.lane.upkeep.checkpointed_at == -1
    assert len(rig.records(f"{PLACE.group}.keys")) == held, "nothing of it is visible"


async def test_the_journal_is_cut_at_an_earlier_checkpoint_never_at_the_last(rig: Rig) -> None:
    owner, feeder = await fed(rig)
    offsets: list[int] = []
    for _ in range(6):
        await rig.here.sleep(3)
        offsets += [done.offset for done in owner.lane.upkeep._done if done.offset not in offsets]
        assert start(rig) in [0, *offsets[:-1]]
        await feeder.one()
    assert start(rig) > 0
    await owner.stop()
    assert await rig.rows_from_topics() == dump(owner.lane.tables.durable)


async def test_nothing_is_cut_within_the_lag(rig: Rig) -> None:
    _, feeder = await fed(rig, LaneSettings(**{**as_dict(QUICK), "trim_lag_ms": 60_000}))
    for _ in range(6):
        await rig.here.sleep(3)
        await feeder.one()
    assert start(rig) == 0
    await rig.here.sleep(61)
    assert start(rig) > 0


async def test_the_history_keeps_the_journal_but_not_the_inbox(rig: Rig) -> None:
    _, feeder = await fed(rig, LaneSettings(**{**as_dict(QUICK), "history_ms": 60_000}))
    for _ in range(6):
        await rig.here.sleep(3)
        await feeder.one()
    assert start(rig) == 0
    assert 0 < start(rig, INBOX) < feeder.sent
    await rig.here.sleep(61)
    assert start(rig) > 0


async def test_the_inbox_is_cut_where_an_earlier_checkpoint_had_read_it(rig: Rig) -> None:
    owner, feeder = await fed(rig)
    for _ in range(4):
        await rig.here.sleep(3)
        await feeder.one()
    await rig.here.sleep(3)
    last = owner.lane.upkeep._done[-1]
    assert 0 < start(rig, INBOX) < last.inbox
    assert rig.cluster.committed(0) == last.inbox


@pytest.mark.parametrize("disk", ["kept", "lost"])
async def test_a_lane_restarted_more_often_than_anything_is_due_is_trimmed_all_the_same(rig: Rig, disk: str) -> None:
    settings = LaneSettings(
        **{**as_dict(QUICK), "checkpoint_after_ms": 4_000, "trim_lag_ms": 6_000, "history_ms": 9_000}
    )
    await rig.register(SHOP)
    feeder = Feeder(rig)
    started: list[int] = []
    for _ in range(20):
        owner = await rig.own(settings=settings)
        await feeder.one()
        await rig.here.sleep(1.5)
        started.append(start(rig))
        await owner.stop()
        live = dump(owner.lane.tables.durable)
        if disk == "lost":
            rig.disk.wipe()
    assert started == sorted(started)
    assert started[4] == 0, "something was cut within lag and history"
    assert len(set(started[10:])) >= 2, "the journal is not cut again and again"
    assert 0 < start(rig, INBOX) < feeder.sent
    assert await rig.rows_from_topics() == live


async def test_events_that_start_nothing_are_checkpointed_and_trimmed_too(rig: Rig) -> None:
    """Their records hold positions and no facts: counted by facts alone, the journal grew for ever."""
    await rig.own(settings=QUICK)
    for n in range(40):
        await rig.send(event(n))
        await rig.here.sleep(0.5)
    assert start(rig) > 0
    assert len(rig.records(JOURNAL)) < 25


async def test_an_idle_lane_appends_and_checkpoints_nothing(rig: Rig) -> None:
    owner, _ = await fed(rig)
    await rig.here.sleep(10)
    before, done = len(rig.records(JOURNAL)), list(owner.lane.upkeep._done)
    await rig.here.sleep(100)
    assert (len(rig.records(JOURNAL)), owner.lane.upkeep._done) == (before, done)


async def test_a_trim_that_fails_is_done_in_the_next_round(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from millstream.errors import LogUnavailable

    owner, feeder = await fed(rig)
    log, times = rig.logs["a"], 0
    trim = log.trim

    async def fails(topic: str, partition: int, before_offset: int) -> None:
        nonlocal times
        times += 1
        if times <= 3:
            raise LogUnavailable("not now")
        await trim(topic, partition, before_offset)

    monkeypatch.setattr(log, "trim", fails)
    await rig.here.sleep(3)
    await feeder.one()
    await rig.here.sleep(6)
    assert start(rig) > 0
    assert owner.lane.live
    assert PLACE.lane == 0


def as_dict(settings: LaneSettings) -> dict[str, int]:
    return {name: getattr(settings, name) for name in LaneSettings.__slots__}


class Slow:
    """A log's transaction that is long in coming, or long on its way: its lane's turn comes when the test says so."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
        self.waits = 0
        self.go_on = asyncio.Event()
        log = rig.logs["a"]
        begin = log.transaction

        async def transaction(name: str) -> Any:
            if slow == "begin":
                await self._wait()
            begun = await begin(name)
            for what in ("send", "commit"):
                if slow == what:
                    monkeypatch.setattr(begun, what, self._slowly(getattr(begun, what)))
            return begun

        monkeypatch.setattr(log, "transaction", transaction)

    async def _wait(self) -> None:
        self.waits += 1
        await self.go_on.wait()

    def _slowly(self, work: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def slowly(*arguments: Any) -> None:
            await self._wait()
            await work(*arguments)

        return slowly


@pytest.mark.parametrize("what", ["begin", "send", "commit"])
async def test_while_a_checkpoint_waits_rows_are_flushed_and_positions_recorded(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    await rig.client("a")
    slow = Slow(rig, monkeypatch, what)
    owner, feeder = await fed(rig)
    await until(lambda: slow.waits)
    for _ in range(3):
        await feeder.one()
        await rig.send(event(1_000, name="nobody/waits"))
        await rig.here.sleep(2)
        assert owner.lane.tables.overlay_rows == 0
        ends = rig.cluster.partitions[EVENTS].end
        assert [offsets(record).get(EVENTS) for record in rig.decisions() if record.positions][-1] == ends
    assert owner.lane.upkeep.checkpointed_at == -1
    slow.go_on.set()
    await until(lambda: owner.lane.upkeep.checkpointed_at >= 0)
    await owner.stop()
    assert await rig.rows_from_topics() == dump(owner.lane.tables.durable)


@pytest.mark.parametrize("what", ["begin", "send", "commit"])
async def test_a_lane_that_ends_while_its_checkpoint_waits_leaves_no_task_behind(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    await rig.client("a")
    slow = Slow(rig, monkeypatch, what)
    owner, _ = await fed(rig)
    await until(lambda: slow.waits)
    await owner.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}
