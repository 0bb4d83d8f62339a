"""Functions and apps as the engine knows them: what was registered, not the code itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from millstream.errors import FunctionError
from millstream.model import limits
from millstream.model.gates.declared import FlowSpec, senseless
from millstream.model.text.durations import duration_text
from millstream.model.text.storable import shown


class EventTrigger(msgspec.Struct, frozen=True, gc=False, tag="event"):
    """Start on events of this name (``a/*`` and ``a/b.*`` match at segment ends) whose ``expression`` holds."""

    event: str
    expression: str = ""

    def __post_init__(self) -> None:
        if not self.event or len(self.event) > limits.TRIGGER_NAME_CHARS_MAX:
            raise FunctionError(
                f"event trigger refused: the name must have 1 to {limits.TRIGGER_NAME_CHARS_MAX} characters, "
                f"got {len(self.event)}. Give the function the name of the events it should start on."
            )


class CronTrigger(msgspec.Struct, frozen=True, gc=False, tag="cron", omit_defaults=True):
    """Start at times: five fields, optionally after ``TZ=Europe/Paris ``.

    ``jitter_ms``  each run begins up to so much later than its tick, by chance; 0: at the tick.
    """

    cron: str
    jitter_ms: int = 0

    def __post_init__(self) -> None:
        if self.jitter_ms and not limits.CRON_JITTER_MS_MIN <= self.jitter_ms <= limits.CRON_JITTER_MS_MAX:
            raise FunctionError(
                f"cron trigger {self.cron!r:.80} refused: jitter must be {duration_text(limits.CRON_JITTER_MS_MIN)} to "
                f"{duration_text(limits.CRON_JITTER_MS_MAX)}, got {self.jitter_ms} ms."
            )


class Reading(msgspec.Struct, frozen=True, gc=False):
    """How the records of a foreign topic are read as events; functions of one reading share the event.

    ``format``  one of ``FORMATS``.
    ``schema``  the full name of the record's schema, where the format wants one.
    ``name``    the event's name: a text, or a path (``data.type``, ``headers.type``, ``key``); empty: the topic's name.
    ``key``, ``id``  paths; empty: the record's key, and ``<topic>-<partition>-<offset>``.
    """

    format: str = "auto"
    schema: str = ""
    name: str = ""
    key: str = ""
    id: str = ""


FORMATS: Final = ("auto", "avro", "json", "raw", "cloudevents", "debezium", "envelope")
"""How values of foreign topics may be read; the readers are in ``wire/formats``."""
SINCE_LATEST: Final = -1
SINCE_EARLIEST: Final = 0
_TOPIC_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_PATH: Final = re.compile(r"key|(data|headers)(\.[^.]+)+")


def is_path(rule: str) -> bool:
    """Whether a rule of a Reading names a place in the record; a name may be a plain text instead."""
    return _PATH.fullmatch(rule) is not None


def patterns(name: str) -> Iterator[str]:
    """The trigger names that match an event's name: itself, then a wildcard at every boundary, longest first."""
    yield name
    for i in range(len(name) - 1, 0, -1):
        if name[i - 1] in "/.":
            yield name[:i] + "*"


class TopicTrigger(msgspec.Struct, frozen=True, gc=False, tag="topic"):
    """Start on every record of an existing topic whose ``expression`` holds.

    ``since_ms``  where a first subscription begins: SINCE_LATEST, SINCE_EARLIEST, or the records from that time on.
    """

    topic: str
    expression: str = ""
    since_ms: int = SINCE_LATEST
    reading: Reading = Reading()

    def __post_init__(self) -> None:
        reading = self.reading
        if _TOPIC_NAME.fullmatch(self.topic) is None or self.topic in (".", ".."):
            raise FunctionError(
                "topic trigger refused: a topic's name has 1 to 249 letters, digits, dots, underscores and hyphens, "
                f"got {self.topic!r:.80}. Give the name that the topic has in Kafka."
            )
        if reading.format not in FORMATS:
            raise FunctionError(
                f"topic trigger {self.topic!r} refused: format must be one of {', '.join(FORMATS)}, "
                f"got {reading.format!r:.80}."
            )
        if not SINCE_LATEST <= self.since_ms <= limits.EVENT_TS_MAX_MS:
            raise FunctionError(
                f"topic trigger {self.topic!r} refused: since must be Unix milliseconds up to "
                f"{limits.EVENT_TS_MAX_MS}, got {self.since_ms}."
            )
        for option, rule in (("key", reading.key), ("id", reading.id)):
            if rule and not is_path(rule):
                raise FunctionError(
                    f"topic trigger {self.topic!r} refused: {option} must name a place in the record such as "
                    f"data.order.id, headers.{option} or key, got {rule!r:.80}."
                )
        if len(reading.name) > limits.TRIGGER_NAME_CHARS_MAX:
            raise FunctionError(
                f"topic trigger {self.topic!r} refused: name may have {limits.TRIGGER_NAME_CHARS_MAX} characters, "
                f"got {len(reading.name)}."
            )


class CancelTrigger(msgspec.Struct, frozen=True, gc=False):
    """An event that cancels a run.

    ``match``       a path that must hold the same value in it and in the run's own event.
    ``expression``  CEL over ``event``, the run's own, and ``async``, the one that comes.
    ``timeout_ms``  for how long after the run's start it counts; 0: as long as the run is open.
    """

    event: str
    match: str = ""
    expression: str = ""
    timeout_ms: int = 0

    def __post_init__(self) -> None:
        if not self.event or len(self.event) > limits.EVENT_NAME_CHARS_MAX or "*" in self.event:
            raise FunctionError(
                f"cancel_on refused: an event is named by 1 to {limits.EVENT_NAME_CHARS_MAX} characters without "
                f"wildcards, got {self.event!r:.80}. Give one CancelOn for each event."
            )


Trigger = EventTrigger | CronTrigger | TopicTrigger


class Backoff(msgspec.Struct, frozen=True, gc=False):
    """The delays between attempts. ``delays_ms[n]`` comes before attempt n + 1; the last one repeats.

    ``jitter_ms`` is added, derived from the run and the attempt, so that a decision can be made again.
    """

    delays_ms: tuple[int, ...]
    jitter_ms: int = 0

    def __post_init__(self) -> None:
        if not self.delays_ms or min(self.delays_ms) < 0 or self.jitter_ms < 0:
            raise FunctionError(
                f"backoff refused: expected at least one delay and none negative, got {self.delays_ms!r} "
                f"with jitter {self.jitter_ms!r} ms."
            )


DEFAULT_BACKOFF = Backoff(
    delays_ms=tuple(1000 * s for s in (15, 30, 60, 120, 300, 600, 1200, 2400, 3600, 7200)), jitter_ms=30_000
)


FAIL: Final = "fail"
HOLD: Final = "hold"
ON_EXHAUSTED: Final = (FAIL, HOLD)


class FunctionSpec(msgspec.Struct, frozen=True):
    """One function of an app, as registered.

    ``slug`` is ``<app>-<id>`` and names the function everywhere. ``retries`` counts attempts after the first,
    for each step and for the body. ``step_timeout_ms`` bounds one attempt;
    ``start_ms`` and ``finish_ms`` the run, 0: nothing does. ``cancel_on`` are events that cancel it;
    ``flow`` says when it may start, None: at once.
    ``on_exhausted`` says what becomes of a run whose body or step has failed for good: FAIL or HOLD.
    """

    slug: str
    name: str
    triggers: tuple[Trigger, ...] = ()
    retries: int = limits.RETRIES_DEFAULT
    backoff: Backoff = DEFAULT_BACKOFF
    step_timeout_ms: int = 2 * limits.HOUR_MS
    cancel_on: tuple[CancelTrigger, ...] = ()
    start_ms: int = 0
    finish_ms: int = 0
    on_exhausted: str = FAIL
    flow: FlowSpec | None = None

    def __post_init__(self) -> None:
        if self.on_exhausted not in ON_EXHAUSTED:
            raise FunctionError(
                f"function {self.slug!r} refused: on_exhausted must be {FAIL!r} or {HOLD!r}, "
                f"got {shown(self.on_exhausted)}."
            )
        if len(self.triggers) > limits.TRIGGERS_PER_FUNCTION_MAX:
            raise FunctionError(
                f"function {self.slug!r} refused: at most {limits.TRIGGERS_PER_FUNCTION_MAX} triggers, "
                f"got {len(self.triggers)}. Split the function, or use a wildcard trigger."
            )
        if len(self.cancel_on) > limits.CANCEL_ON_MAX:
            raise FunctionError(
                f"function {self.slug!r} refused: at most {limits.CANCEL_ON_MAX} events may cancel it, "
                f"got {len(self.cancel_on)}. Name what they have in common with one event."
            )
        if not 0 <= self.retries <= limits.RETRIES_MAX:
            raise FunctionError(
                f"function {self.slug!r} refused: retries must be 0 to {limits.RETRIES_MAX}, got {self.retries}."
            )
        why = senseless(self.flow, has_cancel_on=bool(self.cancel_on)) if self.flow is not None else ""
        if why:
            raise FunctionError(f"function {self.slug!r} refused: {why}")


class Remote(msgspec.Struct, frozen=True):
    """What an app over HTTP has said of itself.

    ``url``        where it is asked to register (PUT), and asked about itself (GET).
    ``sdk``        its SDK: ``py:v0.5.19``.
    ``framework``  what serves it: ``fast_api``, ``nextjs``.
    """

    url: str
    sdk: str = ""
    framework: str = ""


class AppSpec(msgspec.Struct, frozen=True):
    """The functions one team deploys together.

    ``endpoint``  where its functions are called; empty for code that runs in the worker itself.
    ``remote``    with an endpoint: what else is known of it.
    """

    id: str
    functions: tuple[FunctionSpec, ...]
    endpoint: str = ""
    version: str = ""
    remote: Remote | None = None

    def __post_init__(self) -> None:
        if len(self.functions) > limits.FUNCTIONS_PER_APP_MAX:
            raise FunctionError(
                f"app {self.id!r} refused: at most {limits.FUNCTIONS_PER_APP_MAX} functions, got {len(self.functions)}."
            )
        slugs = [f.slug for f in self.functions]
        twice = sorted({s for s in slugs if slugs.count(s) > 1})
        if twice:
            raise FunctionError(f"app {self.id!r} refused: two functions have the id {twice[0]!r}. Rename one of them.")


def encode_app_spec(app: AppSpec) -> bytes:
    """The AppSpec as JSON; equal specs give equal bytes."""
    return msgspec.json.encode(app, order="sorted")


_DECODER = msgspec.json.Decoder(AppSpec)


def decode_app_spec(data: bytes) -> AppSpec:
    """The AppSpec of ``encode_app_spec``'s bytes. Raises FunctionError when they are something else."""
    try:
        return _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise FunctionError(f"app refused: expected the JSON of an app, got {data[:200]!r}: {error}") from error
