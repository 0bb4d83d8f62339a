"""Checkpoints' transactions: one transactional producer a process, which the lanes take in turns.

    begin    the group's metadata as they are now, before a row is looked at (lanes.md rule 13)
    send     rows go to the producer, as fast as it takes them; the brokers hide them
    commit   the inbox positions with those metadata, then the end; returns once readers see the rows
    failed   the producer is thrown away; the next one, of the same name, makes the brokers forget what was open

The name is the worker's: a worker that died leaves an open transaction, which hides what lies behind it from readers
until the same name comes back or ``TRANSACTION_MS`` have passed. Two workers of one name end each other's transactions
for ever, and say so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec

from millstream.errors import LogUnavailable
from millstream.log.kafka.admin.shapes import PartitionKey, Shape, Shapes
from millstream.log.kafka.errors import NO_MEMBER, error_of, mapped, message_of
from millstream.log.kafka.group import KafkaMembership
from millstream.log.kafka.settings import REQUEST_S
from millstream.log.port import OutcomeUnknown, Produced, TopicKind, TransactionRefused
from millstream.log.records import check_shape
from millstream.telemetry import say

LOG: Final = logging.getLogger("millstream.log.kafka")
SEEN_WITHIN_S: Final = 10.0
INIT_S: Final = 25.0
"""What the brokers may take to end what the last producer of this name left open."""
LOOK_S: Final = 0.002
LOOK_MAX_S: Final = 0.1
ENDED_ELSEWHERE: Final = frozenset({KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH})

T = TypeVar("T")


class Transacts(Protocol):
    """What transactions need of their log."""

    @property
    def shapes(self) -> Shapes: ...

    @property
    def member(self) -> KafkaMembership | None: ...

    def must_be_alive(self) -> None: ...

    def find(self, topic: str, partition: int) -> Shape: ...


class Transactions:
    """The producer and whose turn it is. Everything that blocks runs in its one thread, in order."""

    def __init__(self, log: Transacts, id: str, make: Callable[[str], Producer]) -> None:
        self.log = log
        self._id = id
        self._make = make
        self._producer: Producer | None = None
        self._turn = asyncio.Lock()
        self._unfinished: dict[str, KafkaTransaction] = {}
        self._thread = ThreadPoolExecutor(1, "millstream-transactions")

    async def begin(self, name: str) -> KafkaTransaction:
        """See the port; waits for its turn."""
        earlier = self._unfinished.get(name)
        if earlier is not None:
            await earlier.abort()
        await self._turn.acquire()
        try:
            self.log.must_be_alive()
            member = self.log.member
            metadata = await member.metadata() if member is not None else None
            producer = await self.run(self._begun)
        except BaseException as error:
            self._turn.release()
            if isinstance(error, KafkaException):
                raise mapped(error, f"no transaction could be begun with the id {self._id!r}") from error
            raise
        begun = self._unfinished[name] = KafkaTransaction(self, name, producer, (member, metadata))
        return begun

    def _begun(self) -> Producer:
        if self._producer is None:
            producer = self._make(self._id)
            producer.init_transactions(INIT_S)
            self._producer = producer
        try:
            self._producer.begin_transaction()
        except KafkaException:
            self.throw_away()
            raise
        return self._producer

    def throw_away(self) -> None:
        """In the thread: have a new producer next time."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()

    def over(self, transaction: KafkaTransaction) -> None:
        """It has ended: the next may begin."""
        if self._unfinished.get(transaction.name) is transaction:
            del self._unfinished[transaction.name]
        self._turn.release()

    async def run(self, work: Callable[[], T]) -> T:
        """Do something in the thread. It goes on there when the caller is cancelled; what follows waits for it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        """Abort what is unfinished, and end."""
        for transaction in tuple(self._unfinished.values()):
            await transaction.abort()
        await self.run(self.throw_away)
        self._thread.shutdown(wait=False)


class KafkaTransaction:
    """See the port's ``Transaction``."""

    def __init__(
        self, owner: Transactions, name: str, producer: Producer, who: tuple[KafkaMembership | None, object]
    ) -> None:
        self.name = name
        self._owner = owner
        self._producer = producer
        self._member, self._metadata = who
        self._last: dict[PartitionKey, int] = {}
        self._over = False

    async def send(self, topic: str, partition: int, records: Sequence[Produced]) -> None:
        """See the port. Waits while the producer can hold no more: the brokers are slower than the rows come."""
        if self._over:
            raise TransactionRefused("this transaction is over; begin another one")
        shape = self._owner.log.find(topic, partition)
        if shape.spec.kind is not TopicKind.COMPACTED:
            raise ValueError(f"topic {topic!r} is a stream: a transaction writes compacted topics only")
        check_shape(records, shape.spec.kind)
        last = len(records) - 1
        for n, record in enumerate(records):
            while not self._produced(topic, partition, record, is_last=n == last):
                await asyncio.sleep(LOOK_S)
                if self._over:
                    raise TransactionRefused("this transaction was aborted while it waited for the brokers")
        self._producer.poll(0)

    def _produced(self, topic: str, partition: int, record: Produced, *, is_last: bool) -> bool:
        """Whether the producer had room for it. The last of a batch tells how far readers have to be to see it all."""
        try:
            if is_last:
                self._producer.produce(topic, record.value, record.key, partition, self._stored)
            else:
                self._producer.produce(topic, record.value, record.key, partition)
        except BufferError:
            self._producer.poll(0)
            return False
        except KafkaException as error:
            raise mapped(error, "a checkpoint's row was refused") from error
        return True

    def _stored(self, error: KafkaError | None, message: Message) -> None:
        offset = message.offset()
        if error is None and offset is not None:
            self._last[message.topic(), message.partition()] = offset  # type: ignore[index]

    async def commit(self, inbox_positions: Mapping[int, int]) -> None:
        """See the port."""
        if self._over:
            raise TransactionRefused("this transaction is over, or another of its name was begun; begin another one")
        refusal = self._refusal(inbox_positions)
        if refusal is not None:
            await self.abort()
            raise refusal
        self._over = True
        try:
            await self._owner.run(lambda: self._end(inbox_positions))
        finally:
            self._owner.over(self)
        await self._seen()

    def _refusal(self, inbox_positions: Mapping[int, int]) -> TransactionRefused | None:
        if self._member is None or self._metadata is None:
            if inbox_positions:
                return TransactionRefused("inbox positions need a membership; join the group before you begin")
            return None
        if not self._member.live or self._owner.log.member is not self._member:
            return TransactionRefused(
                "the membership this transaction was begun with has ended; nothing of it is visible"
            )
        return None

    def _end(self, inbox_positions: Mapping[int, int]) -> None:
        """In the thread: positions, then the end."""
        producer = self._producer
        asked = False
        try:
            if inbox_positions:
                assert self._member is not None
                inbox = self._member.inbox
                offsets = [TopicPartition(inbox, lane, offset) for lane, offset in inbox_positions.items()]
                producer.send_offsets_to_transaction(offsets, self._metadata, REQUEST_S)
            asked = True
            self._commit(producer)
        except KafkaException as raised:
            error = error_of(raised)
            self._undo()
            if error.code() in NO_MEMBER:
                raise TransactionRefused(
                    message_of(raised, "the group refused a checkpoint, nothing of it is visible")
                ) from raised
            if error.code() in ENDED_ELSEWHERE:
                raise LogUnavailable(
                    "a checkpoint was ended by another worker of the same name; nothing of it is visible. Give every "
                    "worker a name of its own (--name)."
                ) from raised
            if asked and not error.txn_requires_abort():
                raise OutcomeUnknown(
                    message_of(raised, "a checkpoint was not confirmed, and may be visible")
                ) from raised
            raise LogUnavailable(message_of(raised, "a checkpoint failed, nothing of it is visible")) from raised

    def _commit(self, producer: Producer) -> None:
        try:
            producer.commit_transaction(REQUEST_S)
        except KafkaException as error:
            if not error_of(error).retriable():
                raise
            producer.commit_transaction(REQUEST_S)

    def _undo(self) -> None:
        """In the thread: abort if the brokers take it; the next producer of the name does it otherwise."""
        try:
            self._producer.abort_transaction(REQUEST_S)
        except KafkaException as error:
            say(LOG, "transaction not aborted", level=logging.WARNING, why=str(error))
        self._owner.throw_away()

    async def _seen(self) -> None:
        """Return once readers see it: the brokers answer a commit before they have told every partition."""
        loop, waited_s = asyncio.get_running_loop(), LOOK_S
        until = loop.time() + SEEN_WITHIN_S
        waiting = dict(self._last)
        while waiting and loop.time() < until:
            try:
                ends = await self._owner.log.shapes.offsets(waiting, OffsetSpec.latest(), committed=True)
            except LogUnavailable:
                ends = {}
            waiting = {key: offset for key, offset in waiting.items() if ends.get(key, -1) <= offset}
            if waiting:
                await asyncio.sleep(waited_s)
                waited_s = min(waited_s * 2, LOOK_MAX_S)

    async def abort(self) -> None:
        """See the port."""
        if self._over:
            return
        self._over = True
        try:
            await asyncio.shield(asyncio.ensure_future(self._owner.run(self._undo)))
        finally:
            self._owner.over(self)
