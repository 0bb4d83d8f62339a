"""What leaves a lane: messages to other lanes, records for topics, answers to apis (lanes.md rules 28 to 29a).

Messages and records are rows: they are produced after their fact is durable, and the row goes once they are known to
have arrived. A failure only means to try again from the first row that is still there; receivers recognise repeats.
Answers may be lost: an api that asks again gets the same answer.

One task a destination, started when there is something to send and ended when there is not: a topic that takes nothing
holds up only itself. What waits is numbers, not records; above ``PUBLISHES_HELD_MAX`` of them not even that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

from millstream.core.tables import Tables
from millstream.errors import Busy, InternalError, LimitExceeded, MillstreamError, OperatorError
from millstream.lane.port import OnTopicWanted
from millstream.log.port import Log, Produced, Writer
from millstream.model.commands import Command, NoteDelivered, NotePublished, RefusePublish
from millstream.model.effects import Answer, Deliver, Publish
from millstream.model.event import TOMBSTONE
from millstream.model.messages import InboxRecord, Reply, group_topic
from millstream.model.rows import OutboxRow, PublishRow
from millstream.telemetry import say
from millstream.wire.messages import encode_envelope, encode_inbox, encode_reply
from millstream.wire.partition import partition_of

LOG: Final = logging.getLogger("millstream.lane.outbox")
SENT_AT_ONCE_MAX: Final = 500
SENT_BYTES_MAX: Final = 4 * 1024 * 1024
"""A batch ends once its records hold this much; one record may go beyond it."""
PUBLISHES_HELD_MAX: Final = 100_000
"""Records for topics that may wait to be sent, as numbers; later ones are remembered by their rows alone."""
ANSWERS_HELD_MAX: Final = 10_000
"""Answers kept for one api. More are not sent: a repeated request gets the same answer."""
ANSWER_TRIES_MAX: Final = 10
"""Some seconds: about as long as an api waits before it asks again."""
RETRY_S: Final = 0.2
TOPIC_RETRY_S: Final = 5.0

T = TypeVar("T")


class Outbox:
    """Sends what the durable tables say is to be sent. ``submit`` queues what became of it."""

    def __init__(
        self, log: Log, tables: Tables, submit: Callable[[Command], None], on_topic_wanted: OnTopicWanted
    ) -> None:
        self._log = log
        self._durable = tables
        self._submit = submit
        self._on_topic_wanted = on_topic_wanted
        self._place = tables.place
        self._tasks: dict[object, asyncio.Task[None]] = {}
        self._wanted: dict[int, int] = {}  # lane → the last message released to it
        self._sent: dict[int, int] = {}  # lane → the last message known to be in its inbox
        self._taken: int | None = None  # the last record for a topic that was put into ``_publishes``
        self._released = 0  # the last one that may be
        self._held = 0
        self._publishes: dict[str, deque[int]] = {}  # topic → numbers not sent yet
        self._answers: dict[int, deque[tuple[Answer, int]]] = {}  # The api's partition → what it is told.
        self._writers: dict[tuple[str, int], Writer] = {}
        self._partitions: dict[str, int] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way."""
        return all(task.done() for task in self._tasks.values())

    def deliver(self, effect: Deliver) -> None:
        """A message to another lane is durable here: bring it there, after those before it."""
        self._wanted[effect.to_lane] = max(effect.seq, self._wanted.get(effect.to_lane, 0))
        self._start(effect.to_lane, lambda: self._deliver(effect.to_lane))

    def publish(self, effect: Publish) -> None:
        """A record for a topic is durable here: produce it, after those before it. Told twice does no harm."""
        if self._taken is None:
            first = self._durable.publishes.scan(limit=1)
            self._taken = first[0][0] - 1 if first else effect.number - 1
        self._released = max(effect.number, self._released)
        self._take()

    def _take(self) -> None:
        """Hand released records to the tasks of their topics, as many as may wait."""
        assert self._taken is not None
        while self._taken < self._released and self._held < PUBLISHES_HELD_MAX:
            self._taken += 1
            row = self._durable.publishes.get(self._taken)
            if row is None:
                continue  # It was sent before.
            self._held += 1
            topic = row.topic
            self._publishes.setdefault(topic, deque()).append(row.number)
            self._start(topic, partial(self._publish, topic))

    def answer(self, effect: Answer, offset: int) -> None:
        """Answer a request; a read of this lane at ``offset`` or later sees what it did."""
        waiting = self._answers.setdefault(effect.reply_to, deque(maxlen=ANSWERS_HELD_MAX))
        waiting.append((effect, offset))
        self._start(("answers", effect.reply_to), partial(self._answer, effect.reply_to))

    def _start(self, key: object, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = self._tasks.get(key)
        if task is None or task.done():
            self._tasks[key] = asyncio.get_running_loop().create_task(work())

    async def _deliver(self, to_lane: int) -> None:
        topic = group_topic(self._place.group, "inbox")
        while True:
            cursor = self._durable.outbox_cursors.get(to_lane)
            delivered = cursor.delivered if cursor is not None else 0
            sent = max(delivered, self._sent.get(to_lane, 0))
            upto = min(self._wanted[to_lane], sent + SENT_AT_ONCE_MAX)
            if sent >= upto:
                return
            rows = [self._durable.outbox.get((to_lane, seq)) for seq in range(sent + 1, upto + 1)]
            there = [row for row in rows if row is not None]
            if len(there) < len(rows):
                raise InternalError(
                    f"messages {sent + 1} to {upto} for lane {to_lane} are owed, but {len(rows) - len(there)} of them "
                    "are not in the outbox any more: a row goes once it is known to be delivered. Please report this."
                )
            for batch in _batches([(row.seq, self._message(row)) for row in there]):
                if not await self._append(topic, to_lane, [record for _, record in batch]):
                    break  # Again from the first one that is not known to be there.
                self._sent[to_lane] = batch[-1][0]
                self._submit(NoteDelivered(to_lane, batch[-1][0]))

    def _message(self, row: OutboxRow) -> Produced:
        # The key says which message it is even to a receiver that can't read it.
        record = InboxRecord(self._place.lane, row.seq, row.message)
        return Produced(encode_inbox(record), message_key(self._place.lane, row.seq))

    async def _publish(self, topic: str) -> None:
        numbers = self._publishes[topic]
        while numbers:
            some = [numbers.popleft() for _ in range(min(len(numbers), SENT_AT_ONCE_MAX))]
            by_partition: dict[int, list[tuple[int, Produced]]] = {}
            for number in some:
                row = self._durable.publishes.get(number)
                if row is not None:
                    by_partition.setdefault(await self._partition(row), []).append((number, _produced(row)))
            for partition, records in by_partition.items():
                for batch in _batches(records):
                    await self._send(topic, partition, batch)
            self._held -= len(some)
            self._take()
        del self._publishes[topic]  # In the turn in which it was seen to be empty.

    async def _send(self, topic: str, partition: int, batch: list[tuple[int, Produced]]) -> None:
        """Until it is there; one that the log will never take becomes a dead letter, and those behind it go on."""
        while True:
            try:
                if await self._append(topic, partition, [record for _, record in batch]):
                    break
            except (LimitExceeded, ValueError) as error:  # ValueError: it has no key, in a topic that needs one.
                if len(batch) > 1:
                    for one in batch:
                        await self._send(topic, partition, [one])
                    return
                say(LOG, "record not sent", level=logging.ERROR, topic=topic, number=batch[0][0], why=str(error))
                self._submit(RefusePublish(batch[0][0], str(error)))
                return
        self._submit(NotePublished(tuple(number for number, _ in batch)))

    async def _answer(self, partition: int) -> None:
        """Each api has a task of its own: one whose partition is not there holds up no other."""
        topic, waiting = group_topic(self._place.group, "replies"), self._answers[partition]
        while waiting:
            records: list[tuple[None, Produced]] = []
            for _ in range(min(len(waiting), SENT_AT_ONCE_MAX)):
                effect, offset = waiting.popleft()
                reply = encode_reply(Reply(effect.request, self._place.lane, offset, effect.reply))
                records.append((None, Produced(reply)))
            for batch in _batches(records):
                for _ in range(ANSWER_TRIES_MAX):
                    if await self._append(topic, partition, [record for _, record in batch]):
                        break
        del self._answers[partition]  # In the turn in which it was seen to be empty.

    async def _append(self, topic: str, partition: int, records: list[Produced]) -> bool:
        """Append, or wait a little and say no; after a failure the writer is a new one.

        Raises LimitExceeded where trying again cannot help.
        """
        key = (topic, partition)
        try:
            writer = self._writers.get(key)
            if writer is None:
                writer = self._writers[key] = self._log.writer(topic, partition)
            await writer.append(records)
        except (OperatorError, Busy):
            broken = self._writers.pop(key, None)
            if broken is not None:
                await broken.close()
            await asyncio.sleep(RETRY_S)
            return False
        return True

    async def _partition(self, row: PublishRow) -> int:
        """Where a record goes: by its key, as every producer of the field does; without one, by its number."""
        while (partitions := self._partitions.get(row.topic)) is None:
            try:
                found = await self._log.topic(row.topic)
                if found is None:
                    await self._on_topic_wanted(row.topic)
                    found = await self._log.topic(row.topic)
            except (MillstreamError, ValueError) as error:
                say(LOG, "topic missing", level=logging.ERROR, topic=row.topic, number=row.number, why=str(error))
                found = None
            if found is not None:
                self._partitions[row.topic] = found.partitions
            else:
                await asyncio.sleep(TOPIC_RETRY_S)
        if row.event is not None:
            return partition_of(row.event.key or row.event.id, partitions)
        if row.key:
            return partition_of(row.key, partitions)
        return row.number % partitions

    def check(self) -> None:
        """Forget the tasks that have ended; raise what ended one that should not have."""
        for key, task in tuple(self._tasks.items()):
            if task.done():
                del self._tasks[key]
                task.result()

    async def close(self) -> None:
        """Send nothing more. What was not known to arrive is still owed."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for writer in self._writers.values():
            await writer.close()


def message_key(from_lane: int, seq: int) -> bytes:
    """The key of a record in an inbox: readable where its value is not."""
    return b"%d:%d" % (from_lane, seq)


def _batches(records: Iterable[tuple[T, Produced]]) -> Iterator[list[tuple[T, Produced]]]:
    """The records in order, as many at once as ``SENT_BYTES_MAX`` allows."""
    batch: list[tuple[T, Produced]] = []
    size = 0
    for name, record in records:
        batch.append((name, record))
        size += len(record.value or b"")
        if size >= SENT_BYTES_MAX:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _produced(row: PublishRow) -> Produced:
    if row.event is not None:
        return Produced(encode_envelope(row.event), (row.event.key or row.event.id).encode())
    if TOMBSTONE in row.headers:
        return Produced(None, row.key or None, tuple(header for header in row.headers if header != TOMBSTONE))
    return Produced(row.value, row.key or None, row.headers)
