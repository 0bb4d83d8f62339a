"""Membership of a Kafka consumer group: which lanes are ours, and the readers of their inboxes and sources.

    the member's thread                                  the loop
    poll ─ on_assign: attach the inbox, paused ────────> on_assigned(lanes)
         ─ on_revoke: not ours from here on ───────────> on_revoked(lanes): the lanes are released
           wait for that (at most ``RELEASE_S``) <────────┘
           stop reading for the lanes
         ─ on_lost: the same, after the fact
         ─ records of inboxes and sources ─────────────> buffers of the readers
    ends by itself ────────────────────────────────────> on_revoked(what is left); joins again, with a new thread

The group knows ``<group>.inbox`` only; a lane's sources are attached beside it when the lane reads them, with both
group protocols. No user code runs in the thread; it does not fetch while lanes are being released.

``still_owns`` is the check before a fence (lanes.md rule 3). A worker that was stopped for long is refused a commit
until it polls, and is accepted for any lane once it has silently joined again; so all three are asked: the thread has
polled, the lane has been ours without a break, and a commit in between was accepted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as TooLate
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from millstream.errors import ConfigError, LogUnavailable
from millstream.log.kafka.admin.shapes import PartitionKey, Shape
from millstream.log.kafka.errors import NO_MEMBER, error_of, message_of
from millstream.log.kafka.reading.fetch import CLOSED_WITHIN_S, Fetcher
from millstream.log.kafka.reading.readers import Bounds, KafkaReader
from millstream.log.port import LanesChanged
from millstream.model.backoff import doubling_s
from millstream.model.ids import lane_of_source
from millstream.model.messages import group_topic
from millstream.telemetry import say

LOG: Final = logging.getLogger("millstream.log.kafka.group")
RELEASE_S: Final = 30.0
"""The time that releasing lanes may take; the group evicts a member after ``max.poll.interval.ms``, four times that."""
JOIN_WAIT_S: Final = 15.0
"""``join`` returns without a lane after that: others may have them all."""
TOGETHER_S: Final = 0.02
"""How long a commit waits for those of other lanes."""
JOIN_AGAIN_S: Final = 1.0
JOIN_AGAIN_S_MAX: Final = 30.0
"""The pauses before joining again where the thread has ended by itself: a fatal error, or an error of ours."""
STEADY_S: Final = 60.0
"""A thread that has lived for so long is replaced soon, whatever befell those before it."""
REFUSED_WAIT_S: Final = 3.0
"""How long a refused commit waits for the news that the lane is gone; after that it is a failed try."""

T = TypeVar("T")


class Grouping(Bounds, Protocol):
    """The part of the log that a membership uses."""

    def find(self, topic: str, partition: int) -> Shape: ...

    async def look(self, topic: str) -> Shape | None: ...

    def member_consumer(self, group: str) -> Consumer: ...


class _Attached:
    """The inbox is assigned by the group and only waits; everything else we assign ourselves."""

    def __init__(self, inbox: str) -> None:
        self._inbox = inbox

    def attach(self, consumer: Consumer, key: PartitionKey, offset: int) -> None:
        place = TopicPartition(*key, offset)
        if key[0] != self._inbox:
            consumer.incremental_assign([place])
        else:
            try:
                consumer.seek(place)
            except KafkaException:  # It is assigned, but has stopped for an error or has not begun.
                consumer.incremental_unassign([place])
                consumer.incremental_assign([place])
        consumer.resume([place])  # Also where it was assigned just now: a pause outlives the assignment.

    def detach(self, consumer: Consumer, key: PartitionKey) -> None:
        place = TopicPartition(*key)
        if key[0] == self._inbox:
            consumer.pause([place])
        else:
            consumer.incremental_unassign([place])


class _Fetcher(Fetcher):
    """The member's thread: polls for ever, subscribed."""

    def __init__(self, make: Callable[[], Consumer], loop: asyncio.AbstractEventLoop, member: KafkaMembership) -> None:
        super().__init__(make, loop, _Attached(member.inbox))
        self._after_poll: deque[Callable[[Consumer], None]] = deque()
        self._member = member

    def after_poll(self, command: Callable[[Consumer], None]) -> None:
        """Have the thread do something once it has polled from beginning to end."""
        self._after_poll.append(command)

    def _run(self) -> None:
        member = self._member
        why: Exception | None = None
        try:
            consumer = self._make()
            try:
                consumer.subscribe(
                    [member.inbox], on_assign=member.on_assign, on_revoke=member.on_revoke, on_lost=member.on_lost
                )
                while not self._stopping:
                    self._obey(consumer)
                    self._look(consumer)
            finally:
                consumer.close()  # Calls on_revoke for what is still held.
        except Exception as error:  # Whatever it is: a worker whose thread ends unnoticed serves nothing and says so to
            why = error  # nobody.
        finally:
            self.call(member.on_thread_ended, self, why)

    def _look(self, consumer: Consumer) -> None:
        waiting = len(self._after_poll)
        self.take(consumer)
        for _ in range(waiting):
            self._after_poll.popleft()(consumer)

    def _note(self, key: PartitionKey, message: Message, error: KafkaError) -> None:
        if key not in self.feeds and error.code() != KafkaError._PARTITION_EOF:
            self.call(self._member.on_error, error)
            if error.fatal() or error.code() == KafkaError._FATAL:
                raise KafkaException(error)
            return  # It is about no partition that is read here.
        super()._note(key, message, error)

    def release(self, consumer: Consumer, keys: Sequence[PartitionKey], feeds: Sequence[PartitionKey]) -> None:
        """In the thread, in a rebalance: stop feeding the readers of ``feeds``, and unassign all of these."""
        for key in feeds:
            for reader in self.feeds.pop(key).places:
                self.call(reader.refuse, LogUnavailable(f"{key[0]}/{key[1]} went to another worker with its lane."))
        held = {(one.topic, one.partition) for one in consumer.assignment()}
        going = [TopicPartition(*key) for key in {*keys, *feeds} if key in held]
        with suppress(KafkaException):  # Lost partitions: the library has unassigned them itself.
            consumer.incremental_unassign(going)


class KafkaMembership:
    """See the port's ``Membership``. The section "in the thread" runs in the member's thread."""

    def __init__(self, log: Grouping, group: str, lanes: int) -> None:
        self.group = group
        self.inbox = group_topic(group, "inbox")
        self._thread_lives = False
        self._log = log
        self._lanes = lanes
        self._loop = asyncio.get_running_loop()
        self._fetcher: _Fetcher | None = None
        self._leaving = False
        self._failures = 0
        self._thread_since_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._assignment_of: dict[int, int] = {}  # lane → which time it was assigned; written by the thread only
        self._assignments = 0
        self._on_assigned: LanesChanged | None = None
        self._on_revoked: LanesChanged | None = None
        self._callback_lock = asyncio.Lock()
        self._join_answered = asyncio.Event()
        self._ended = asyncio.Event()
        self._refusal: KafkaException | KafkaError | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._questions: set[asyncio.Future[Any]] = set()
        self._to_commit: dict[tuple[str, int], int] = {}
        self._committing: asyncio.Task[None] | None = None

    # --- the port -------------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """See the port."""
        return self._thread_lives and self._join_answered.is_set()

    async def join(self, *, on_assigned: LanesChanged, on_revoked: LanesChanged) -> None:
        """See the port. Returns once the group has answered; with no lanes, if others have them all."""
        shape = await self._log.look(self.inbox)
        if shape is None:
            raise ConfigError(f"there is no topic {self.inbox!r}. Run millstream topics apply.")
        if shape.spec.partitions != self._lanes:
            raise ConfigError(
                f"topic {self.inbox!r} has {shape.spec.partitions} partitions, expected one for each of {self._lanes} "
                "lanes. Start with the number of lanes the group was made with."
            )
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._leaving = False
        self._start_thread()
        await self._join_answered.wait()
        if self._refusal is not None and not self._assignment_of:
            await self.leave()
            raise LogUnavailable(message_of(self._refusal, f"this worker could not join group {self.group!r}"))

    async def still_owns(self, lane: int, *, inbox_position: int) -> bool:
        """See the port. Raises LogUnavailable when the group cannot be asked now."""
        fetcher = self._fetcher
        if fetcher is None or not self._thread_lives:
            return False
        place = [TopicPartition(self.inbox, lane, inbox_position)]

        def check(consumer: Consumer) -> bool:
            if lane not in self._assignment_of:
                return False
            _commit(consumer, place)
            return True

        assignment = self._assignment_of.get(lane)
        try:
            return await self._ask(check, fetcher.after_poll)
        except KafkaException as error:
            if error_of(error).code() in NO_MEMBER and await self._assignment_ended(lane, assignment):
                return False
            raise LogUnavailable(message_of(error, f"the group did not confirm that lane {lane} is ours")) from error

    def reader(self, topic: str, partition: int, offset: int) -> KafkaReader:
        """See the port."""
        self._log.find(topic, partition)
        reader = KafkaReader(self._log, topic, partition, offset)
        lane = self._lane_of(topic, partition)
        if self._fetcher is None or not self._thread_lives:
            reader.refuse(LogUnavailable("this process is no member of the group. Join it first."))
        elif lane not in self._assignment_of:
            reader.refuse(LogUnavailable(f"{topic}/{partition} belongs to lane {lane}, which another worker has."))
        else:
            self._fetcher.post(lambda consumer: self._replace_readers(topic, partition))
            self._fetcher.open(reader, offset, 0)
        return reader

    async def commit(self, positions: Mapping[tuple[str, int], int]) -> None:
        """See the port."""
        if not self._thread_lives:
            raise LogUnavailable("positions were not committed: this process is no member of the group. Join it first.")
        self._to_commit |= positions
        if self._committing is None:
            self._committing = self._loop.create_task(self._commit_all())
            self._committing.add_done_callback(_retrieve_error)
        await asyncio.shield(self._committing)

    async def leave(self) -> None:
        """See the port."""
        self._leaving = True
        if self._timer is not None:
            self._timer.cancel()
        if self._fetcher is None:
            return
        self._fetcher.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSED_WITHIN_S):
                await self._ended.wait()
        self._thread_lives = False

    async def metadata(self) -> object:
        """The member's identity, as a transaction shows it to the group. None: it is no member."""
        fetcher = self._fetcher
        if fetcher is None or not self._thread_lives:
            return None
        try:
            return await self._ask(lambda consumer: consumer.consumer_group_metadata(), fetcher.post)
        except LogUnavailable:
            return None

    # --- on the loop ----------------------------------------------------------------------------

    def on_error(self, why: KafkaException | KafkaError) -> None:
        """An error of the group that is about no partition."""
        if isinstance(why, KafkaException) or why.fatal() or why.code() in _NOT_LET_IN:
            self._refusal = why
            self._join_answered.set()
        say(LOG, "group answered with an error", level=logging.WARNING, group=self.group, why=str(why))

    def on_thread_ended(self, fetcher: _Fetcher, why: Exception | None) -> None:
        """The thread is over: left, refused, or ended by an error. Then what it held is given up, and it is joined
        again."""
        self._thread_lives = False
        self._ended.set()
        gone = LogUnavailable("this process has left the group")
        for future in tuple(self._questions):
            _fail(future, gone)
        for reader in fetcher.readers():
            reader.refuse(gone)
        if why is not None:  # ``join`` may wait for it.
            self._refusal = why if isinstance(why, KafkaException) else _ended_with(why)
            self._join_answered.set()
        if self._leaving:
            return
        held = frozenset(self._assignment_of)  # A consumer that could not be closed revokes nothing.
        self._assignment_of.clear()
        if held:
            self._notify(self._on_revoked, held)
        self._failures = 1 if self._loop.time() - self._thread_since_s >= STEADY_S else self._failures + 1
        again_s = doubling_s(JOIN_AGAIN_S, self._failures - 1, JOIN_AGAIN_S_MAX)
        say(LOG, "group left unasked", level=logging.ERROR, group=self.group, why=repr(why), again_in_s=again_s)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(again_s, self._start_thread)

    def _start_thread(self) -> None:
        """Join the group, or join it again; ``_join_answered`` says when it has answered, or will not soon."""
        self._ended.clear()
        self._join_answered.clear()
        self._fetcher = _Fetcher(lambda: self._log.member_consumer(self.group), self._loop, self)
        self._thread_since_s, self._thread_lives = self._loop.time(), True
        self._fetcher.start()
        self._timer = self._loop.call_later(JOIN_WAIT_S, self._join_answered.set)

    async def _ask(
        self, question: Callable[[Consumer], T], hand_over: Callable[[Callable[[Consumer], None]], None]
    ) -> T:
        """Have the thread answer: in another thread the library hardly gets to it while this one polls."""
        future: asyncio.Future[T] = self._loop.create_future()
        fetcher = self._fetcher
        assert fetcher is not None

        def answer(consumer: Consumer) -> None:
            try:
                fetcher.call(_answer, future, question(consumer))
            except KafkaException as error:
                fetcher.call(_fail, future, error)

        self._questions.add(future)
        try:
            hand_over(answer)
            if self._ended.is_set():
                raise LogUnavailable("this process has left the group")
            return await future
        finally:
            self._questions.discard(future)

    async def _assignment_ended(self, lane: int, assignment: int | None) -> bool:
        """Wait up to ``REFUSED_WAIT_S``; whether the lane's assignment has ended by then."""
        fetcher = self._fetcher
        assert fetcher is not None
        until = self._loop.time() + REFUSED_WAIT_S
        while self._thread_lives and self._assignment_of.get(lane) == assignment and self._loop.time() < until:
            await self._ask(lambda consumer: None, fetcher.after_poll)
        return not self._thread_lives or self._assignment_of.get(lane) != assignment

    async def _commit_all(self) -> None:
        """Commit the positions of several lanes in one call."""
        await asyncio.sleep(TOGETHER_S)
        offsets = [TopicPartition(*source, offset) for source, offset in self._to_commit.items()]
        self._to_commit, self._committing = {}, None
        fetcher = self._fetcher
        assert fetcher is not None
        try:
            await self._ask(lambda consumer: _commit(consumer, offsets), fetcher.post)
        except KafkaException as error:
            raise LogUnavailable(message_of(error, "positions were not committed")) from error

    async def _run_callback(self, callback: LanesChanged | None, lanes: frozenset[int]) -> None:
        async with self._callback_lock:
            if callback is not None:
                await callback(lanes)

    def _notify_assigned(self, lanes: frozenset[int]) -> None:
        self._notify(self._on_assigned, lanes).add_done_callback(lambda task: self._join_answered.set())

    def _notify(self, callback: LanesChanged | None, lanes: frozenset[int]) -> asyncio.Task[None]:
        task = self._loop.create_task(self._run_callback(callback, lanes))
        self._tasks.add(task)
        task.add_done_callback(self._on_notified)
        return task

    def _on_notified(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        task.result()

    def _lane_of(self, topic: str, partition: int) -> int:
        return partition if topic == self.inbox else lane_of_source(topic, partition, self._lanes)

    # --- in the thread --------------------------------------------------------------------------

    def on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Lanes are ours."""
        lanes = frozenset(one.partition for one in partitions)
        places = [TopicPartition(self.inbox, lane, 0) for lane in lanes]
        consumer.incremental_assign(places)
        if places:
            consumer.pause(places)  # Until the lane says from where.
        self._assignments += 1
        for lane in lanes:
            self._assignment_of[lane] = self._assignments
        say(LOG, "lanes assigned", group=self.group, lanes=sorted(lanes))
        assert self._fetcher is not None
        self._fetcher.call(self._notify_assigned, lanes)

    def on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Lanes are to be given up, and others get them when this returns."""
        self._give_up(consumer, partitions, "lanes revoked")

    def on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Lanes are not ours any more; others may have them already."""
        self._give_up(consumer, partitions, "lanes lost")

    def _give_up(self, consumer: Consumer, partitions: list[TopicPartition], what: str) -> None:
        lanes = frozenset(one.partition for one in partitions) & self._assignment_of.keys()
        for lane in lanes:
            del self._assignment_of[lane]
        say(LOG, what, group=self.group, lanes=sorted(lanes))
        if lanes:
            try:
                released = asyncio.run_coroutine_threadsafe(self._run_callback(self._on_revoked, lanes), self._loop)
                released.result(RELEASE_S)
            except TooLate:
                say(LOG, "lanes did not let go", level=logging.ERROR, lanes=sorted(lanes), waited_s=RELEASE_S)
            except RuntimeError:
                pass  # The loop is closed: no lane is left.
        fetcher = self._fetcher
        assert fetcher is not None
        feeds = [key for key in fetcher.feeds if self._lane_of(*key) in lanes]
        fetcher.release(consumer, [(one.topic, one.partition) for one in partitions], feeds)

    def _replace_readers(self, topic: str, partition: int) -> None:
        """Refuse older readers of a partition: it has one reader at a time."""
        fetcher = self._fetcher
        feed = fetcher.feeds.get((topic, partition)) if fetcher is not None else None
        for reader in tuple(feed.places) if feed is not None else ():
            assert feed is not None
            assert fetcher is not None
            feed.places.pop(reader)
            fetcher.call(reader.refuse, LogUnavailable(f"{topic}/{partition} has a newer reader."))


_NOT_LET_IN: Final = frozenset(
    {
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError.INCONSISTENT_GROUP_PROTOCOL,
        KafkaError._UNSUPPORTED_FEATURE,
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
    }
)


def _ended_with(error: Exception) -> KafkaError:
    """An error that is none of librdkafka's, as one."""
    return KafkaError(KafkaError._FAIL, f"the member's thread ended: {error!r}")


def _commit(consumer: Consumer, offsets: list[TopicPartition]) -> None:
    for one in consumer.commit(offsets=offsets, asynchronous=False):
        if one.error is not None:
            raise KafkaException(one.error)


def _retrieve_error(task: asyncio.Task[None]) -> None:
    """Retrieve the error of a commit whose lane may be gone: no other code awaits it then."""
    if not task.cancelled():
        task.exception()


def _answer(future: asyncio.Future[T], answer: T) -> None:
    if not future.done():
        future.set_result(answer)


def _fail(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
