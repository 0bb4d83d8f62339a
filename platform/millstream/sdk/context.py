"""What a handler is given: the event, the run, the step tools and a logger.

``Context`` is for coroutine handlers, ``SyncContext`` for plain functions; they differ in ``step`` only. Annotate
``Context[OrderPlaced]`` and ``ctx.event.data`` is an OrderPlaced, checked before the body begins.
"""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic

import msgspec

from millstream.model.event import Envelope
from millstream.sdk.payloads import Reader, reader_of
from millstream.sdk.received import Received, received
from millstream.sdk.steps import Driver, StepTools, SyncStepTools

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=dict[str, Any])
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    from typing import TypeVar

    T = TypeVar("T")
    _Adapter = logging.LoggerAdapter


class RunInfo(msgspec.Struct, frozen=True):
    """The run a context belongs to. ``attempt`` is the body's, from 0."""

    run_id: str
    function: str
    attempt: int
    max_attempts: int


class RunLogger(_Adapter):
    """A logger that is silent while remembered steps are gone over again, so that a line appears once."""

    def __init__(self, driver: Driver, info: RunInfo) -> None:
        extra = {"run": info.run_id, "function": info.function}
        super().__init__(logging.getLogger(f"millstream.functions.{info.function}"), extra)
        self._driver = driver

    def isEnabledFor(self, level: int) -> bool:
        return not self._driver.replaying and super().isEnabledFor(level)


class RunContext(Generic[T]):
    """The part of a context that both kinds of handlers share."""

    __slots__ = ("_driver", "_envelopes", "_events", "_info", "_logger", "_reader")

    def __init__(self, driver: Driver, info: RunInfo, events: tuple[Envelope, ...], reader: Reader | None) -> None:
        """Raises NonRetriableError where an event's data does not fit the type behind ``reader``."""
        self._driver = driver
        self._info = info
        self._envelopes = events
        self._reader = reader
        self._logger: RunLogger | None = None
        self._events: list[Received[T]] | None = None
        if reader is not None:
            self._events = self._decoded()

    def _decoded(self) -> list[Received[T]]:
        return [received(e, self._reader) for e in self._envelopes]

    @property
    def event(self) -> Received[T]:
        """The event that started this run (of several, the first)."""
        return self.events[0]

    @property
    def events(self) -> list[Received[T]]:
        """All the events that started this run."""
        if self._events is None:
            self._events = self._decoded()  # Not before somebody looks: most bodies of a long run never do again.
        return self._events

    @property
    def run_id(self) -> str:
        """The id of this run."""
        return self._info.run_id

    @property
    def attempt(self) -> int:
        """Which try of the body this is, from 0. Steps count their own: ``millstream.current().attempt``."""
        return self._info.attempt

    @property
    def max_attempts(self) -> int:
        """How many tries the body, and each step, has."""
        return self._info.max_attempts

    @property
    def logger(self) -> RunLogger:
        """A logger ``millstream.functions.<function>`` that is silent during replay."""
        if self._logger is None:
            self._logger = RunLogger(self._driver, self._info)
        return self._logger


class Context(RunContext[T]):
    """What a coroutine handler is given: ``async def fulfil(ctx: Context) -> dict``."""

    __slots__ = ("step",)

    def __init__(self, driver: Driver, info: RunInfo, events: tuple[Envelope, ...], reader: Reader | None) -> None:
        super().__init__(driver, info, events, reader)
        self.step = StepTools(driver)


class SyncContext(RunContext[T]):
    """What a plain function is given: ``def fulfil(ctx: SyncContext) -> dict``. It runs in a thread of its own."""

    __slots__ = ("step",)

    def __init__(self, driver: Driver, info: RunInfo, events: tuple[Envelope, ...], reader: Reader | None) -> None:
        super().__init__(driver, info, events, reader)
        self.step = SyncStepTools(driver)


def declared_context(handler: Callable[..., object]) -> tuple[object, object]:
    """The context class a handler's first parameter is annotated with, and the type of its data; None: not said."""
    first = next(iter(inspect.signature(handler).parameters.values()), None)
    if first is None:
        return None, None
    try:
        wanted = typing.get_type_hints(handler).get(first.name)
    except Exception:  # Names that exist for type checkers only.
        return None, None
    arguments = typing.get_args(wanted)
    return typing.get_origin(wanted) or wanted, arguments[0] if arguments else None


def payload_reader(handler: Callable[..., object]) -> Reader | None:
    """What decodes event data for this handler: the ``T`` of the ``Context[T]`` it declares, if any."""
    declared, wanted = declared_context(handler)
    return reader_of(wanted) if declared in (Context, SyncContext) else None
