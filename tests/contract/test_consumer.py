"""Does the fake consumer of `tests/log/fake_brokers.py` do what librdkafka's does? One suite, both.

Only what readers depend on is asked. What a test of readers needs of the fake is asked here first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from millstream.log.kafka.settings import KafkaSettings
from tests.kafka.broker import Broker, fresh
from tests.log.fake_brokers import Brokers

SOON_S = 30.0

Given = list[int | str]


class Cluster(Protocol):
    """A topic of two partitions that a test writes to, and consumers of it."""

    topic: str
    nothing_s: float
    """How long nothing must be given. On a slow machine a wrong consumer may pass; a right one never fails."""

    def consumer(self) -> Any: ...

    def append(self, partition: int, count: int) -> None: ...

    def append_in_transaction(self, partition: int, count: int) -> None:
        """Its end takes an offset that holds no record."""
        ...

    def trim(self, partition: int, before: int) -> None: ...


class FakeCluster:
    """In memory."""

    topic = "t"
    nothing_s = 0.02

    def __init__(self) -> None:
        self.brokers = Brokers()
        self.consumer = self.brokers.make

    def append(self, partition: int, count: int) -> None:
        self.brokers.append(self.topic, partition, *[b"v"] * count)

    def append_in_transaction(self, partition: int, count: int) -> None:
        self.append(partition, count)
        self.brokers.skip(self.topic, partition)

    def trim(self, partition: int, before: int) -> None:
        self.brokers.trim(self.topic, partition, before)


class RealCluster:
    """On the tests' broker."""

    nothing_s = 0.4

    def __init__(self, broker: Broker) -> None:
        self.topic = fresh("consumer")
        self._settings = KafkaSettings(brokers=broker.bootstrap, replication_factor=1, min_insync=1)
        self._admin = AdminClient(self._settings.admin())
        self._plain = Producer(self._settings.lane_producer())
        for made in self._admin.create_topics([NewTopic(self.topic, 2, 1)]).values():
            made.result(SOON_S)

    def consumer(self) -> Consumer:
        return Consumer(self._settings.reader(committed=True, bulk=True))

    def append(self, partition: int, count: int) -> None:
        self._write(self._plain, partition, count)
        assert self._plain.flush(SOON_S) == 0

    def append_in_transaction(self, partition: int, count: int) -> None:
        producer = self._transactional()
        producer.begin_transaction()
        self._write(producer, partition, count)
        producer.commit_transaction(SOON_S)
        self._transactional()  # The end of the one before is written by now.

    def trim(self, partition: int, before: int) -> None:
        for deleted in self._admin.delete_records([TopicPartition(self.topic, partition, before)]).values():
            deleted.result(SOON_S)

    def _transactional(self) -> Producer:
        producer = Producer(self._settings.transactional_producer(self.topic))
        producer.init_transactions(SOON_S)
        return producer

    def _write(self, producer: Producer, partition: int, count: int) -> None:
        for _ in range(count):
            producer.produce(self.topic, b"v", partition=partition)


class Reading:
    """A consumer and what it gave: offsets, and of events the name."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.consumer = cluster.consumer()

    def place(self, offset: int = 0, partition: int = 0) -> TopicPartition:
        return TopicPartition(self.cluster.topic, partition, offset)

    def assign(self, offset: int, partition: int = 0) -> None:
        self.consumer.incremental_assign([self.place(offset, partition)])

    def unassign(self) -> None:
        self.consumer.incremental_unassign([self.place()])

    def gives(self, count: int) -> Given:
        """The next so many."""
        given: Given = []
        until = time.monotonic() + SOON_S
        while len(given) < count:
            assert time.monotonic() < until, f"expected {count}, got {given} within {SOON_S:g} s"
            message = self.consumer.poll(0.1)
            if message is not None:
                given += [_shown(one) for one in (message, *self.consumer.consume(count - len(given) - 1, 0))]
        return given

    def gives_nothing(self) -> bool:
        return self.consumer.poll(self.cluster.nothing_s) is None

    def has_fetched(self) -> None:
        """Give it time to fetch ahead. Whether it did cannot be seen, and must not matter."""
        time.sleep(self.cluster.nothing_s)

    def is_refused(self, what: Callable[[], object]) -> int:
        with pytest.raises(KafkaException) as refused:
            what()
        return int(refused.value.args[0].code())


def _shown(message: Message) -> int | str:
    error, offset = message.error(), message.offset()
    assert offset is not None
    return offset if error is None else f"{error.name()} at {offset}"


def end(offset: int) -> str:
    return f"_PARTITION_EOF at {offset}"


@pytest.fixture(params=["fake", "kafka"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return FakeCluster() if request.param == "fake" else RealCluster(request.getfixturevalue("kafka"))


@pytest.fixture
def reading(cluster: Cluster) -> Iterator[Reading]:
    made = Reading(cluster)
    yield made
    made.consumer.close()


def test_it_gives_records_in_order_and_says_each_end_once(cluster: Cluster, reading: Reading) -> None:
    cluster.append(0, 4)
    reading.assign(1)
    assert reading.gives(4) == [1, 2, 3, end(4)]
    assert reading.gives_nothing()
    cluster.append(0, 1)
    assert reading.gives(2) == [4, end(5)]
    assert reading.gives_nothing()


def test_it_passes_over_offsets_without_a_record(cluster: Cluster, reading: Reading) -> None:
    cluster.append_in_transaction(0, 2)
    cluster.append(0, 1)
    cluster.append_in_transaction(0, 1)
    reading.assign(0)
    assert reading.gives(5) == [0, 1, 3, 4, end(6)]


def test_an_empty_partition_has_an_end(reading: Reading) -> None:
    reading.assign(0)
    assert reading.gives(1) == [end(0)]


def test_partitions_are_read_side_by_side(cluster: Cluster, reading: Reading) -> None:
    cluster.append(0, 2)
    cluster.append(1, 2)
    reading.assign(1, 0)
    reading.assign(0, 1)
    assert sorted(map(str, reading.gives(5))) == sorted(map(str, [1, end(2), 0, 1, end(2)]))


def test_a_seek_begins_anew_and_drops_what_was_fetched(cluster: Cluster, reading: Reading) -> None:
    cluster.append(0, 5)
    reading.assign(0)
    assert reading.gives(1) == [0]
    reading.has_fetched()
    reading.consumer.seek(reading.place(3))
    assert reading.gives(3) == [3, 4, end(5)]
    reading.consumer.seek(reading.place(4))
    assert reading.gives(2) == [4, end(5)]


def test_a_pause_drops_what_was_fetched_and_a_resume_loses_none_of_it(cluster: Cluster, reading: Reading) -> None:
    cluster.append(0, 5)
    reading.assign(0)
    assert reading.gives(2) == [0, 1]
    reading.has_fetched()
    reading.consumer.pause([reading.place()])
    assert reading.gives_nothing()
    cluster.append(0, 1)
    reading.consumer.resume([reading.place()])
    assert reading.gives(5) == [2, 3, 4, 5, end(6)]


def test_what_is_sought_while_it_is_paused_is_given_when_it_is_resumed(cluster: Cluster, reading: Reading) -> None:
    cluster.append(0, 5)
    reading.assign(0)
    reading.gives(6)
    reading.consumer.pause([reading.place()])
    reading.consumer.seek(reading.place(3))
    assert reading.gives_nothing()
    reading.consumer.resume([reading.place()])
    assert reading.gives(3) == [3, 4, end(5)]


def test_a_partition_that_is_let_go_while_it_is_paused_comes_back_paused(cluster: Cluster, reading: Reading) -> None:
    cluster.append(0, 3)
    reading.assign(0)
    reading.gives(4)
    reading.consumer.pause([reading.place()])
    reading.unassign()
    reading.assign(1)
    assert reading.gives_nothing()
    reading.consumer.resume([reading.place()])
    assert reading.gives(3) == [1, 2, end(3)]


def test_resuming_what_is_not_paused_changes_nothing(cluster: Cluster, reading: Reading) -> None:
    cluster.append(0, 2)
    reading.assign(0)
    reading.consumer.resume([reading.place()])
    assert reading.gives(3) == [0, 1, end(2)]
    reading.consumer.resume([reading.place()])
    assert reading.gives_nothing()


def test_nothing_is_given_of_a_partition_that_was_let_go(cluster: Cluster, reading: Reading) -> None:
    cluster.append(0, 3)
    reading.assign(0)
    assert reading.gives(1) == [0]
    reading.has_fetched()
    reading.unassign()
    assert reading.gives_nothing()


@pytest.mark.parametrize("offset", [1, 7])
def test_a_position_that_is_not_there_stops_the_partition_until_it_is_assigned_anew(
    cluster: Cluster, reading: Reading, offset: int
) -> None:
    cluster.append(0, 6)
    cluster.trim(0, 3)
    reading.assign(offset)
    assert reading.gives(1) == [f"_AUTO_OFFSET_RESET at {offset}"]
    cluster.append(0, 3)
    assert reading.gives_nothing()
    assert reading.is_refused(lambda: reading.consumer.seek(reading.place(4))) == KafkaError._STATE
    reading.unassign()
    reading.assign(7)
    assert reading.gives(3) == [7, 8, end(9)]


def test_a_seek_to_what_is_not_there_stops_the_partition(cluster: Cluster, reading: Reading) -> None:
    cluster.append(0, 2)
    reading.assign(0)
    reading.gives(3)
    reading.consumer.seek(reading.place(9))
    assert reading.gives(1) == ["_AUTO_OFFSET_RESET at 9"]


def test_what_cannot_be_done_is_refused(cluster: Cluster, reading: Reading) -> None:
    assert reading.is_refused(lambda: reading.consumer.seek(reading.place(0))) == KafkaError._UNKNOWN_PARTITION
    assert reading.is_refused(reading.unassign) == KafkaError._INVALID_ARG
    reading.consumer.pause([reading.place()])  # Nobody minds.
    reading.consumer.resume([reading.place()])
    reading.assign(0)
    assert reading.is_refused(lambda: reading.assign(0)) == KafkaError._CONFLICT


def test_a_closed_consumer_does_nothing_more(reading: Reading) -> None:
    reading.assign(0)
    reading.consumer.close()
    for what in (lambda: reading.consumer.poll(0), lambda: reading.consumer.consume(1, 0), reading.unassign):
        with pytest.raises(RuntimeError, match="Consumer closed"):
            what()
    reading.consumer.close()
