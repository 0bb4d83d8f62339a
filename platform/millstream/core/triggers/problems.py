"""What is wrong with a trigger although it can be declared: it would never fire, and nothing would say so.

A **problem** is certain: no event can start the function. A **warning** is a field that no event has: the expression
has an answer all the same where it asks for it with ``has`` or behind ``||``.
"""

from __future__ import annotations

from collections.abc import Iterator

from millstream.core.triggers.cron import parse_cron
from millstream.core.triggers.equality import COMING, OWN
from millstream.core.triggers.expressions import EVENT_FIELDS, Expression, compile_expression
from millstream.errors import FunctionError
from millstream.model.function import CancelTrigger, CronTrigger, EventTrigger, Trigger


def trigger_problems(trigger: Trigger) -> Iterator[str]:
    """Every problem as a sentence with what to do: a cron or expression that is none, a wildcard that fits no event."""
    if isinstance(trigger, CronTrigger):
        try:
            parse_cron(trigger.cron)
        except FunctionError as error:
            yield str(error)
        return
    if isinstance(trigger, EventTrigger):
        yield from _pattern_problems(trigger.event)
    if not trigger.expression:
        return
    try:
        compile_expression(trigger.expression)
    except FunctionError as error:
        yield str(error)


def cancel_problems(cancel: CancelTrigger) -> Iterator[str]:
    """Every problem of an event that cancels runs: an expression that is none."""
    if cancel.expression:
        try:
            compile_expression(cancel.expression, (OWN, COMING))
        except FunctionError as error:
            yield f"cancel_on {cancel.event!r}: {error}"


def trigger_warnings(trigger: Trigger) -> Iterator[str]:
    """Every field that an expression reads and no event has, as a sentence. Nothing where it is no expression."""
    if isinstance(trigger, CronTrigger) or not trigger.expression:
        return
    try:
        expression = compile_expression(trigger.expression)
    except FunctionError:
        return  # A problem.
    yield from expression_warnings(expression)


def expression_warnings(expression: Expression) -> Iterator[str]:
    """Every field that it reads and no event has, as a sentence."""
    for name in expression.unknown_fields:
        yield (
            f"expression {expression.text!r} reads event.{name}, which no event has: an event has "
            f"{', '.join(EVENT_FIELDS)}. What was sent is under event.data."
        )


def _pattern_problems(pattern: str) -> Iterator[str]:
    if "*" not in pattern or (pattern.count("*") == 1 and pattern.endswith(("/*", ".*"))):
        return
    yield (
        f"the event name {pattern!r} is no wildcard, and fits no other name than itself: expected one * at the end, "
        "behind / or ., such as 'order/*' or 'order/item.*'. For every event of a topic write on=Topic(…)."
    )
