"""Appending to Kafka: a few producers that everybody shares, each with a thread that hears their reports.

    append ─> produce ─────────────> librdkafka ─> broker
                                         │
    future <─ one call to the loop <─ the thread: reports of a burst

A producer is a ``Line``. Whoever closes a writer with records still under way ends the whole line: nothing else makes
sure that librdkafka does not send them again later. The others on that line hear "unknown" for what they had under way,
look at the log, and go on with the next line; who had nothing under way notices nothing. What is on the wire already
may still be stored: readers of journals know by the fence that it does not count.

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
from millstream.log.kafka.errors import NOT_WRITTEN, mapped, told
from millstream.log.port import OutcomeUnknown, Produced
from millstream.log.records import RECORD_OVERHEAD_BYTES, check_shape
from millstream.telemetry import say

LOG: Final = logging.getLogger("millstream.log.kafka")
POLL_S: Final = 0.2
CLOSE_WAIT_S: Final = 1.0
"""How long a writer that is closed waits for what it has under way before it ends its line."""
PURGED_WITHIN_S: Final = 30.0
WATCH_EVERY_S: Final = 1.0


class Appends(Protocol):
    """What writers need of their log."""

    def must_be_alive(self) -> None: ...

    def take(self, records: Sequence[Produced]) -> int: ...

    def give_back(self, size: int) -> None: ...


class Append:
    """Records handed over together: what has been reported of them, and whom to tell."""

    __slots__ = ("count", "error", "first", "future", "last", "left", "odd", "settled", "size", "writer")

    def __init__(
        self, writer: KafkaWriter, line: Line, future: asyncio.Future[int | None], size: int, count: int
    ) -> None:
        self.writer = writer
        self.settled = line.settled
        self.future = future
        self.size = size
        self.count = self.left = count
        self.first: int | None = None
        self.last = -1
        self.odd = False
        self.error: KafkaError | None = None

    def reported(self, error: KafkaError | None, message: Message) -> None:
        """A report of one record, on the line's thread."""
        if error is not None:
            self.error = error
        else:
            offset = message.offset()
            if offset is None or offset < 0:
                self.odd = True
            elif self.first is None:
                self.first = self.last = offset
            elif offset == self.last + 1:
                self.last = offset
            else:
                self.odd = True
        self.left -= 1
        if not self.left:
            self.settled.append(self)

    def settle(self) -> None:
        """All reports are there: tell whoever waits, on the loop."""
        if self.future.done():
            return
        if self.error is None:
            contiguous = not self.odd and self.first is not None and self.last - self.first == self.count - 1
            self.future.set_result(self.first if contiguous else None)
        elif self.error.code() in NOT_WRITTEN and self.first is None and not self.odd:
            self.future.set_exception(
                mapped(self.error, f"an append to {self.writer.place} was refused; nothing was written")
            )
        else:
            self.future.set_exception(
                OutcomeUnknown(
                    told(self.error, f"an append to {self.writer.place} failed, and may be there all the same")
                )
            )


class Line:
    """One producer and its thread. Used on the loop, except where said."""

    def __init__(self, config: dict[str, Any], loop: asyncio.AbstractEventLoop, watchdog_s: float) -> None:
        self.settled: deque[Append] = deque()
        self.under_way: dict[Append, float] = {}  # In order of time.
        self.over = False
        self.producer = Producer(config)
        self._loop = loop
        self._watchdog_s = watchdog_s
        self._told = False
        self.thread = threading.Thread(target=self._hear, name="millstream-reports", daemon=True)
        self.thread.start()
        self._watch = loop.call_later(WATCH_EVERY_S, self._look)

    def _hear(self) -> None:
        """The thread: serve reports for ever, then until the last one of a line that is over."""
        producer, settled = self.producer, self.settled
        ends_at = 0.0
        while True:
            producer.poll(POLL_S)
            if settled and not self._told:
                self._told = True
                try:
                    self._loop.call_soon_threadsafe(self._settle)
                except RuntimeError:
                    return  # The loop is closed, and nobody waits any more.
            if self.over:
                ends_at = ends_at or time.monotonic() + PURGED_WITHIN_S
                if not self.under_way or time.monotonic() > ends_at:
                    producer.close()  # Here, where waiting for its threads holds up nobody.
                    return

    def _settle(self) -> None:
        self._told = False
        settled, under_way = self.settled, self.under_way
        failed: KafkaError | None = None
        while settled:
            append = settled.popleft()
            under_way.pop(append, None)
            append.settle()
            append.writer.settled(append)
            if append.error is not None and append.error.code() not in NOT_WRITTEN:
                failed = append.error
        if failed is not None and not self.over:
            say(LOG, "producer replaced", level=logging.WARNING, why=failed.str())
            self.end()

    def _look(self) -> None:
        """The watchdog: an append nobody has reported for so long has an unknown outcome."""
        if self.over:
            return
        self._watch = self._loop.call_later(WATCH_EVERY_S, self._look)
        since = self._loop.time() - self._watchdog_s
        for append, at_s in self.under_way.items():
            if at_s > since:
                return
            append.writer.lost(
                append, f"no broker answered an append to {append.writer.place} within {self._watchdog_s:g} s"
            )

    def end(self) -> None:
        """Send nothing more: what is under way is given up, and is unknown to whoever waits for it."""
        if self.over:
            return
        self.over = True
        self._watch.cancel()
        for append in tuple(self.under_way):
            append.writer.lost(append, "its producer was given up while this was under way")
        self.producer.purge(in_queue=True, in_flight=True, blocking=False)

    async def purge(self) -> None:
        """End, and return once nothing that is still in this process can be sent."""
        self.end()
        await asyncio.to_thread(self.producer.purge, in_queue=True, in_flight=True, blocking=True)

    async def drain(self, longest_s: float) -> None:
        """Wait until all that was handed over is reported, or so long."""
        waiting = [append.future for append in self.under_way]
        if waiting:
            await asyncio.wait(waiting, timeout=longest_s)


class Lines:
    """The lines of one kind; a partition sticks to one. A line that is over is replaced by the next append."""

    def __init__(self, make: Callable[[], Line], count: int) -> None:
        self._make = make
        self._lines: list[Line | None] = [None] * count

    def line(self, partition: int) -> Line:
        """The line of a partition."""
        at = partition % len(self._lines)
        found = self._lines[at]
        if found is None or found.over:
            found = self._lines[at] = self._make()
        return found

    def all(self) -> list[Line]:
        """Those there are."""
        return [line for line in self._lines if line is not None and not line.over]


class KafkaWriter:
    """Appends to one partition. See the port's ``Writer``."""

    def __init__(self, log: Appends, lines: Lines, shape: Shape, partition: int) -> None:
        self._log = log
        self._lines = lines
        self._record_bytes_max = shape.record_bytes_max
        self._topic = shape.spec.name
        self._kind = shape.spec.kind
        self._partition = partition
        self.place = f"{self._topic}/{partition}"
        self._loop = asyncio.get_running_loop()
        self._line: Line | None = None
        self._waiting = 0
        self._lost = False
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
        line = self._line
        if line is None or line.over:
            line = self._line = self._lines.line(self._partition)
        loop = self._loop
        append = Append(self, line, loop.create_future(), size, len(records))
        line.under_way[append] = loop.time()
        self._waiting += 1
        self._produce(line, append, records)
        return append.future

    def _produce(self, line: Line, append: Append, records: Sequence[Produced]) -> None:
        produce, topic, partition, reported = line.producer.produce, self._topic, self._partition, append.reported
        handed = 0
        try:
            for record in records:
                if record.headers:
                    headers: Any = list(record.headers)
                    produce(topic, record.value, record.key, partition, reported, headers=headers)
                else:
                    produce(topic, record.value, record.key, partition, reported)
                handed += 1
        except (BufferError, KafkaException) as error:
            if handed == 0:
                del line.under_way[append]
                self.settled(append)
                if isinstance(error, BufferError):
                    raise Busy("the producer's queue is full. Nothing was written; try again in a moment.") from error
                raise mapped(error, f"an append to {self.place} was refused; nothing was written") from error
            self._log.give_back(append.size)
            append.size = 0
            self.lost(append, "only some records of an append could be handed over")
            line.end()

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

    def settled(self, append: Append) -> None:
        """Its last report has come."""
        self._log.give_back(append.size)
        self._waiting -= 1
        if append.error is not None and append.error.code() not in NOT_WRITTEN:
            self._lost = self._over = True

    def lost(self, append: Append, why: str) -> None:
        """Nobody knows what becomes of it."""
        self._lost = self._over = True
        if not append.future.done():
            append.future.set_exception(OutcomeUnknown(f"{why}; it may be there, or turn up. Look at the log."))

    async def close(self) -> None:
        """See the port. Costs others on the same line an unknown outcome, if something is still under way here."""
        if self._closed:
            return
        self._closed = self._over = True
        line = self._line
        if line is None or not self._waiting:
            return
        if not self._lost:
            own = [append.future for append in line.under_way if append.writer is self]
            await asyncio.wait(own, timeout=CLOSE_WAIT_S)
        if self._waiting:
            await line.purge()
