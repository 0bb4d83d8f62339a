"""A condition of a wait becomes a place: where its events are found, what is asked of them beside, and by what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from millstream.core.triggers.equality import COMING, MISSING, OWN, value_at, value_text
from millstream.core.triggers.expressions import Expression, compile_expression
from millstream.model.operations import Condition
from millstream.model.waits.awaited import NO_PLACE, AwaitedEvent, place_of

VARIABLES = (OWN, COMING)


class Placed(NamedTuple):
    """A condition with its place; ``given``: JSON of what its expression reads of the run's own event."""

    condition: AwaitedEvent
    given: bytes


def placed(condition: Condition, own: Mapping[str, object]) -> Placed:
    """Where a run with this event waits for the condition. Raises FunctionError on an expression that is none."""
    expression = compile_expression(condition.expression, VARIABLES) if condition.expression else None
    equality = expression.equality if expression is not None else None
    path, text = "", condition.expression
    value: object = ""
    if condition.match:
        path, value = condition.match, value_at(own, tuple(condition.match.split(".")))
    elif equality is not None:
        path = ".".join(equality.path)
        value = value_at(own, equality.own) if equality.own else equality.literal
        text = "" if equality.is_all else text
    if value is MISSING:
        return Placed(AwaitedEvent(condition.event, NO_PLACE, path, condition.expression), b"")
    place = place_of(condition.event, path, value_text(value) if path else "")
    given = expression.read_of(OWN, own) if expression is not None and text else None
    return Placed(
        AwaitedEvent(condition.event, place, path, text), msgspec.json.encode(given) if given is not None else b""
    )


def place_at(name: str, event: Mapping[str, object], path: str) -> str:
    """The place of an event that comes, by a path; NO_PLACE: it has no value there."""
    value = value_at(event, tuple(path.split("."))) if path else None
    return NO_PLACE if value is MISSING else place_of(name, path, value_text(value) if path else "")


def holds(text: str, given: bytes, event: Mapping[str, object]) -> bool:
    """Whether what is asked beside the equality holds of an event that comes. An expression without answer does not."""
    if not text:
        return True
    expression: Expression = compile_expression(text, VARIABLES)
    own = msgspec.json.decode(given) if given else {}
    return expression.evaluate({OWN: own, COMING: event}).value is True
