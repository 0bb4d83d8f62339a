"""What a member of a group promises to the readers of its lanes, on the product's thread over brokers in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError

from millstream.errors import LogUnavailable, OffsetOutOfRange
from millstream.log.kafka.admin.shapes import Shape
from millstream.log.kafka.group import KafkaMembership
from millstream.log.port import TopicSpec
from tests.log.fake_brokers import Brokers, Consumer
from tests.log.kafka_reading import EVENTS, SOON_S, offsets_upto, read_once, until

LANES = (0, 1)
INBOX = "g.inbox"
MANY = 25_000
"""More than a reader's buffer holds."""


class Log(Brokers):
    """What a membership asks of its log."""

    def find(self, topic: str, partition: int) -> Shape:
        return Shape(TopicSpec(topic, len(LANES)), 1 << 20)

    async def look(self, topic: str) -> Shape | None:
        return self.find(topic, 0)

    def member_consumer(self, group: str) -> Any:
        return self.make()


class Member:
    """A member that takes notes; ``gain`` and ``lose`` are what its group decides."""

    def __init__(self) -> None:
        self.brokers = Log()
        self.membership = KafkaMembership(self.brokers, "g", len(LANES))
        self.held: frozenset[int] = frozenset()

    @property
    def consumer(self) -> Consumer:
        return self.brokers.consumers[-1]

    async def join(self) -> None:
        joining = asyncio.ensure_future(self.membership.join(on_assigned=self._assigned, on_revoked=self._revoked))
        await until(lambda: self.brokers.consumers)
        await self.gain()
        await joining

    async def gain(self) -> None:
        self.consumer.rebalance("on_assign", INBOX, *LANES)
        await until(lambda: self.held)

    async def lose(self) -> None:
        self.consumer.rebalance("on_revoke", INBOX, *LANES)
        await until(lambda: not self.held and not self.consumer.assigned)

    async def _assigned(self, lanes: frozenset[int]) -> None:
        self.held |= lanes

    async def _revoked(self, lanes: frozenset[int]) -> None:
        self.held -= lanes


@contextlib.asynccontextmanager
async def member() -> AsyncIterator[Member]:
    made = Member()
    await made.join()
    try:
        yield made
    finally:
        await made.membership.leave()
        assert made.consumer.is_closed and not made.held


async def test_an_inbox_is_read_from_where_its_lane_says() -> None:
    async with member() as of:
        of.brokers.append(INBOX, 0, b"a", b"b", b"c")
        assert of.consumer.paused == {(INBOX, lane) for lane in LANES}, "until then nothing of it is fetched"
        assert await offsets_upto(of.membership.reader(INBOX, 0, 1), 3) == [1, 2]


async def test_a_source_whose_reader_was_full_when_its_lane_went_is_read_when_the_lane_is_back() -> None:
    async with member() as of:
        of.brokers.append(EVENTS, 0, *[b"x"] * MANY)
        of.membership.reader(EVENTS, 0, 0)
        await until(lambda: (EVENTS, 0) in of.consumer.paused)
        await of.lose()
        await of.gain()
        assert await offsets_upto(of.membership.reader(EVENTS, 0, 0), MANY) == list(range(MANY))


async def test_an_inbox_that_had_stopped_at_an_offset_that_is_gone_is_read_from_the_start_that_is_left() -> None:
    async with member() as of:
        of.brokers.append(INBOX, 1, *[b"x"] * 6)
        of.brokers.trim(INBOX, 1, 4)
        reader = of.membership.reader(INBOX, 1, 2)
        with pytest.raises(OffsetOutOfRange):
            await read_once(reader)
        reader.seek(4)
        assert await offsets_upto(reader, 6) == [4, 5]


async def test_readers_end_with_their_lane() -> None:
    async with member() as of:
        reader = of.membership.reader(EVENTS, 0, 0)
        await until(lambda: (EVENTS, 0) in of.consumer.assigned)
        await of.lose()
        with pytest.raises(LogUnavailable, match="went to another worker with its lane"):
            await read_once(reader)
        with pytest.raises(LogUnavailable, match="which another worker has"):
            await read_once(of.membership.reader(EVENTS, 0, 0))


async def test_the_newest_reader_of_a_partition_takes_it_over() -> None:
    async with member() as of:
        of.brokers.append(EVENTS, 0, b"a", b"b")
        old = of.membership.reader(EVENTS, 0, 0)
        assert await offsets_upto(old, 2) == [0, 1]
        assert await offsets_upto(of.membership.reader(EVENTS, 0, 1), 2) == [1]
        with pytest.raises(LogUnavailable, match="has a newer reader"):
            await read_once(old)


async def test_whether_a_lane_is_held_is_asked_of_the_group_with_a_commit() -> None:
    async with member() as of:
        assert await asyncio.wait_for(of.membership.still_owns(1, inbox_position=7), SOON_S)
        assert of.consumer.committed == {(INBOX, 1): 7}
        await of.lose()
        assert not await asyncio.wait_for(of.membership.still_owns(1, inbox_position=8), SOON_S)
        await of.gain()


def _fatal(of: Member) -> None:
    of.brokers.complain(KafkaError(KafkaError._FATAL, "it cannot go on"))


def _raises(of: Member) -> None:
    def ended(consumer: Consumer) -> None:
        raise ZeroDivisionError("a bug")

    fetcher = of.membership._fetcher
    assert fetcher is not None
    fetcher.post(ended)  # type: ignore[arg-type]


def _cannot_be_closed(of: Member) -> None:
    of.consumer.is_closed = True  # Whatever is asked of it now raises, and it revokes nothing.


@pytest.mark.parametrize("end", [_fatal, _raises, _cannot_be_closed])
async def test_a_member_whose_thread_ends_gives_its_lanes_up_and_joins_again(
    end: Callable[[Member], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.log.kafka.group.JOIN_AGAIN_S", 0.05)
    async with member() as of:
        of.brokers.append(INBOX, 0, b"a", b"b")
        reader, first = of.membership.reader(INBOX, 0, 0), of.consumer
        assert await offsets_upto(reader, 2) == [0, 1]
        assert of.membership.live
        of.brokers.refuse_consumers(2)
        end(of)
        await until(lambda: not of.membership.live and not of.held)
        with pytest.raises(LogUnavailable):
            await read_once(reader)
        await until(lambda: of.consumer is not first)
        assert not of.membership.live, "until the group has answered"
        await of.gain()
        await until(lambda: of.membership.live)
        assert await offsets_upto(of.membership.reader(INBOX, 0, 1), 2) == [1]
        assert await asyncio.wait_for(of.membership.still_owns(0, inbox_position=2), SOON_S)


async def test_a_member_that_cannot_join_says_so_at_once() -> None:
    of = Member()
    of.brokers.refuse_consumers(1)
    with pytest.raises(LogUnavailable, match="no consumer can be made"):
        await of.membership.join(on_assigned=of._assigned, on_revoked=of._revoked)
    await asyncio.sleep(0.1)
    assert of.brokers.consumers == [], "it does not join behind the back of who was told that it has not"


async def test_a_member_that_waits_to_join_again_can_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.log.kafka.group.JOIN_AGAIN_S", 0.05)
    async with member() as of:
        _fatal(of)
        await until(lambda: not of.membership.live)
        await of.membership.leave()
        await asyncio.sleep(0.2)
        assert len(of.brokers.consumers) == 1
