"""What leaves a lane: messages to other lanes, records for topics, answers to apis (lanes.md rules 28 to 29a).

Messages and records are rows: they are produced after their fact is durable, and the row goes once they are known to
have arrived. A failure only means to try again from the first row that is still there; receivers know what came twice.
Answers may be lost: whoever asks again gets the same answer.

One task a destination, started when there is something to send and ended when there is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from penstock.core.tables import Tables
from penstock.errors import LogUnavailable, OperatorError
from penstock.lane.port import OnTopicWanted
from penstock.log.port import Log, Produced, Writer
from penstock.model.commands import Command, NoteDelivered, NotePublished
from penstock.model.effects import Answer, Deliver, Publish
from penstock.model.messages import InboxRecord, Reply, group_topic
from penstock.model.rows import PublishRow
from penstock.wire.messages import encode_envelope, encode_inbox, encode_reply
from penstock.wire.partition import partition_of

SENT_AT_ONCE_MAX: Final = 500
RETRY_S: Final = 0.2


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
        self._publishes: list[int] = []
        self._answers: list[tuple[Answer, int]] = []
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
        """A record for a topic is durable here: produce it."""
        self._publishes.append(effect.number)
        self._start("publish", self._publish)

    def answer(self, effect: Answer, offset: int) -> None:
        """Answer a request; a read of this lane at ``offset`` or later sees what it did."""
        self._answers.append((effect, offset))
        self._start("answer", self._answer)

    def _start(self, key: object, work: Callable[[], object]) -> None:
        task = self._tasks.get(key)
        if task is None or task.done():
            self._tasks[key] = asyncio.get_running_loop().create_task(work())  # type: ignore[arg-type]

    async def _deliver(self, to_lane: int) -> None:
        topic = group_topic(self._place.group, "inbox")
        cursor = self._durable.outbox_cursors.get(to_lane)
        sent = cursor.delivered if cursor is not None else 0
        while sent < self._wanted[to_lane]:
            upto = min(self._wanted[to_lane], sent + SENT_AT_ONCE_MAX)
            rows = [self._durable.outbox.get((to_lane, seq)) for seq in range(sent + 1, upto + 1)]
            records = [
                Produced(encode_inbox(InboxRecord(self._place.lane, row.seq, row.message))) for row in rows if row
            ]
            if await self._append(topic, to_lane, records):
                sent = upto
                self._submit(NoteDelivered(to_lane, upto))

    async def _publish(self) -> None:
        while self._publishes:
            numbers, self._publishes = self._publishes[:SENT_AT_ONCE_MAX], self._publishes[SENT_AT_ONCE_MAX:]
            rows = [row for n in numbers if (row := self._durable.publishes.get(n)) is not None]
            by_target: dict[tuple[str, int], list[tuple[int, Produced]]] = {}
            for row in rows:
                target = (row.topic, await self._partition(row))
                by_target.setdefault(target, []).append((row.number, _produced(row)))
            for (topic, partition), records in by_target.items():
                while not await self._append(topic, partition, [r for _, r in records]):
                    pass
                self._submit(NotePublished(tuple(n for n, _ in records)))

    async def _answer(self) -> None:
        topic = group_topic(self._place.group, "replies")
        while self._answers:
            answers, self._answers = self._answers[:SENT_AT_ONCE_MAX], self._answers[SENT_AT_ONCE_MAX:]
            by_api: dict[int, list[Produced]] = {}
            for effect, offset in answers:
                reply = encode_reply(Reply(effect.request, self._place.lane, offset, effect.reply))
                by_api.setdefault(effect.reply_to, []).append(Produced(reply))
            for partition, records in by_api.items():
                await self._append(topic, partition, records)

    async def _append(self, topic: str, partition: int, records: list[Produced]) -> bool:
        """Append, or wait a little and say no; after a failure the writer is a new one."""
        key = (topic, partition)
        writer = self._writers.get(key)
        if writer is None:
            writer = self._writers[key] = self._log.writer(topic, partition)
        try:
            await writer.append(records)
        except LogUnavailable:
            del self._writers[key]
            await writer.close()
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
            except OperatorError:
                found = None
            if found is not None:
                self._partitions[row.topic] = found.partitions
            else:
                await asyncio.sleep(RETRY_S)
        if row.event is not None:
            return partition_of(row.event.key or row.event.id, partitions)
        if row.key:
            return partition_of(row.key.decode("utf-8", "surrogateescape"), partitions)
        return row.number % partitions

    async def close(self) -> None:
        """Send nothing more. What was not known to arrive is still owed."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for writer in self._writers.values():
            await writer.close()


def _produced(row: PublishRow) -> Produced:
    if row.event is not None:
        return Produced(encode_envelope(row.event), (row.event.key or row.event.id).encode())
    return Produced(row.value, row.key or None, row.headers)
