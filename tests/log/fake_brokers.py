"""Brokers in memory and the consumers that read from them: of librdkafka, what our fetchers call and no more.

    brokers = Brokers()
    pool = Pool(brokers.make, loop)                       # the pool's own seam: who makes its consumers
    brokers.append("t", 0, b"a", b"b"); brokers.skip("t", 0); brokers.trim("t", 0, 1)

What a real consumer does that readers depend on (`tests/contract/test_consumer.py` holds both to it):

    * it fetches ahead, whatever there is, into one queue for all its partitions; each end is said once
    * seek, pause and unassign throw away what was fetched ahead; resume goes on behind what was handed out
    * a pause outlives the assignment: a partition that is let go while it is paused comes back paused
    * a position that is not there stops the partition with an error: it cannot be sought then, only assigned again

Two ways to make the order of things certain: while ``held`` nothing is handed out, and what is fetched waits in the
queue; while ``silent`` nothing is fetched. ``Brokers`` are also the ``Bounds`` of the readers.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from millstream.errors import LogUnavailable

Key = tuple[str, int]
AT_MS = 1_700_000_000_000


@dataclass
class _Partition:
    start: int = 0
    end: int = 0
    values: dict[int, bytes] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)


@dataclass
class _Assigned:
    """A partition of a consumer: up to where it is fetched, and up to where it was handed out."""

    fetched: int
    handed: int
    end_said: int = -1
    stopped: bool = False


class Brokers:
    """See the module."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.partitions: defaultdict[Key, _Partition] = defaultdict(_Partition)
        self.consumers: list[Consumer] = []
        self.is_held = False
        self.is_silent = False
        self.is_closed = False
        self._refusals = 0

    def make(self, alone: bool = False) -> Any:
        """A consumer."""
        with self.changed:
            if self._refusals:
                self._refusals -= 1
                raise KafkaException(KafkaError(KafkaError._INVALID_ARG, "no consumer can be made"))
            self.consumers.append(Consumer(self, alone))
            return self.consumers[-1]

    # --- what others write ------------------------------------------------------------------------

    def append(self, topic: str, partition: int, *values: bytes) -> int:
        """Write records; the offset behind them."""
        with self.changed:
            found = self.partitions[topic, partition]
            for value in values:
                found.values[found.end] = value
                found.end += 1
            self._fetch_all()
            return found.end

    def skip(self, topic: str, partition: int, count: int = 1) -> int:
        """Offsets that hold no record: what compaction removed, or the end of a transaction."""
        with self.changed:
            self.partitions[topic, partition].end += count
            self._fetch_all()
            return self.partitions[topic, partition].end

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Delete the records below an offset."""
        with self.changed:
            found = self.partitions[topic, partition]
            found.start = before
            found.values = {offset: value for offset, value in found.values.items() if offset >= before}

    # --- what goes wrong --------------------------------------------------------------------------

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is handed out meanwhile; what is fetched waits."""
        with self.changed:
            self.is_held = True
        yield
        with self.changed:
            self.is_held = False
            self.changed.notify_all()

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Nothing is fetched meanwhile."""
        with self.changed:
            self.is_silent = True
        yield
        with self.changed:
            self.is_silent = False
            self._fetch_all()

    def fail(self, topic: str, partition: int, code: int) -> None:
        """Say an error about a partition to those who read it."""
        self._say(KafkaError(code), topic, partition)

    def complain(self, error: KafkaError) -> None:
        """Say an error about no partition to every consumer."""
        self._say(error)

    def refuse_consumers(self, times: int) -> None:
        """The next consumers cannot be made."""
        self._refusals = times

    def lose(self, topic: str, partition: int, offset: int) -> None:
        """The next fetch of this record passes over it, as no fetch should."""
        with self.changed:
            self.partitions[topic, partition].lost.add(offset)

    def give(self, topic: str, partition: int, *offsets: int) -> None:
        """Hand out these records whether it is their turn or not, as no consumer should."""
        with self.changed:
            for consumer in self._readers_of((topic, partition)):
                consumer.queue += [self._message((topic, partition), offset) for offset in offsets]
            self.changed.notify_all()

    # --- Bounds -----------------------------------------------------------------------------------

    def must_be_alive(self) -> None:
        """As the log: refuses once it is closed."""
        if self.is_closed:
            raise LogUnavailable("this log was closed; nothing was done")

    async def start_offset(self, topic: str, partition: int) -> int:
        """Where the partition begins."""
        return self.partitions[topic, partition].start

    async def end_offset(self, topic: str, partition: int) -> int:
        """Where it ends."""
        return self.partitions[topic, partition].end

    # --- for the consumers, under the lock --------------------------------------------------------

    def fetch(self, consumer: Consumer, key: Key, place: _Assigned) -> None:
        """What a consumer does not have yet of a partition goes into its queue."""
        if self.is_silent or place.stopped or key in consumer.paused:
            return
        found = self.partitions[key]
        if not found.start <= place.fetched <= found.end:
            place.stopped = True
            consumer.queue.append(
                _event(key, place.fetched, KafkaError(KafkaError._AUTO_OFFSET_RESET, "no such offset"))
            )
        else:
            for offset in range(place.fetched, found.end):
                if offset in found.lost:
                    found.lost.discard(offset)
                elif offset in found.values:
                    consumer.queue.append(self._message(key, offset))
            place.fetched = found.end
            if place.end_said != found.end:
                place.end_said = found.end
                consumer.queue.append(_event(key, found.end, KafkaError(KafkaError._PARTITION_EOF)))
        self.changed.notify_all()

    def _fetch_all(self) -> None:
        for consumer in self.consumers:
            for key, place in consumer.assigned.items():
                self.fetch(consumer, key, place)

    def _message(self, key: Key, offset: int) -> Message:
        value = self.partitions[key].values[offset]
        return Message(topic=key[0], partition=key[1], offset=offset, value=value, timestamp=(1, AT_MS + offset))

    def _readers_of(self, key: Key) -> list[Consumer]:
        return [consumer for consumer in self.consumers if key in consumer.assigned]

    def _say(self, error: KafkaError, topic: str | None = None, partition: int = -1) -> None:
        with self.changed:
            about = self.consumers if topic is None else self._readers_of((topic, partition))
            for consumer in about:
                consumer.queue.append(_event((topic, partition), -1001, error))
            self.changed.notify_all()


class Consumer:
    """Of ``confluent_kafka.Consumer`` what the fetchers call; ``Brokers.make`` makes them."""

    def __init__(self, brokers: Brokers, alone: bool) -> None:
        self.alone = alone
        self.assigned: dict[Key, _Assigned] = {}
        self.paused: set[Key] = set()
        self.queue: deque[Message] = deque()
        self.is_closed = False
        self.committed: dict[Key, int] = {}
        self._brokers = brokers
        self._callbacks: dict[str, Callable[[Any, list[TopicPartition]], None]] = {}
        self._rebalances: deque[tuple[str, list[TopicPartition]]] = deque()

    def incremental_assign(self, places: Sequence[TopicPartition]) -> None:
        """Fetch these too."""
        with self._in_use():
            for one in places:
                if _key(one) in self.assigned:
                    raise KafkaException(KafkaError(KafkaError._CONFLICT, f"{one} is assigned already"))
                self.assigned[_key(one)] = place = _Assigned(one.offset, one.offset)
                self._brokers.fetch(self, _key(one), place)

    def incremental_unassign(self, places: Sequence[TopicPartition]) -> None:
        """Fetch these no more."""
        with self._in_use():
            for one in places:
                if self.assigned.pop(_key(one), None) is None:
                    raise KafkaException(KafkaError(KafkaError._INVALID_ARG, f"{one} is not assigned"))
                self._throw_away(_key(one))
            self._brokers.changed.notify_all()

    def assignment(self) -> list[TopicPartition]:
        """What is fetched."""
        with self._in_use():
            return [TopicPartition(*key) for key in self.assigned]

    def seek(self, to: TopicPartition) -> None:
        """Fetch from an offset on."""
        with self._in_use():
            place = self.assigned.get(_key(to))
            if place is None:
                raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION, f"{to} is not assigned"))
            if place.stopped:
                raise KafkaException(KafkaError(KafkaError._STATE, f"{to} has stopped"))
            self._throw_away(_key(to))
            place.fetched, place.handed, place.end_said = to.offset, to.offset, -1
            self._brokers.fetch(self, _key(to), place)

    def pause(self, places: Sequence[TopicPartition]) -> None:
        """Hand out nothing of these until they are resumed."""
        with self._in_use():
            for one in places:
                self.paused.add(_key(one))
                self._throw_away(_key(one))
                if place := self.assigned.get(_key(one)):
                    place.fetched, place.end_said = place.handed, -1

    def resume(self, places: Sequence[TopicPartition]) -> None:
        """Go on behind what was handed out."""
        with self._in_use():
            for one in places:
                self.paused.discard(_key(one))
                if place := self.assigned.get(_key(one)):
                    self._brokers.fetch(self, _key(one), place)

    def poll(self, timeout: float) -> Message | None:
        """The next record or event, waited for. Calls back about the group first, in the caller's thread."""
        while True:
            with self._in_use():
                if not self._rebalances:
                    break
                what, places = self._rebalances.popleft()
            self._callbacks[what](self, places)
        until = time.monotonic() + timeout
        with self._in_use():
            while self._brokers.is_held or not self.queue:
                left = until - time.monotonic()
                if left <= 0 or self._rebalances:
                    return None
                self._brokers.changed.wait(left)
            return self._hand_out()

    def consume(self, most: int, timeout: float) -> list[Message]:
        """What else is there already."""
        assert timeout == 0, "nobody here waits for more than one"
        with self._in_use():
            return [self._hand_out() for _ in range(0 if self._brokers.is_held else min(most, len(self.queue)))]

    def close(self) -> None:
        """Leave the group and end."""
        if not self.is_closed and "on_revoke" in self._callbacks:
            self._callbacks["on_revoke"](self, self.assignment())
        with self._brokers.changed:
            self.is_closed = True
            self.assigned.clear()
            self.queue.clear()

    # --- as a member of a group -------------------------------------------------------------------

    def subscribe(self, topics: list[str], **callbacks: Callable[[Any, list[TopicPartition]], None]) -> None:
        """Be a member: ``poll`` calls back ``on_assign``, ``on_revoke`` and ``on_lost``."""
        with self._in_use():
            self._callbacks = callbacks

    def rebalance(self, what: str, topic: str, *partitions: int) -> None:
        """The group has decided: the next poll says so."""
        with self._in_use():
            self._rebalances.append((what, [TopicPartition(topic, partition) for partition in partitions]))
            self._brokers.changed.notify_all()

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        """Commit positions."""
        with self._in_use():
            self.committed |= {_key(one): one.offset for one in offsets}
            return offsets

    # --- under the lock ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        with self._brokers.changed:
            if self.is_closed:
                raise RuntimeError("Consumer closed")
            yield

    def _hand_out(self) -> Message:
        message = self.queue.popleft()
        place = self.assigned.get((message.topic(), message.partition()))  # type: ignore[arg-type]
        if place is not None and message.error() is None:
            place.handed = max(place.handed, message.offset() + 1)  # type: ignore[operator]
        return message

    def _throw_away(self, key: Key) -> None:
        left = [message for message in self.queue if (message.topic(), message.partition()) != key]
        self.queue = deque(left)


def _key(place: TopicPartition) -> Key:
    return place.topic, place.partition


def _event(key: tuple[str | None, int], offset: int, error: KafkaError) -> Message:
    return Message(topic=key[0], partition=key[1], offset=offset, error=error)
