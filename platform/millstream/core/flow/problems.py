"""What is wrong with the expressions of a function's flow control, although they can be declared.

    key, idempotency, ordered_by    give any value        batch's if_    gives true or false
    priority                        gives a number

A **problem** is certain: the expression never gives such a value. A **warning** is a field that no event has, or an
option that changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from millstream.core.triggers.expressions import EVENT_FIELDS, Expression, compile_expression
from millstream.errors import FunctionError
from millstream.model.gates.declared import FlowSpec

NUMBERS: Final = ("int", "uint", "double")


def flow_problems(flow: FlowSpec) -> Iterator[str]:
    """Every problem as a sentence with what to do."""
    for what, text in _values(flow):
        try:
            compile_expression(text, is_condition=False)
        except FunctionError as error:
            yield f"{what}: {error}"
    if flow.batch is not None and flow.batch.expression:
        try:
            compile_expression(flow.batch.expression)
        except FunctionError as error:
            yield f"batch's if_: {error}"
    if flow.priority:
        try:
            given = compile_expression(flow.priority, is_condition=False).gives
        except FunctionError as error:
            yield f"priority: {error}"
        else:
            if given and given not in NUMBERS:
                yield (
                    f"priority: expression {flow.priority!r} always gives {given}, expected seconds from -600 to 600 "
                    "such as: event.data.plan == 'pro' ? 60 : 0."
                )


def flow_warnings(flow: FlowSpec) -> Iterator[str]:
    """Every field that a key reads and no event has, and a priority with nothing to wait for, as a sentence."""
    texts = [*_values(flow), ("priority", flow.priority)]
    if flow.batch is not None:
        texts.append(("batch's if_", flow.batch.expression))
    for what, text in texts:
        expression = _compiled(text) if text else None
        for name in expression.unknown_fields if expression is not None else ():
            yield (
                f"{what}: expression {text!r} reads event.{name}, which no event has: an event has "
                f"{', '.join(EVENT_FIELDS)}. What was sent is under event.data."
            )
    if flow.priority and not flow.throttle and not flow.concurrency:
        yield "priority changes nothing: runs wait for neither throttle nor concurrency. Declare one of them."


def _values(flow: FlowSpec) -> Iterator[tuple[str, str]]:
    """The expressions that may give any value, each with the option that it is of."""
    keyed = (
        *(("concurrency's key", rule.key) for rule in flow.concurrency),
        *(
            (f"{name}'s key", rule.key)
            for name, rule in (
                ("throttle", flow.throttle),
                ("rate_limit", flow.rate_limit),
                ("debounce", flow.debounce),
                ("batch", flow.batch),
                ("singleton", flow.singleton),
            )
            if rule is not None
        ),
        ("idempotency", flow.idempotency),
        ("ordered_by", flow.ordered_by),
    )
    return ((what, text) for what, text in keyed if text)


def _compiled(text: str) -> Expression | None:
    """The expression, None where it cannot be: that is a problem."""
    try:
        return compile_expression(text, is_condition=False)
    except FunctionError:
        return None
