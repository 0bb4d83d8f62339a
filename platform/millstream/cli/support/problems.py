"""What is wrong with apps, as far as that shows without running them: ``check`` reports it, servers say it at a start.

    refused     ids and functions that two apps have: a run would get the code of either (``collisions``)
    a problem   expressions and crons that cannot be, patterns that match nothing: the function would never start

``check`` names all of it. A server refuses the first and says the second: its other functions are none the worse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from millstream.cli.support.exits import note
from millstream.core.cron import parse_cron
from millstream.core.expressions import Expression, compile_expression
from millstream.errors import FunctionError
from millstream.model.function import CronTrigger, EventTrigger, FunctionSpec
from millstream.sdk.app import App

EVENT_FIELDS: Final = ("name", "data", "id", "ts", "key", "user", "v", "meta")
WILDCARD: Final = "*"

Problem = dict[str, str]


def problem(app: str, function: str, text: str) -> Problem:
    """One problem as a row."""
    return {"app": app, "function": function, "problem": text}


def collisions(apps: Sequence[tuple[str, App]]) -> Iterator[Problem]:
    """Ids of apps, and of functions, that two of them have; each app with the target that names it."""
    homes: dict[str, str] = {}
    slugs: dict[str, str] = {}
    for target, app in apps:
        home = homes.setdefault(app.id, target)
        if home != target:
            yield problem(app.id, "", f"the app id {app.id!r} is used by {home} and {target}. Give each its own.")
            continue
        for slug in app.functions:
            other = slugs.setdefault(slug, app.id)
            if other != app.id:
                text = f"the apps {other!r} and {app.id!r} both have the function {slug!r}. Rename one."
                yield problem(app.id, slug, text)


def problems_of(app: App) -> Iterator[Problem]:
    """Everything else that can be wrong with one app."""
    if not app.functions:
        yield problem(app.id, "", "the app has no functions. Declare one with @app.function(on=…).")
    for function in app.functions.values():
        yield from (problem(app.id, function.spec.slug, text) for text in trigger_problems(function.spec))
    try:
        app.spec()
    except FunctionError as error:
        yield problem(app.id, "", str(error))


def say_problems(apps: Sequence[App]) -> None:
    """A line for each problem: what a server says at its start."""
    for app in apps:
        for found in problems_of(app):
            note(f"warning: {found['function'] or found['app']}: {found['problem']}")


def trigger_problems(spec: FunctionSpec) -> Iterator[str]:
    """Why triggers of a function never start it."""
    for trigger in spec.triggers:
        try:
            if isinstance(trigger, CronTrigger):
                parse_cron(trigger.cron)
                continue
            if trigger.expression:
                yield from _unknown_fields(compile_expression(trigger.expression))
        except FunctionError as error:
            yield str(error)
        if isinstance(trigger, EventTrigger) and not can_match(trigger.event):
            yield (
                f"on={trigger.event!r} looks like a wildcard and matches no event but one of just that name: expected "
                "one * at the end, behind / or ., such as 'order/*' or 'order/refund.*'. For every event, subscribe to "
                "their topic: on=Topic('events')."
            )


def can_match(pattern: str) -> bool:
    """Whether what looks like a wildcard is one (``core/catalogue.py``)."""
    at = pattern.find(WILDCARD)
    return at < 0 or (at == len(pattern) - 1 and at > 0 and pattern[at - 1] in "/.")


def _unknown_fields(expression: Expression) -> Iterator[str]:
    for path in sorted(expression.paths):
        if len(path) > 1 and path[0] == "event" and path[1] not in EVENT_FIELDS:
            yield (
                f"if_={expression.text!r} reads event.{path[1]}, which no event has: expected one of "
                f"{', '.join(EVENT_FIELDS)}. What a sender puts into an event is in event.data."
            )
