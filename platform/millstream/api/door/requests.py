"""Questions to lanes and their answers: cancel, invoke.

    ask ──InboxRecord(request id)──> <group>.inbox[lane] … lane decides … <group>.replies[our partition] ──Reply──> ask

A request has a ULID. While no answer comes, the same request is sent again: the lane remembers answers by request id
(lanes.md rule 29), so asking twice does nothing twice. A reply nobody waits for any more is passed over.

A lane that cannot decide a request refuses it and says why (lanes.md rule 22): ``ask`` raises that, so that no handler
takes it for "not found".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from millstream.errors import BadRequest, Busy, Corruption, LogUnavailable
from millstream.log.follow import follow, log_failure
from millstream.log.port import Log, OutcomeUnknown, Produced, Record, Writer
from millstream.model.ids import ulid
from millstream.model.messages import InboxRecord, Message, Reply, group_topic
from millstream.wire.messages import decode_reply, encode_inbox

TRIES_MAX: Final = 3
TRY_S: Final = 2.0
WAITING_REQUESTS_MAX: Final = 2_000
READ_RECORDS_MAX: Final = 1_000
READ_BYTES_MAX: Final = 4 << 20
FROM_API: Final = -1

_log = logging.getLogger(__name__)


class Setting(Protocol):
    """What of the door's configuration is needed here."""

    @property
    def log(self) -> Log: ...
    @property
    def group(self) -> str: ...
    @property
    def lanes(self) -> int: ...
    @property
    def reply_partition(self) -> int: ...
    @property
    def now_ms(self) -> Callable[[], int]: ...
    @property
    def random(self) -> Callable[[int], bytes]: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a lane has answered: ``outcome`` has a status and more, ``reply`` where in its journal that is decided."""

    outcome: dict[str, Any]
    reply: Reply

    @property
    def status(self) -> str:
        """In one word."""
        return str(self.outcome.get("status", ""))


class Requests:
    """Asks lanes and hands their answers out."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._inbox = group_topic(setting.group, "inbox")
        self._replies = group_topic(setting.group, "replies")
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._writers: dict[int, Writer] = {}
        self._locks: dict[int, asyncio.Lock] = {}
        self._task: asyncio.Task[None] | None = None

    def new_id(self) -> str:
        """A request id."""
        return ulid(self._setting.now_ms(), self._setting.random(10))

    async def start(self) -> None:
        """Listen for replies from now on."""
        log, partition = self._setting.log, self._setting.reply_partition
        reader = log.reader(self._replies, partition, await log.end_offset(self._replies, partition))
        following = follow(
            reader, self._hand_out_all, what="replies", records_max=READ_RECORDS_MAX, bytes_max=READ_BYTES_MAX
        )
        self._task = asyncio.create_task(following)
        self._task.add_done_callback(log_failure)

    async def close(self) -> None:
        """Stop listening; who still waits is cancelled."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for future in self._waiting.values():
            future.cancel()
        for writer in self._writers.values():
            await writer.close()

    async def ask(self, lane: int, request: str, message: Message) -> Answer:
        """The lane's answer. ``message`` carries ``request`` and our reply partition.

        Raises BadRequest for a request that the lane could not decide; Busy when too many wait; LogUnavailable when no
        answer came: the request may still be carried out.
        """
        reply = await self._ask(lane, request, message)
        answer = Answer(msgspec.json.decode(reply.reply), reply)
        if answer.status == "refused":
            raise BadRequest(
                f"lane {lane} refused request {request} ({type(message).__name__}): {answer.outcome.get('reason')}. "
                "Nothing was changed, and the same request is refused again."
            )
        return answer

    async def _ask(self, lane: int, request: str, message: Message) -> Reply:
        if len(self._waiting) >= WAITING_REQUESTS_MAX:
            raise Busy(f"{len(self._waiting)} requests already wait for their lanes. Nothing was asked: try again.")
        if (asked := self._waiting.get(request)) is not None:  # The same, sent again while the first is under way.
            done, _pending = await asyncio.wait([asked], timeout=TRIES_MAX * TRY_S)
            if done:
                return asked.result()
            raise self._unanswered(lane, request)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[request] = future
        record = Produced(encode_inbox(InboxRecord(FROM_API, 0, message)))
        try:
            for _ in range(TRIES_MAX):
                await self._send(lane, record)
                done, _pending = await asyncio.wait([future], timeout=TRY_S)
                if done:
                    return future.result()
        finally:
            del self._waiting[request]
        raise self._unanswered(lane, request)

    @staticmethod
    def _unanswered(lane: int, request: str) -> LogUnavailable:
        return LogUnavailable(
            f"lane {lane} did not answer request {request} within {TRIES_MAX * TRY_S:.0f} s. It may still carry it "
            "out. See whether a worker owns the lane: millstream lanes inspect."
        )

    async def _send(self, lane: int, record: Produced) -> None:
        async with self._locks.setdefault(lane, asyncio.Lock()):
            writer = self._writers.get(lane)
            if writer is None:
                writer = self._writers[lane] = self._setting.log.writer(self._inbox, lane)
            try:
                await writer.append([record])
            except OutcomeUnknown:  # If it is not there, the next try sends it again.
                del self._writers[lane]
                await writer.close()

    def _hand_out_all(self, records: Sequence[Record]) -> None:
        for record in records:
            self._hand_out(record.value)

    def _hand_out(self, value: bytes | None) -> None:
        if value is None:
            return
        try:
            reply = decode_reply(value)
        except Corruption as broken:  # One bad reply must not silence the others; its asker tries again.
            _log.error("reply not readable: %s", broken)
            return
        future = self._waiting.get(reply.request)
        if future is not None and not future.done():
            future.set_result(reply)
