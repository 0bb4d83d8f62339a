"""Values that tests of the core speak of: two apps, events, and short ways to write commands."""

from __future__ import annotations

from typing import Final

from millstream.model.commands import AcceptEvent, Report, SeeCatalogue
from millstream.model.event import Envelope
from millstream.model.function import AppSpec, Backoff, CronTrigger, EventTrigger, FunctionSpec, TopicTrigger
from millstream.model.ids import encode_ulid, home_of
from millstream.model.operations import (
    BodyErrored,
    Failure,
    Operation,
    RetryPolicy,
    SleepFound,
    StepDone,
    StepErrored,
    StepFound,
)
from millstream.model.place import Place

START_MS: Final = 1_800_000_000_000
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
LANES: Final = 2
PLACE: Final = Place("shop", 0, LANES, public_url="https://shop.example", callback_key=bytes(32))
FAST: Final = Backoff((1_000, 5_000), 0)
BOOM: Final = Failure("ValueError", "boom", "Traceback …")


def home_slug(name: str, lane: int = PLACE.lane) -> str:
    """A slug that starts so and whose home is this lane."""
    return next(slug for n in range(100) if home_of(slug := f"{name}{n}", LANES) == lane)


def function(slug: str, *triggers: EventTrigger | CronTrigger | TopicTrigger | str, retries: int = 2) -> FunctionSpec:
    """A function; a trigger given as text is the name of an event."""
    given = tuple(EventTrigger(t) if isinstance(t, str) else t for t in triggers)
    return FunctionSpec(slug, slug, given, retries=retries, backoff=FAST)


def app(*functions: FunctionSpec, id: str = "shop") -> AppSpec:
    """An app of these functions."""
    return AppSpec(id, functions)


def see(spec: AppSpec | None, offset: int = 0, id: str = "shop") -> SeeCatalogue:
    """The functions topic says this of an app."""
    return SeeCatalogue(id, spec, offset)


def internal_id(number: int) -> str:
    """The internal id of the event with this number."""
    return encode_ulid(START_MS << 80 | number)


def event(
    number: int = 1, name: str = "order/placed", *, id: str = "", at_ms: int = 0, data: bytes = b"{}"
) -> Envelope:
    """An event received at START_MS, or then; ``id`` is the client's where it is given."""
    own = internal_id(number)
    at_ms = at_ms or START_MS
    return Envelope(own, id or own, bool(id), name, data, at_ms, at_ms)


def accept(given: Envelope, offset: int = 0, partition: int = 0) -> AcceptEvent:
    """That event was read from the events topic."""
    return AcceptEvent(given, "events", partition, offset)


def done(step: str, data: bytes = b"1") -> StepDone:
    """The step returned."""
    return StepDone(step, step, data, START_MS)


def errored(step: str, *, retriable: bool = True, after_ms: int = -1, retry: RetryPolicy | None = None) -> StepErrored:
    """An attempt of the step raised."""
    return StepErrored(step, step, BOOM, START_MS, retriable, after_ms, retry)


def body_errored(*, retriable: bool = True, after_ms: int = -1) -> BodyErrored:
    """The handler raised."""
    return BodyErrored(BOOM, retriable, after_ms)


def found(step: str) -> StepFound:
    """The body wants this step run beside others."""
    return StepFound(step, step)


def sleep(step: str, length_ms: int = 1_000) -> SleepFound:
    """The body wants to sleep."""
    return SleepFound(step, step, length_ms)


def report(run: str, dispatch: int, *operations: Operation, step: str = "", attempt: int = 0) -> Report:
    """What came of a dispatch."""
    return Report(run, step, attempt, dispatch, operations)
