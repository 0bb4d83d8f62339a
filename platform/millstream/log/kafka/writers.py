"""Appending to Kafka: a few producers that all writers share, each with a thread that serves its delivery reports.

    append ─> produce ─────────────> librdkafka ─> broker
                                         │
    future <─ one call to the loop <─ the thread: reports of a burst

Closing a writer with records under way ends its ``SharedProducer``: nothing else makes sure that librdkafka does not
send them again later. Other writers of that producer get an unknown outcome for their appends under way, look at the
log, and go on with the next producer; writers without appends under way notice nothing. Records on the wire may still
be stored: readers of journals know by the fence that they do not count.

An append of several records is answered with its first offset only if all of them follow each other; a record can be
reported failed and the next one still be stored (kafka rules of the port: then it is unknown).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from millstream.errors import Busy, LimitExceeded, LogUnavailable
from millstream.log.kafka.admin.shapes import Shape
from millstream.log.kafka.errors import NOT_WRITTEN, mapped, message_of
from millstream.log.port import OutcomeUnknown, Produced
from millstream.log.records import RECORD_OVERHEAD_BYTES, check_shape
from millstream.telemetry import say

LOG: Final = logging.getLogger("millstream.log.kafka")
POLL_S: Final = 0.2
CLOSE_WAIT_S: Final = 1.0
"""How long a closing writer waits for its appends under way before it ends its producer."""
PURGED_WITHIN_S: Final = 30.0
WATCH_EVERY_S: Final = 1.0


class Appends(Protocol):
    """The part of the log that writers use."""

    def must_be_alive(self) -> None: ...

    def take(self, records: Sequence[Produced]) -> int: ...

    def give_back(self, size: int) -> None: ...


class Append:
    """Records appended together, their delivery reports so far, and the future of their outcome."""

    __slots__ = ("completed", "count", "error", "first", "future", "last", "left", "noncontiguous", "size", "writer")

    def __init__(
        self, writer: KafkaWriter, shared: SharedProducer, future: asyncio.Future[int | None], size: int, count: int
    ) -> None:
        self.writer = writer
        self.completed = shared.completed
        self.future = future
        self.size = size
        self.count = self.left = count
        self.first: int | None = None
        self.last = -1
        self.noncontiguous = False
        self.error: KafkaError | None = None

    def on_delivery(self, error: KafkaError | None, message: Message) -> None:
        """The delivery report of one record, on the producer's thread."""
        if error is not None:
            if self.error is None or self.error.code() in NOT_WRITTEN:  # One doubt outweighs every certainty.
                self.error = error
        else:
            offset = message.offset()
            if offset is None or offset < 0:
                self.noncontiguous = True
            elif self.first is None:
                self.first = self.last = offset
            elif offset == self.last + 1:
                self.last = offset
            else:
                self.noncontiguous = True
        self.left -= 1
        if not self.left:
            self.completed.append(self)

    def resolve(self) -> None:
        """Resolve the future once all reports have come, on the loop."""
        if self.future.done():
            return
        if self.error is None:
            contiguous = not self.noncontiguous and self.first is not None and self.last - self.first == self.count - 1
            self.future.set_result(self.first if contiguous else None)
        elif self.error.code() in NOT_WRITTEN and self.first is None and not self.noncontiguous:
            self.future.set_exception(
                mapped(self.error, f"an append to {self.writer.place} was refused; nothing was written")
            )
        else:
            self.future.set_exception(
                OutcomeUnknown(
                    message_of(self.error, f"an append to {self.writer.place} failed, and may be there all the same")
                )
            )


class SharedProducer:
    """One producer and its thread. Used on the loop, except where noted."""

    def __init__(self, config: dict[str, Any], loop: asyncio.AbstractEventLoop, watchdog_s: float) -> None:
        self.completed: deque[Append] = deque()
        self.under_way: dict[Append, float] = {}  # In order of time.
        self.over = False
        self.producer = Producer(config)
        self._loop = loop
        self._watchdog_s = watchdog_s
        self._wake_scheduled = False
        self._ending = threading.Lock()  # A producer that is closed takes no purge, and purging takes a while.
        self._is_closed = False
        self.thread = threading.Thread(target=self._serve_reports, name="millstream-reports", daemon=True)
        self.thread.start()
        self._watch = loop.call_later(WATCH_EVERY_S, self._watch_appends)

    def _serve_reports(self) -> None:
        """The thread: serve reports for ever; once the producer is over, until its last report."""
        producer, completed = self.producer, self.completed
        ends_at = 0.0
        while True:
            producer.poll(POLL_S)
            if completed and not self._wake_scheduled:
                self._wake_scheduled = True
                try:
                    self._loop.call_soon_threadsafe(self._deliver_outcomes)
                except RuntimeError:
                    return  # The loop is closed, and nobody waits any more.
            if self.over:
                ends_at = ends_at or time.monotonic() + PURGED_WITHIN_S
                if not self.under_way or time.monotonic() > ends_at:
                    with self._ending:
                        producer.close()  # Here, where waiting for its threads holds up nobody.
                        self._is_closed = True
                    return

    def _deliver_outcomes(self) -> None:
        self._wake_scheduled = False
        completed, under_way = self.completed, self.under_way
        failed: KafkaError | None = None
        while completed:
            append = completed.popleft()
            under_way.pop(append, None)
            append.resolve()
            append.writer.on_completed(append)
            if append.error is not None and append.error.code() not in NOT_WRITTEN:
                failed = append.error
        if failed is not None and not self.over:
            say(LOG, "producer replaced", level=logging.WARNING, why=failed.str())
            self.give_up()

    def _watch_appends(self) -> None:
        """The watchdog: an append without a report for ``watchdog_s`` has an unknown outcome."""
        if self.over:
            return
        self._watch = self._loop.call_later(WATCH_EVERY_S, self._watch_appends)
        since = self._loop.time() - self._watchdog_s
        for append, at_s in self.under_way.items():
            if at_s > since:
                return
            append.writer.on_outcome_unknown(
                append, f"no broker answered an append to {append.writer.place} within {self._watchdog_s:g} s"
            )

    def give_up(self) -> None:
        """Send nothing more: the outcome of appends under way is unknown."""
        if self.over:
            return
        self._watch.cancel()
        self.producer.purge(in_queue=True, in_flight=True, blocking=False)
        self.over = True  # Behind the purge: from here on the thread may close it at any moment.
        for append in tuple(self.under_way):
            append.writer.on_outcome_unknown(append, "its producer was given up while this was under way")

    async def purge(self) -> None:
        """End, and return once nothing that is still in this process can be sent."""
        self.give_up()
        await asyncio.to_thread(self._purge_all)

    def _purge_all(self) -> None:
        """In a thread. A producer that is closed has nothing left to send."""
        with self._ending:
            if not self._is_closed:
                self.producer.purge(in_queue=True, in_flight=True, blocking=True)

    async def drain(self, longest_s: float) -> None:
        """Wait until all appends are reported, or ``longest_s``."""
        waiting = [append.future for append in self.under_way]
        if waiting:
            await asyncio.wait(waiting, timeout=longest_s)


class SharedProducers:
    """The producers of one kind; a partition sticks to one. The next append replaces a producer that is over."""

    def __init__(self, make: Callable[[], SharedProducer], count: int) -> None:
        self._make = make
        self._producers: list[SharedProducer | None] = [None] * count

    def of(self, partition: int) -> SharedProducer:
        """The producer of a partition."""
        at = partition % len(self._producers)
        found = self._producers[at]
        if found is None or found.over:
            found = self._producers[at] = self._make()
        return found

    def all(self) -> list[SharedProducer]:
        """The producers in use."""
        return [shared for shared in self._producers if shared is not None and not shared.over]


class KafkaWriter:
    """Appends to one partition. See the port's ``Writer``."""

    def __init__(self, log: Appends, producers: SharedProducers, shape: Shape, partition: int) -> None:
        self._log = log
        self._producers = producers
        self._record_bytes_max = shape.record_bytes_max
        self._topic = shape.spec.name
        self._kind = shape.spec.kind
        self._partition = partition
        self.place = f"{self._topic}/{partition}"
        self._loop = asyncio.get_running_loop()
        self._shared: SharedProducer | None = None
        self._waiting = 0
        self._outcome_unknown = False
        self._closed = False
        self._over = False  # Either of them.

    def append(self, records: Sequence[Produced]) -> asyncio.Future[int | None]:
        """See the port."""
        self._log.must_be_alive()
        if self._over:
            why = "was closed" if self._closed else "had an append with an unknown outcome"
            raise LogUnavailable(f"this writer {why}; nothing was written. Close it and open a new one.")
        if not records:
            raise ValueError("an append needs at least one record")
        check_shape(records, self._kind)
        size = self._log.take(records)
        if size > self._record_bytes_max:
            self._refuse_large(records, size)
        shared = self._shared
        if shared is None or shared.over:
            shared = self._shared = self._producers.of(self._partition)
        loop = self._loop
        append = Append(self, shared, loop.create_future(), size, len(records))
        shared.under_way[append] = loop.time()
        self._waiting += 1
        self._produce(shared, append, records)
        return append.future

    def _produce(self, shared: SharedProducer, append: Append, records: Sequence[Produced]) -> None:
        produce, topic, partition, on_delivery = (
            shared.producer.produce,
            self._topic,
            self._partition,
            append.on_delivery,
        )
        handed = 0
        try:
            for record in records:
                if record.headers:
                    headers: Any = list(record.headers)
                    produce(topic, record.value, record.key, partition, on_delivery, headers=headers)
                else:
                    produce(topic, record.value, record.key, partition, on_delivery)
                handed += 1
        except (BufferError, KafkaException) as error:
            if handed == 0:
                del shared.under_way[append]
                self.on_completed(append)
                if isinstance(error, BufferError):
                    raise Busy("the producer's queue is full. Nothing was written; try again in a moment.") from error
                raise mapped(error, f"an append to {self.place} was refused; nothing was written") from error
            self._log.give_back(append.size)
            append.size = 0
            self.on_outcome_unknown(append, "only some records of an append could be handed over")
            shared.give_up()

    def _refuse_large(self, records: Sequence[Produced], size: int) -> None:
        most = self._record_bytes_max
        for record in records:
            of_one = len(record.value or b"") + len(record.key or b"") + RECORD_OVERHEAD_BYTES
            if of_one > most:
                self._log.give_back(size)
                raise LimitExceeded(
                    f"a record of {of_one} bytes is too large for topic {self._topic!r}: at most {most} are taken. "
                    "Raise max.message.bytes of the topic, or send less."
                )

    def on_completed(self, append: Append) -> None:
        """The last report of an append has come."""
        self._log.give_back(append.size)
        self._waiting -= 1
        if append.error is not None and append.error.code() not in NOT_WRITTEN:
            self._outcome_unknown = self._over = True

    def on_outcome_unknown(self, append: Append, why: str) -> None:
        """The outcome of an append is unknown."""
        self._outcome_unknown = self._over = True
        if not append.future.done():
            append.future.set_exception(OutcomeUnknown(f"{why}; it may be there, or turn up. Look at the log."))

    async def close(self) -> None:
        """See the port. Appends still under way here cost other writers of the producer an unknown outcome."""
        if self._closed:
            return
        self._closed = self._over = True
        shared = self._shared
        if shared is None or not self._waiting:
            return
        if not self._outcome_unknown:
            own = [append.future for append in shared.under_way if append.writer is self]
            await asyncio.wait(own, timeout=CLOSE_WAIT_S)
        if self._waiting:
            await shared.purge()
