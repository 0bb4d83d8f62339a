"""What this lane knows of apps and functions, arranged for matching. Derived from the tables of apps and of
overrides, rebuilt when one changes: what a function has is what it declares, with an operator's numbers.

**Wildcards**: an event ``a/b.c`` matches the patterns ``a/*`` and ``a/b.*``: one at every ``/`` and ``.`` boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from millstream.core.tables import Tables
from millstream.core.triggers.expressions import Expression, compile_expression
from millstream.errors import FunctionError
from millstream.model import limits
from millstream.model.function import (
    CronTrigger,
    EventTrigger,
    FunctionSpec,
    Reading,
    TopicTrigger,
    decode_app_spec,
    patterns,
)
from millstream.model.gates.overrides import decode_overrides, in_force
from millstream.model.messages import group_topic

FUNCTIONS_SET_MAX: Final = 100_000
NAMES_CACHED_MAX: Final = 10_000


class Subscription(NamedTuple):
    """A function that may start on an event. ``error`` says why its expression can't be used."""

    function: FunctionSpec
    expression: Expression | None
    error: str


class Reader(NamedTuple):
    """The functions that read a topic in one way."""

    reading: Reading
    subscriptions: tuple[Subscription, ...]


class Catalogue:
    """All functions, by slug, by the names they start on, and by the topics. The events topic starts those by name;
    a function that subscribes to it as a topic starts on events of every name."""

    def __init__(self, functions: tuple[FunctionSpec, ...], events_topic: str) -> None:
        self.functions: Final = {f.slug: f for f in functions}
        self._by_pattern: dict[str, list[Subscription]] = {}
        self._by_name: dict[str, tuple[Subscription, ...]] = {}
        self._by_topic: dict[str, list[tuple[FunctionSpec, TopicTrigger]]] = {}
        for function in functions:
            for trigger in function.triggers:
                if isinstance(trigger, EventTrigger):
                    self._by_pattern.setdefault(trigger.event, []).append(_subscription(function, trigger))
                elif isinstance(trigger, TopicTrigger):
                    self._by_topic.setdefault(trigger.topic, []).append((function, trigger))
        self._readers = {topic: _readers(of) for topic, of in self._by_topic.items()}
        every = (s for reader in self._readers.get(events_topic, ()) for s in reader.subscriptions)
        self._every: Final = tuple(every)
        self.topics: Final = frozenset(self._by_topic)

    def subscribers(self, topic: str) -> Sequence[tuple[FunctionSpec, TopicTrigger]]:
        """The functions that subscribe to a topic, with their triggers."""
        return self._by_topic.get(topic, ())

    def readers(self, topic: str) -> tuple[Reader, ...]:
        """The ways in which a foreign topic is read, with the functions of each."""
        return self._readers.get(topic, ())

    def subscriptions(self, name: str) -> tuple[Subscription, ...]:
        """The subscriptions whose name or pattern fits, exact names first. Expressions are the caller's to check."""
        found = self._by_name.get(name)
        if found is None:
            found = (*(s for pattern in patterns(name) for s in self._by_pattern.get(pattern, ())), *self._every)
            if len(self._by_name) >= NAMES_CACHED_MAX:
                self._by_name.clear()
            self._by_name[name] = found
        return found


def catalogue(tables: Tables) -> Catalogue:
    """The catalogue of this lane as it is now."""
    version = tables.apps.version + tables.limits.version  # Neither ever falls.
    held = tables.memo.get("catalogue")
    if held is not None and held[0] == version:
        assert isinstance(held[1], Catalogue)
        return held[1]
    specs = (decode_app_spec(row.spec) for _, row in tables.apps.scan(limit=limits.APPS_MAX) if row.spec)
    overrides = {slug: decode_overrides(row.overrides) for slug, row in tables.limits.scan(limit=FUNCTIONS_SET_MAX)}
    functions = (in_force(f, overrides.get(f.slug, ())) for spec in specs for f in spec.functions)
    made = Catalogue(tuple(functions), tables.place.events_topic)
    tables.memo["catalogue"] = (version, made)
    return made


def seen_upto(tables: Tables) -> int:
    """How much of the functions topic this lane has taken: the stamp of events it makes, as a door stamps its own.

    A lane that is behind it waits (lanes.md rule 23): else an event sent to a function just registered starts nothing.
    """
    row = tables.positions.get((group_topic(tables.place.group, "functions"), 0))
    return row.offset if row is not None else 0


def crons_of(function: FunctionSpec) -> tuple[str, ...]:
    """The texts of a function's crons."""
    return tuple(t.cron for t in function.triggers if isinstance(t, CronTrigger))


def jitter_ms_of(function: FunctionSpec, cron: str) -> int:
    """How much later than a tick of this cron its run may begin."""
    return next((t.jitter_ms for t in function.triggers if isinstance(t, CronTrigger) and t.cron == cron), 0)


def _readers(subscribers: Sequence[tuple[FunctionSpec, TopicTrigger]]) -> tuple[Reader, ...]:
    by_reading: dict[Reading, list[Subscription]] = {}
    for function, trigger in subscribers:
        by_reading.setdefault(trigger.reading, []).append(_subscription(function, trigger))
    return tuple(Reader(reading, tuple(of)) for reading, of in by_reading.items())


def _subscription(function: FunctionSpec, trigger: EventTrigger | TopicTrigger) -> Subscription:
    if not trigger.expression:
        return Subscription(function, None, "")
    try:
        return Subscription(function, compile_expression(trigger.expression), "")
    except FunctionError as error:  # Registration refuses these; one that slipped through must not stop the lane.
        return Subscription(function, None, str(error))
