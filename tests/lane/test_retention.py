"""Nothing grows without bound: once all that is kept for a day is a day old, the same load leaves no more behind."""

from __future__ import annotations

from dataclasses import replace

from millstream.lane.settings import LaneSettings
from millstream.log.port import Produced
from millstream.model.event import Envelope
from millstream.model.ids import ulid
from millstream.model.limits import DAY_MS, HOUR_MS
from millstream.model.messages import InboxRecord
from millstream.model.operations import BodyDone
from millstream.model.run_requests import CancelRun
from millstream.state.dump import dump
from millstream.wire.messages import encode_inbox
from tests.core.values import app, done, function, report
from tests.lane.rig import FUNCTIONS, INBOX, JOURNAL, LETTERS, REPLIES, Owner, Rig, until

EVERY_S = 900
SETTINGS = LaneSettings(
    checkpoint_after_ms=600_000,
    trim_lag_ms=600_000,
    trim_every_ms=60_000,
    history_ms=6 * HOUR_MS,
    housekeeping_ms=60_000,
)


async def _load(rig: Rig, owner: Owner, numbers: range) -> None:
    """Each time: an event that runs a step and is done, one that nothing starts on, a poison record, a message of
    another lane, a request of an api that gets an answer."""
    for n in numbers:
        now_ms = rig.here.now_ms()
        internal = ulid(now_ms, n.to_bytes(10, "big"))
        sent = Envelope(internal, f"order-{n}", True, "order/placed", b"{}", now_ms, now_ms)
        other = ulid(now_ms, (n + 1).to_bytes(10, "little"))
        await rig.send(sent, Envelope(other, other, False, "no/one", b"{}", now_ms, now_ms))
        await rig.put("events", Produced(b"poison"))
        await rig.put(INBOX, Produced(encode_inbox(InboxRecord(1, n + 1, CancelRun("x", "", "", -1)))))
        request = CancelRun(ulid(now_ms, bytes(10)), "", ulid(now_ms, n.to_bytes(10, "big")), 0)
        await rig.put(INBOX, Produced(encode_inbox(InboxRecord(-1, 0, request))))
        await until(lambda: owner.desk.started)
        (begun,) = owner.desk.started
        owner.desk.started.clear()
        owner.lane.submit(report(begun.run, begun.dispatch, done("one", b"1" * 100), BodyDone(b"1")))
        await until(lambda run=begun.run: owner.lane.tables.runs.get(run) is None)
        owner.desk.under_way.clear()
        await rig.here.sleep(EVERY_S)
        rig.cluster.retain()


def _sizes(rig: Rig, owner: Owner) -> dict[str, int]:
    sizes = {topic: len(rig.records(topic)) for topic in (JOURNAL, INBOX, REPLIES, LETTERS, "events", FUNCTIONS)}
    for which in ("steps", "timers", "keys"):
        sizes[which] = len(rig.records(f"{owner.lane.place.group}.{which}"))
    sizes |= {f"table {name}": len(rows) for name, rows in dump(owner.lane.tables.durable).items()}
    sizes["store"] = len(owner.lane.parts.store.scan(b"", b"\xff", 1 << 30))
    sizes["checkpoints"] = len(owner.lane.upkeep._done)
    return sizes


async def test_45_hours_of_load_leave_no_more_than_30(rig: Rig) -> None:
    for topic in ("events", LETTERS):
        found = rig.cluster.partitions[topic, 0]
        found.spec = replace(found.spec, retention_ms=DAY_MS)
    await rig.register(app(function("ship", "order/placed")))
    owner = await rig.own(settings=SETTINGS)
    a_day = DAY_MS // 1_000 // EVERY_S
    await _load(rig, owner, range(a_day * 30 // 24))
    before = _sizes(rig, owner)
    await _load(rig, owner, range(a_day * 30 // 24, a_day * 45 // 24))
    after = _sizes(rig, owner)
    assert before["table seen"] >= a_day, "ids of senders are kept for a day: else this test shows nothing"
    assert before["table requests"] > a_day * 0.9
    assert {what: (before[what], size) for what, size in after.items() if size > before[what] * 1.1 + 12} == {}
    assert after[JOURNAL] < a_day * 5, "the journal holds more than the history's time"
    assert after[INBOX] < 2 * 6 + 12, "the inbox holds more than the lag's time"
