"""The messages between a worker and its executor processes, and ``Connection``, which carries them.

    worker ── Setup, Begin, Drop, Drain, Close, MakeCall, DropCall, Environ, Ping, End ──> child
    worker <── Hello | Refused, Reported, Parked, NeedsView, BodyGone, Closed, CallMade, Pong ── child

A frame is a length (4 bytes, big endian) and the msgpack of a list of messages: what was sent in one turn of the loop
is one frame, in both directions. ``lane`` is the number of a lane's executor in its pool: a lane that is taken over
again gets a new one, so messages about its former ownership are not mistaken for messages about the new one.

Each side acts on messages that the other sent a moment ago. Two rules keep them in step:

* A body is only ever made from a full view. A Begin without one is for a body that lives; where it has just been
  parked, the child answers NeedsView and gets the view.
* BodyGone counts only if no dispatch is under way; otherwise a Begin is on its way to the child.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from millstream.execute.endpoint.carrying import Work
from millstream.execute.endpoint.endpoints import EndpointSettings
from millstream.execute.endpoint.guard import ANYWHERE, Guard
from millstream.execute.endpoint.replies import Answered, failed_here
from millstream.execute.local.executor import LocalSettings
from millstream.execute.port import RunView
from millstream.model.commands import ParkDispatch, Report
from millstream.model.effects import Execute
from millstream.model.operations import BodyErrored, Failure, Operation, StepErrored
from millstream.model.rows import StepRow
from millstream.wire.signing import SigningKeys

MESSAGES_PER_FRAME_MAX: Final = 256
FRAME_BYTES_TARGET: Final = 1 << 20
"""A frame that has this many bytes takes no more messages; one message may be larger (a run's whole state)."""
BUFFERED_BYTES_MAX: Final = 4 << 20
"""Written and not yet taken by the other end. Above it messages wait unencoded; the connection is ``congested``."""

_LENGTH: Final = struct.Struct(">I")
_HEAD: Final = struct.Struct(">IBI")  # The frame's length, and msgpack's mark of a list with its size.
_LIST: Final = 0xDD


# --- to a child -------------------------------------------------------------------------------


class CallSettings(msgspec.Struct, frozen=True):
    """How apps over HTTP are called (``EndpointSettings``), as text: the keys, and the networks or ``*``."""

    keys: tuple[str, ...]
    networks: tuple[str, ...]
    calls_max: int

    @staticmethod
    def of(settings: EndpointSettings) -> CallSettings:
        """These settings as text."""
        keys = tuple(key.prefix + key.secret for key in settings.keys.all)
        guard = settings.guard
        networks = (ANYWHERE,) if guard.is_open else tuple(map(str, guard.networks))
        return CallSettings(keys, networks, settings.calls_max)

    @property
    def settings(self) -> EndpointSettings:
        """The settings that were written."""
        return EndpointSettings(
            keys=SigningKeys.of(*self.keys), guard=Guard.of(self.networks), calls_max=self.calls_max
        )

    def __repr__(self) -> str:
        return f"CallSettings(of {len(self.keys)} keys)"  # Which nobody may read in a log.


class Setup(msgspec.Struct, frozen=True, tag=True):
    """The first message: which apps (``targets``, module:app) to load from where, how to live, and how apps over HTTP
    are called."""

    path: tuple[str, ...]
    targets: tuple[str, ...]
    settings: LocalSettings
    log_level: int
    calls: CallSettings


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Carry out a dispatch. ``view`` None: the body lives; ``rows`` are what was recorded since the last Begin."""

    lane: int
    effect: Execute
    view: RunView | None
    rows: tuple[StepRow, ...] = ()


class Drop(msgspec.Struct, frozen=True, tag=True):
    """The run is over: stop what executes for it."""

    lane: int
    run: str


class Drain(msgspec.Struct, frozen=True, tag=True):
    """The lane goes to another worker: as ``Executor.drain``."""

    lane: int


class Close(msgspec.Struct, frozen=True, tag=True):
    """The lane goes: as ``Executor.close``. Answered by Closed."""

    lane: int
    grace_s: float


class MakeCall(msgspec.Struct, frozen=True, tag=True):
    """Carry out the work of an app over HTTP. Answered by CallMade, unless DropCall comes before."""

    lane: int
    number: int
    work: Work


class DropCall(msgspec.Struct, frozen=True, tag=True):
    """Nobody waits for this call any more: hang up."""

    lane: int
    number: int


class Environ(msgspec.Struct, frozen=True, tag=True):
    """Environment variables that the worker has set since the child was started."""

    values: dict[str, str]


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Asks whether the loop turns. Answered by Pong."""

    number: int


class End(msgspec.Struct, frozen=True, tag=True):
    """All lanes are closed: end in good order."""


# --- from a child -----------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The apps are loaded: each function with its step timeout."""

    functions: dict[str, int]


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The apps could not be loaded; the process ends."""

    message: str


class Reported(msgspec.Struct, frozen=True, tag=True):
    """A report for a lane."""

    lane: int
    report: Report


class Parked(msgspec.Struct, frozen=True, tag=True):
    """A dispatch that a closing child did not finish, or has no code for."""

    lane: int
    park: ParkDispatch


class NeedsView(msgspec.Struct, frozen=True, tag=True):
    """A Begin needs a full view: its body does not live here any more."""

    lane: int
    effect: Execute


class BodyGone(msgspec.Struct, frozen=True, tag=True):
    """No body of this run lives here any more."""

    lane: int
    run: str


class Closed(msgspec.Struct, frozen=True, tag=True):
    """Nothing of this lane executes here any more, and every dispatch has been reported or given back."""

    lane: int


class CallMade(msgspec.Struct, frozen=True, tag=True):
    """How a call went. ``broken``: how its connection broke; without it and an answer there was no connection."""

    lane: int
    number: int
    answered: Answered | None
    broken: str = ""


class Pong(msgspec.Struct, frozen=True, tag=True):
    """The loop turns."""

    number: int


ToChild = Setup | Begin | Drop | Drain | Close | MakeCall | DropCall | Environ | Ping | End
ForLane = Reported | Parked | NeedsView | BodyGone | Closed | CallMade
"""What a child sends about the work of one client of its pool."""
FromChild = Hello | Refused | ForLane | Pong


# --- the connection ---------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """One end of a connection. ``on_message`` gets each message; ``on_end`` is called once, after the other end's."""

    def __init__(self, takes: object, on_message: Callable[[Any], None], on_end: Callable[[], None]) -> None:
        """``takes`` is the type of the messages that come in: ToChild or FromChild."""
        self._decode = msgspec.msgpack.Decoder(list[takes]).decode  # type: ignore[valid-type]
        self._encode = msgspec.msgpack.Encoder().encode
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._incoming = bytearray()
        self._outgoing: deque[object] = deque()
        self._flushing = False
        self._congested = False
        self._ended = False

    @property
    def congested(self) -> bool:
        """Whether the other side takes less than it is sent."""
        return self._congested

    def send(self, message: object) -> None:
        """Send with the next frame, at the end of this turn of the loop. After the end: nothing happens."""
        self._outgoing.append(message)
        if not self._flushing and not self._congested:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Hang up, after what was written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=BUFFERED_BYTES_MAX)
        self._flush()

    def data_received(self, data: bytes) -> None:
        incoming = self._incoming
        incoming += data
        at, size = 0, len(incoming)
        while size - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(incoming, at)
            if size - at - _LENGTH.size < length:
                break
            at += _LENGTH.size
            with memoryview(incoming) as view, view[at : at + length] as frame:
                messages = self._decode(frame)
            at += length
            for message in messages:
                self._on_message(message)
        if at:
            del incoming[:at]

    def pause_writing(self) -> None:
        self._congested = True

    def resume_writing(self) -> None:
        self._congested = False
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._outgoing.clear()
        if not self._ended:
            self._ended = True
            self._on_end()

    def _encoded(self, message: object) -> bytes:
        try:
            return self._encode(message)
        except Exception as error:  # Lost, it would leave its run in Running.
            if isinstance(message, CallMade):
                return self._encode(CallMade(message.lane, message.number, failed_here(error)))
            if not isinstance(message, Reported):
                raise
            return self._encode(_unsendable(message, error))

    def _flush(self) -> None:
        self._flushing = False
        transport, outgoing = self._transport, self._outgoing
        if transport is None or transport.is_closing():
            if self._ended:
                outgoing.clear()
            return
        while outgoing and not self._congested:
            parts: list[bytes] = []
            size = 0
            while outgoing and size < FRAME_BYTES_TARGET and len(parts) < MESSAGES_PER_FRAME_MAX:
                parts.append(part := self._encoded(outgoing.popleft()))
                size += len(part)
            head = _HEAD.pack(size + _HEAD.size - _LENGTH.size, _LIST, len(parts))
            transport.write(b"".join((head, *parts)))


def _unsendable(message: Reported, error: Exception) -> Reported:
    """A report that says that the real one cannot be encoded: it fails its step or body for good."""
    report = message.report
    kinds = ", ".join(type(operation).__name__ for operation in report.operations)
    why = f"the report of {kinds} could not be sent to the worker: {type(error).__name__}. Please report this."
    failure = Failure("InternalError", why)
    operation: Operation = BodyErrored(failure, retriable=False)
    if report.step:
        operation = StepErrored(report.step, report.step, failure, 0, retriable=False)
    return Reported(message.lane, msgspec.structs.replace(report, operations=(operation,)))
