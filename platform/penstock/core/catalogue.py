"""What this lane knows of apps and functions, arranged for matching. Derived from the apps table, rebuilt when it
changes.

**Wildcards**: an event ``a/b.c`` matches the patterns ``a/*`` and ``a/b.*``: one at every ``/`` and ``.`` boundary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from penstock.core.expressions import Expression, compile_expression
from penstock.core.tables import Tables
from penstock.errors import FunctionError
from penstock.model.function import CronTrigger, EventTrigger, FunctionSpec, decode_app_spec
from penstock.model.messages import group_topic

APPS_MAX: Final = 10_000
NAMES_CACHED_MAX: Final = 10_000


class Subscription(NamedTuple):
    """A function that may start on an event. ``error`` says why its expression can't be used."""

    function: FunctionSpec
    expression: Expression | None
    error: str


class Catalogue:
    """All functions, by slug and by the names they start on."""

    def __init__(self, functions: tuple[FunctionSpec, ...]) -> None:
        self.functions: Final = {f.slug: f for f in functions}
        self._by_pattern: dict[str, list[Subscription]] = {}
        self._by_name: dict[str, tuple[Subscription, ...]] = {}
        for function in functions:
            for trigger in function.triggers:
                if isinstance(trigger, EventTrigger):
                    self._by_pattern.setdefault(trigger.event, []).append(_subscription(function, trigger))

    def subscriptions(self, name: str) -> tuple[Subscription, ...]:
        """The subscriptions whose name or pattern fits, exact names first. Expressions are the caller's to check."""
        found = self._by_name.get(name)
        if found is None:
            found = tuple(s for pattern in patterns(name) for s in self._by_pattern.get(pattern, ()))
            if len(self._by_name) >= NAMES_CACHED_MAX:
                self._by_name.clear()
            self._by_name[name] = found
        return found


def patterns(name: str) -> Iterator[str]:
    """The trigger names that match an event's name: itself, then a wildcard at every boundary, longest first."""
    yield name
    for i in range(len(name) - 1, 0, -1):
        if name[i - 1] in "/.":
            yield name[:i] + "*"


def catalogue(tables: Tables) -> Catalogue:
    """The catalogue of this lane as it is now."""
    version = tables.apps.version
    held = tables.memo.get("catalogue")
    if held is not None and held[0] == version:
        assert isinstance(held[1], Catalogue)
        return held[1]
    specs = (decode_app_spec(row.spec) for _, row in tables.apps.scan(limit=APPS_MAX) if row.spec)
    made = Catalogue(tuple(f for spec in specs for f in spec.functions))
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


def _subscription(function: FunctionSpec, trigger: EventTrigger) -> Subscription:
    if not trigger.expression:
        return Subscription(function, None, "")
    try:
        return Subscription(function, compile_expression(trigger.expression), "")
    except FunctionError as error:  # Registration refuses these; one that slipped through must not stop the lane.
        return Subscription(function, None, str(error))
