"""Fetching for readers: consumers of librdkafka, each with a thread that hands out what arrives.

    Fetcher    one consumer and its thread; serves any number of readers, several of one partition too
    Pool       the fetchers of a log: a reader begins alone with a consumer of its own, which reads as fast as the
               brokers give and simply stops looking while the buffer is full; once it has reached the end it moves to
               the one consumer that all followers share

Sharing needs ``pause``, which throws away what was fetched ahead; a consumer a reader needs threads and connections.
So each is used where it costs nothing. Commands to a thread are obeyed between two looks, ``LOOK_S`` apart at most.

Readers of one partition in one fetcher are fed by one fetch: it begins at the lowest position that is wanted, and each
takes what it has not had. One whose buffer is full misses what comes meanwhile; it is fetched again when there is room.
One whose position the partition does not have is told so once, and left out until it seeks, so that others go on. The
brokers refuse only the position of the fetch: one behind the end shows when the fetch reaches the end.

A consumer that ends by itself, with a fatal error, is logged and replaced; its readers go on with the new one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from millstream.log.kafka.admin.shapes import PartitionKey
from millstream.log.kafka.errors import message_of
from millstream.log.kafka.reading.readers import NOT_THERE, KafkaReader, Run
from millstream.log.port import Record
from millstream.telemetry import say

LOG: Final = logging.getLogger("millstream.log.kafka")
LOOK_S: Final = 0.02
LOOK_RECORDS_MAX: Final = 2_000
FULL_LOOK_S: Final = 0.002
ALONE_MAX: Final = 3
FOLLOWS_AFTER_S: Final = 0.3
"""Time at the end of its partition after which a reader follows; before, it may be about to be closed."""
ANEW_AFTER_S: Final = 1.0
"""Time between the end of a consumer and the start of the one that replaces it: that may end at once, too."""
CLOSED_WITHIN_S: Final = 30.0
BEHIND_END: Final = KafkaError(KafkaError.OFFSET_OUT_OF_RANGE)


class Holding(Protocol):
    """How a consumer comes to a partition and lets go of it."""

    def attach(self, consumer: Consumer, key: PartitionKey, offset: int) -> None: ...

    def detach(self, consumer: Consumer, key: PartitionKey) -> None: ...


class Assigning:
    """Partitions that we assign ourselves, without a group."""

    def attach(self, consumer: Consumer, key: PartitionKey, offset: int) -> None:
        """Begin to fetch a partition."""
        place = TopicPartition(*key, offset)
        consumer.incremental_assign([place])
        consumer.resume([place])  # A pause outlives the assignment: it may have been paused when it was detached.

    def detach(self, consumer: Consumer, key: PartitionKey) -> None:
        """Fetch it no more."""
        consumer.incremental_unassign([TopicPartition(*key)])


class _Place:
    """A reader as the thread sees it: what it needs next."""

    __slots__ = ("full", "generation", "need", "reader")

    def __init__(self, reader: KafkaReader, offset: int, generation: int) -> None:
        self.reader = reader
        self.need = offset
        self.generation = generation
        self.full = False

    def put(self, run: Run) -> None:
        reader = self.reader
        reader.put_bytes += run.size
        reader.put_records += len(run.records)
        reader.runs.append(run)
        self.need = run.position
        if reader.over_full:
            self.full = reader.full = True

    def miss(self, error: KafkaError) -> None:
        """The partition does not have what it needs: nothing more comes until it seeks."""
        self.reader.runs.append(Run(self.generation, [], 0, self.need, error))
        self.full = True


class _Feed:
    """One partition in one consumer."""

    __slots__ = ("ended_at", "key", "next", "paused", "places")

    def __init__(self, key: PartitionKey, offset: int) -> None:
        self.key = key
        self.next = offset
        self.paused = False
        self.places: dict[KafkaReader, _Place] = {}
        self.ended_at = 0.0  # Since when it is at the end of the partition; 0: it is not.


class Fetcher:
    """One consumer and its thread. The methods are for the loop; those with an underscore run in the thread."""

    def __init__(
        self,
        make: Callable[[], Consumer],
        loop: asyncio.AbstractEventLoop,
        holding: Holding,
        *,
        follow: Callable[[KafkaReader, int, int], None] | None = None,
        ended: Callable[[Fetcher], None] | None = None,
    ) -> None:
        """``follow``: this one is for a reader alone; called on the loop when that has reached the end. ``ended``:
        called on the loop when the thread has ended without being stopped."""
        self.feeds: dict[PartitionKey, _Feed] = {}
        self._make = make
        self._loop = loop
        self._holding = holding
        self._follow = follow
        self._ended = ended
        self._commands: deque[Callable[[Consumer], None]] = deque()
        self._asked = threading.Event()
        self._touched: dict[KafkaReader, None] = {}
        self._to_wake: deque[KafkaReader] = deque()
        self._stopping = False
        self._readers: list[KafkaReader] = []
        self.thread = threading.Thread(target=self._run, name="millstream-fetch", daemon=True)

    # --- for the loop ---------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self.thread.start()

    def stop(self) -> None:
        """End soon; ``thread`` has ended then."""
        self._stopping = True
        self._asked.set()

    def open(self, reader: KafkaReader, offset: int, generation: int) -> None:
        """Feed a reader from an offset on."""
        reader.fetches = self
        self._readers = [*self.readers(), reader]
        self.post(lambda consumer: self._open(consumer, reader, offset, generation))

    def readers(self) -> list[KafkaReader]:
        """The open readers that it feeds or will feed."""
        return [reader for reader in self._readers if reader.fetches is self and not reader.closed]

    def seek(self, reader: KafkaReader) -> None:
        """Feed it from its new position on."""
        offset, generation = reader.position, reader.generation
        self.post(lambda consumer: self._seek(consumer, reader, offset, generation))

    def drained(self, reader: KafkaReader) -> None:
        """Its buffer has capacity again."""
        self.post(lambda consumer: self._drained(consumer, reader))

    def close(self, reader: KafkaReader) -> None:
        """Feed it no more."""
        self.post(lambda consumer: self._close(consumer, reader))

    def post(self, command: Callable[[Consumer], None]) -> None:
        """Have the thread do something."""
        self._commands.append(command)
        self._asked.set()

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            consumer = self._make()
            try:
                while not self._stopping:
                    self._obey(consumer)
                    self._look(consumer)
            finally:
                consumer.close()
        except KafkaException as error:
            say(LOG, "fetching ended", level=logging.ERROR, why=message_of(error, "the consumer has ended"))
        finally:
            if self._ended is not None and not self._stopping:
                self.call(self._ended, self)

    def _obey(self, consumer: Consumer) -> None:
        self._asked.clear()
        while self._commands:
            try:
                self._commands.popleft()(consumer)
            except KafkaException as error:
                # The reader it was for hears nothing and tries again; the others go on.
                say(LOG, "fetching failed", level=logging.ERROR, why=str(error))

    def _look(self, consumer: Consumer) -> None:
        """Take what has arrived, or wait a little."""
        if not self.feeds:
            if not self._stopping:  # It may have been told to between the last look at that and ``_obey``.
                self._asked.wait()
            return
        if self._follow is not None:
            if all(place.full for feed in self.feeds.values() for place in feed.places.values()):
                self._asked.wait(FULL_LOOK_S)  # The library fetches ahead up to its limit, and keeps it.
                return
            self._send_followers(consumer)
        self.take(consumer)

    def take(self, consumer: Consumer) -> None:
        """One look at what has arrived."""
        first = consumer.poll(LOOK_S)
        if first is None:
            return
        self._hand_out(consumer, [first, *consumer.consume(LOOK_RECORDS_MAX, 0)])

    def _hand_out(self, consumer: Consumer, messages: list[Message]) -> None:
        key: PartitionKey | None = None
        records: list[Record] = []
        size, last = 0, -1
        for message in messages:
            error = message.error()
            place: PartitionKey = (message.topic(), message.partition())  # type: ignore[assignment]
            offset: int = message.offset()  # type: ignore[assignment]
            if error is not None or place != key or offset <= last:  # A run is in order.
                if records and key is not None:
                    self._deliver(consumer, key, records, size)
                key, records, size = place, [], 0
                if error is not None:
                    self._note(key, message, error)
                    continue
            value, name = message.value(), message.key()
            headers = message.headers()
            record = Record(offset, message.timestamp()[1], value, name, _headers(headers) if headers else ())
            last = offset
            size += (len(value) if value is not None else 0) + (len(name) if name is not None else 0)
            records.append(record)
        if records and key is not None:
            self._deliver(consumer, key, records, size)
        self._schedule_wake()

    def _deliver(self, consumer: Consumer, key: PartitionKey, records: list[Record], size: int) -> None:
        feed = self.feeds.get(key)
        if feed is None:
            return  # Fetched before it was let go of.
        feed.ended_at = 0.0
        feed.next = behind = records[-1].offset + 1
        for place in feed.places.values():
            if place.full or place.need >= behind:
                continue
            fresh, fresh_size = records, size
            if records[0].offset < place.need:
                fresh = [record for record in records if record.offset >= place.need]
                fresh_size = sum(len(record.value or b"") + len(record.key or b"") for record in fresh)
            place.put(Run(place.generation, fresh, fresh_size, behind))
            self._touched[place.reader] = None
        if self._follow is None and not feed.paused and all(place.full for place in feed.places.values()):
            consumer.pause([TopicPartition(*key)])
            feed.paused = True

    def _note(self, key: PartitionKey, message: Message, error: KafkaError) -> None:
        """The end of a partition, or an error. One that is about no partition is ignored here, unless it is fatal."""
        if error.fatal() or error.code() == KafkaError._FATAL:
            raise KafkaException(error)
        feed = self.feeds.get(key)
        if feed is None:
            return
        if error.code() == KafkaError._PARTITION_EOF:
            end: int = message.offset()  # type: ignore[assignment]
            feed.next = end
            feed.ended_at = feed.ended_at or time.monotonic()
            for place in feed.places.values():
                if not place.full and place.need < end:
                    place.put(Run(place.generation, [], 0, end))
                    self._touched[place.reader] = None
                elif not place.full and place.need > end:
                    self._miss(place, BEHIND_END)
            return
        for place in feed.places.values():
            if error.code() in NOT_THERE:
                self._miss(place, error)  # Whose position was refused is not said: each reader looks.
            else:
                place.reader.runs.append(Run(place.generation, [], 0, place.need, error))
                self._touched[place.reader] = None

    def _miss(self, place: _Place, error: KafkaError) -> None:
        if not place.full:
            place.miss(error)
            self._touched[place.reader] = None

    def _schedule_wake(self) -> None:
        if self._touched:
            self._to_wake.extend(self._touched)
            self._touched.clear()
            self.call(self._wake)

    def _wake(self) -> None:
        """On the loop."""
        while self._to_wake:
            self._to_wake.popleft().wake()

    def call(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call back on the loop, from the thread."""
        with suppress(RuntimeError):  # The loop is closed: nobody is there any more.
            self._loop.call_soon_threadsafe(callback, *arguments)

    # --- commands, in the thread ----------------------------------------------------------------

    def _open(self, consumer: Consumer, reader: KafkaReader, offset: int, generation: int) -> None:
        key = (reader.topic, reader.partition)
        feed = self.feeds.get(key)
        if feed is None:
            feed = self.feeds[key] = _Feed(key, offset)
            feed.places[reader] = _Place(reader, offset, generation)
            self._holding.attach(consumer, key, offset)
            return
        place = feed.places[reader] = _Place(reader, offset, generation)
        if feed.ended_at and offset > feed.next:
            self._miss(place, BEHIND_END)  # The end was reached before it came, and is not told again.
            self._schedule_wake()
        self._reach(consumer, feed)

    def _seek(self, consumer: Consumer, reader: KafkaReader, offset: int, generation: int) -> None:
        feed = self.feeds.get((reader.topic, reader.partition))
        if feed is None or reader not in feed.places:
            return
        feed.places[reader] = _Place(reader, offset, generation)
        feed.next = -1  # Wherever it is: fetching begins again there.
        self._reach(consumer, feed)

    def _drained(self, consumer: Consumer, reader: KafkaReader) -> None:
        feed = self.feeds.get((reader.topic, reader.partition))
        if feed is not None and reader in feed.places:
            feed.places[reader].full = False
            self._reach(consumer, feed)

    def _close(self, consumer: Consumer, reader: KafkaReader) -> None:
        key = (reader.topic, reader.partition)
        feed = self.feeds.get(key)
        if feed is None or feed.places.pop(reader, None) is None:
            return
        if not feed.places:
            del self.feeds[key]
            with suppress(KafkaException):  # The group took it meanwhile.
                self._holding.detach(consumer, key)

    def _reach(self, consumer: Consumer, feed: _Feed) -> None:
        """Fetch from the lowest position that a reader with buffer capacity needs."""
        needs = [place.need for place in feed.places.values() if not place.full]
        if not needs:
            return
        lowest = min(needs)
        place = TopicPartition(*feed.key, lowest)
        if lowest < feed.next or feed.next < 0:
            feed.next, feed.ended_at = lowest, 0.0
            try:
                consumer.seek(place)
            except KafkaException:
                # It has stopped for an error, or has not begun.
                with suppress(KafkaException):
                    self._holding.detach(consumer, feed.key)
                feed.paused = False
                self._holding.attach(consumer, feed.key, lowest)
        if feed.paused:
            feed.paused = False
            consumer.resume([TopicPartition(*feed.key)])

    def _send_followers(self, consumer: Consumer) -> None:
        assert self._follow is not None
        since = time.monotonic() - FOLLOWS_AFTER_S
        for key, feed in tuple(self.feeds.items()):
            if 0.0 < feed.ended_at < since:
                del self.feeds[key]
                self._holding.detach(consumer, key)
                for reader, place in feed.places.items():
                    self.call(self._follow, reader, place.need, place.generation)


class Pool:
    """The fetchers of a log, for readers that belong to no group; one pool for each isolation."""

    def __init__(
        self, make: Callable[[bool], Consumer], loop: asyncio.AbstractEventLoop, *, alone_max: int = ALONE_MAX
    ) -> None:
        """``make`` makes a consumer, given whether it is for one reader alone."""
        self._make = make
        self._loop = loop
        self._alone_max = alone_max
        self._shared: Fetcher | None = None
        self._alone: list[Fetcher] = []
        self._busy: dict[Fetcher, KafkaReader] = {}
        self._stopped = False

    def open(self, reader: KafkaReader) -> None:
        """Feed a reader from its position on."""
        for fetcher, other in tuple(self._busy.items()):
            if other.closed:
                del self._busy[fetcher]
        free = next((fetcher for fetcher in self._alone if fetcher not in self._busy), None)
        if free is None and len(self._alone) < self._alone_max:
            free = Fetcher(lambda: self._make(True), self._loop, Assigning(), follow=self._follow, ended=self._ended)
            free.start()
            self._alone.append(free)
        if free is None:
            free = self._followers()
        else:
            self._busy[free] = reader
        free.open(reader, reader.position, reader.generation)

    def _follow(self, reader: KafkaReader, need: int, generation: int) -> None:
        """A reader has reached the end and lets go of its consumer."""
        for fetcher, busy in tuple(self._busy.items()):
            if busy is reader:
                del self._busy[fetcher]
        if reader.closed:
            return
        offset = need if reader.generation == generation else reader.position
        self._followers().open(reader, offset, reader.generation)

    def _ended(self, fetcher: Fetcher) -> None:
        """A consumer has ended by itself: replace it after ``ANEW_AFTER_S``."""
        self._alone = [one for one in self._alone if one is not fetcher]
        self._busy.pop(fetcher, None)
        if self._shared is fetcher:
            self._shared = None
        self._loop.call_later(ANEW_AFTER_S, self._begin_anew, fetcher)

    def _begin_anew(self, fetcher: Fetcher) -> None:
        for reader in () if self._stopped else fetcher.readers():
            reader.seek(reader.position)  # Drops what the old consumer had fetched.
            self.open(reader)

    def _followers(self) -> Fetcher:
        if self._shared is None:
            self._shared = Fetcher(lambda: self._make(False), self._loop, Assigning(), ended=self._ended)
            self._shared.start()
        return self._shared

    def stop(self) -> list[Fetcher]:
        """All fetchers; they end soon."""
        self._stopped = True
        fetchers = [*self._alone, *([self._shared] if self._shared is not None else [])]
        for fetcher in fetchers:
            fetcher.stop()
        return fetchers


def _headers(
    headers: Iterable[tuple[str, bytes | str | None]] | dict[str, bytes | str | None],
) -> tuple[tuple[str, bytes], ...]:
    pairs = headers.items() if isinstance(headers, dict) else headers
    return tuple((name, value if isinstance(value, bytes) else (value or "").encode()) for name, value in pairs)
