"""``lane/output/outbox.py``: what the tables owe the world arrives: messages without a hole, records at least once."""

from __future__ import annotations

import asyncio

import pytest

from millstream.core.decide import decide
from millstream.core.fold import fold
from millstream.core.owed import owed_messages
from millstream.errors import ConfigError
from millstream.lane.output import outbox as module
from millstream.lane.output.outbox import Outbox
from millstream.log.memory.faults import REFUSED, UNKNOWN_NOT_WRITTEN, UNKNOWN_WRITTEN, Verdict
from millstream.log.port import TopicSpec
from millstream.model.commands import Command, NoteDelivered, NotePublished, RefusePublish
from millstream.model.effects import Answer, Deliver, Publish
from millstream.model.event import TOMBSTONE
from millstream.model.facts import CommandRefused, Fact, MessagesDelivered, MessageSent, PublishesSent, PublishQueued
from millstream.model.run_requests import CancelRun
from millstream.state.memory import MemoryStore
from millstream.state.tables import LaneTables
from millstream.wire.messages import decode_inbox, decode_reply
from tests.core.values import PLACE, START_MS
from tests.lane.rig import INBOX, REPLIES, Rig, until


class Bench:
    """An outbox over tables; what it notes is folded at once, unless ``deaf``."""

    def __init__(self, rig: Rig, tables: LaneTables | None = None) -> None:
        self.rig = rig
        self.tables = tables or LaneTables(PLACE, MemoryStore())
        self.notes: list[Command] = []
        self.deaf = False
        self.wanted: list[str] = []
        self.outbox = Outbox(rig.logs["a"], self.tables.durable, self.note, self.want)

    async def want(self, topic: str) -> None:
        self.wanted.append(topic)
        if topic == "forbidden":
            raise ConfigError("this topic may not be made")
        await self.rig.logs["a"].create_topics([TopicSpec(topic, 1)])

    def note(self, command: Command) -> None:
        self.notes.append(command)
        if self.deaf:
            return
        match command:
            case NoteDelivered():
                self.fold(MessagesDelivered(command.to_lane, command.upto))
            case NotePublished():
                self.fold(PublishesSent(command.numbers))

    def fold(self, fact: Fact) -> None:
        effects = fold(self.tables, fact, START_MS)
        self.tables.promote()
        for effect in effects:
            if isinstance(effect, Deliver):
                self.outbox.deliver(effect)
            elif isinstance(effect, Publish):
                self.outbox.publish(effect)

    def message(self, seq: int, size: int = 0) -> None:
        self.fold(MessageSent(1, seq, CancelRun(f"run{seq}", "x" * size)))

    def record(self, number: int, topic: str, key: bytes = b"", value: bytes = b"v") -> None:
        self.fold(PublishQueued(number, topic, key, value, (), None))

    def received(self) -> list[int]:
        return [decode_inbox(r.value or b"").seq for r in self.rig.records(INBOX, 1)]


async def idle(bench: Bench) -> None:
    await until(lambda: bench.outbox.idle)
    bench.outbox.check()


async def test_messages_arrive_in_order_and_are_noted(rig: Rig) -> None:
    bench = Bench(rig)
    for seq in (1, 2, 3):
        bench.message(seq)
    await idle(bench)
    assert bench.received() == [1, 2, 3]
    assert bench.tables.durable.outbox.scan(limit=1) == []


@pytest.mark.parametrize("verdict", [REFUSED, UNKNOWN_NOT_WRITTEN, UNKNOWN_WRITTEN])
async def test_after_a_failure_the_sequence_has_no_hole(rig: Rig, verdict: Verdict) -> None:
    bench = Bench(rig)
    rig.faults.appends[INBOX] += [verdict, verdict]
    bench.message(1)
    await asyncio.sleep(0)
    bench.message(2)
    bench.message(3)
    await idle(bench)
    firsts = list(dict.fromkeys(bench.received()))
    assert firsts == [1, 2, 3]


async def test_what_was_sent_and_is_not_noted_yet_is_not_sent_again(rig: Rig) -> None:
    bench = Bench(rig)
    bench.deaf = True
    bench.message(1)
    await idle(bench)
    bench.message(2)
    await idle(bench)
    assert bench.received() == [1, 2]


async def test_after_a_restart_it_goes_on_with_what_is_not_known_to_have_arrived(rig: Rig) -> None:
    first = Bench(rig)
    first.message(1)
    first.record(1, "events")
    await idle(first)
    first.deaf = True
    first.message(2)
    first.record(2, "events")
    await idle(first)
    second = Bench(rig, first.tables)
    for effect in owed_messages(second.tables.durable):
        if isinstance(effect, Deliver):
            second.outbox.deliver(effect)
        elif isinstance(effect, Publish):
            second.outbox.publish(effect)
    await idle(second)
    assert first.received() == [1, 2, 2]
    assert second.notes == [NoteDelivered(1, 2), NotePublished((2,))]


async def test_messages_go_out_in_batches_a_log_takes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SENT_BYTES_MAX", 1_000)
    bench = Bench(rig)
    for seq in range(1, 11):
        bench.message(seq, size=400)
    await idle(bench)
    assert bench.received() == list(range(1, 11))
    assert rig.faults.asked.count(("a", INBOX)) == 4


async def test_records_of_one_key_lie_in_one_partition_in_order_and_are_noted_by_partition(rig: Rig) -> None:
    bench = Bench(rig)
    await rig.logs["a"].create_topics([TopicSpec("out", 3)])
    for number in range(1, 31):
        bench.record(number, "out", b"key%d" % (number % 5), b"%d" % number)
    await idle(bench)
    for n in range(5):
        where = [(p, int(r.value or b"")) for p in range(3) for r in rig.records("out", p) if r.key == b"key%d" % n]
        assert len({p for p, _ in where}) == 1
        assert [v for _, v in where] == sorted(v for _, v in where)
    assert len(bench.notes) <= 3 * 2
    assert sorted(n for note in bench.notes for n in note.numbers) == list(range(1, 31))  # type: ignore[union-attr]


async def test_a_record_told_twice_is_sent_once(rig: Rig) -> None:
    """A lane that reopens says again what is owed, and what is under way with it."""
    bench = Bench(rig)
    bench.deaf = True
    bench.record(1, "events")
    bench.outbox.publish(Publish(1))
    await idle(bench)
    bench.outbox.publish(Publish(1))
    await idle(bench)
    assert len([r for p in (0, 1) for r in rig.records("events", p)]) == 1


async def test_a_topic_that_is_not_there_is_asked_for(rig: Rig) -> None:
    bench = Bench(rig)
    bench.record(1, "new")
    await idle(bench)
    assert bench.wanted == ["new"]
    assert [r.value for r in rig.records("new")] == [b"v"]


async def test_a_topic_that_cannot_be_had_holds_up_neither_messages_nor_other_topics(rig: Rig) -> None:
    bench = Bench(rig)
    bench.record(1, "forbidden")
    bench.record(2, "events", b"k")
    bench.message(1)
    await until(lambda: len(bench.notes) == 2)
    assert bench.received() == [1]
    assert not bench.outbox.idle
    bench.outbox.check()
    await bench.outbox.close()
    assert bench.tables.durable.publishes.get(1) is not None, "it is still owed"


async def test_a_topic_that_takes_nothing_now_is_tried_until_it_does(rig: Rig) -> None:
    bench = Bench(rig)
    rig.faults.appends["events"] += [REFUSED, UNKNOWN_NOT_WRITTEN, REFUSED]
    bench.record(1, "events", b"k")
    await idle(bench)
    assert bench.notes == [NotePublished((1,))]


async def test_of_very_many_records_only_some_are_held_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PUBLISHES_HELD_MAX", 10)
    monkeypatch.setattr(module, "SENT_AT_ONCE_MAX", 4)
    bench = Bench(rig)
    for number in range(1, 101):
        bench.record(number, "events", b"k")
    assert bench.outbox._held == 10
    await idle(bench)
    assert sorted(n for note in bench.notes for n in note.numbers) == list(range(1, 101))  # type: ignore[union-attr]


async def test_answers_go_to_the_api_that_asked_and_name_the_position(rig: Rig) -> None:
    bench = Bench(rig)
    bench.outbox.answer(Answer("r1", 0, b"{}"), 7)
    await idle(bench)
    (found,) = [decode_reply(r.value or b"") for r in rig.records(REPLIES)]
    assert (found.request, found.lane, found.offset) == ("r1", PLACE.lane, 7)


@pytest.mark.parametrize("verdict", [REFUSED, UNKNOWN_NOT_WRITTEN])
async def test_an_answer_that_could_not_be_sent_is_sent_again(rig: Rig, verdict: Verdict) -> None:
    """Else the api learns it only when it asks again, seconds later."""
    bench = Bench(rig)
    rig.faults.appends[REPLIES] += [verdict, verdict]
    bench.outbox.answer(Answer("r1", 0, b"{}"), 7)
    await idle(bench)
    assert [decode_reply(r.value or b"").request for r in rig.records(REPLIES)] == ["r1"]


async def test_answers_that_cannot_be_sent_at_all_are_given_up_and_hold_up_no_other_api(rig: Rig) -> None:
    bench = Bench(rig)
    bench.outbox.answer(Answer("lost", 99, b"{}"), 7)  # There is no such partition.
    bench.outbox.answer(Answer("r1", 0, b"{}"), 7)
    await until(lambda: rig.records(REPLIES))
    await rig.here.sleep(module.RETRY_S * (module.ANSWER_TRIES_MAX + 1))
    assert bench.outbox.idle
    bench.outbox.check()
    bench.outbox.answer(Answer("r2", 0, b"{}"), 8)
    await idle(bench)
    assert [decode_reply(r.value or b"").request for r in rig.records(REPLIES)] == ["r1", "r2"]


async def test_nothing_is_sent_after_it_was_closed(rig: Rig) -> None:
    bench = Bench(rig)
    bench.message(1)
    await bench.outbox.close()
    await rig.here.sleep(1)
    assert bench.received() == []
    assert bench.notes == []


async def test_a_record_that_its_topic_never_takes_is_given_up_and_those_behind_it_go_on(rig: Rig) -> None:
    await rig.logs["a"].create_topics([TopicSpec("small", 1, record_bytes_max=1_000)])
    bench = Bench(rig)
    bench.record(1, "small", value=b"x" * 2_000)
    bench.record(2, "small")
    await idle(bench)
    (refused,) = [note for note in bench.notes if isinstance(note, RefusePublish)]
    assert (refused.number, "too large" in refused.reason) == (1, True)
    assert [record.value for record in rig.records("small")] == [b"v"]


async def test_a_record_given_up_is_a_dead_letter_with_the_reason(rig: Rig) -> None:
    await rig.logs["a"].create_topics([TopicSpec("small", 1)])
    tables = LaneTables(PLACE, MemoryStore())
    fold(tables, PublishQueued(1, "small", b"k", b"x" * 600_000, (("a", b"1"),), None), START_MS)
    sent, refused, letter = decide(tables, RefusePublish(1, "too large"), START_MS)
    assert sent == PublishesSent((1,))
    assert isinstance(refused, CommandRefused) and refused.subject == "small/-1@1"
    assert isinstance(letter, PublishQueued)
    assert (letter.topic, letter.key, len(letter.value)) == (PLACE.dead_letters_topic, b"k", 512 * 1024)
    assert dict(letter.headers)["millstream-cut-from-bytes"] == b"600000"
    assert decide(tables, RefusePublish(2, "unknown"), START_MS) == []


async def test_a_record_without_a_value_is_sent_without_one(rig: Rig) -> None:
    bench = Bench(rig)
    bench.fold(PublishQueued(1, "tombs", b"k", b"", (TOMBSTONE, ("a", b"1")), None))
    await idle(bench)
    (record,) = rig.records("tombs")
    assert (record.key, record.value, record.headers) == (b"k", None, (("a", b"1"),))
