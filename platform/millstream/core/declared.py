"""What is wrong with a function as it is declared, wherever that was: triggers, cancels, flow control together.

A **problem** is certain: the function would never start, or a limit would not be the one that is meant. A **warning**
is a field that no event has, or an option that changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from millstream.core.flow.problems import flow_problems, flow_warnings
from millstream.core.triggers.problems import cancel_problems, trigger_problems, trigger_warnings
from millstream.model.function import FunctionSpec


def function_problems(function: FunctionSpec) -> Iterator[str]:
    """Every problem as a sentence with what to do."""
    for trigger in function.triggers:
        yield from trigger_problems(trigger)
    for cancel in function.cancel_on:
        yield from cancel_problems(cancel)
    if function.flow is not None:
        yield from flow_problems(function.flow)


def function_warnings(function: FunctionSpec) -> Iterator[str]:
    """Every warning as a sentence."""
    for trigger in function.triggers:
        yield from trigger_warnings(trigger)
    if function.flow is not None:
        yield from flow_warnings(function.flow)
