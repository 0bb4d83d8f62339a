"""What gates are told of a run that holds places there, or waits for some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from millstream.core.tables import Tables
from millstream.model.facts import Post
from millstream.model.gates.messages import LeaveGate
from millstream.model.rows import RunRow
from millstream.model.waits.awaited import home_of_place

BODY: Final = ""
ONCE: Final = 0
"""The number under which a run asks at a gate that it passes once."""


def leaves(tables: Tables, run: str, step: str, places: Iterable[str], number: int) -> Iterator[Post]:
    """The body or step is at these gates no more."""
    lanes = tables.place.lanes
    for place in places:
        yield Post(home_of_place(place, lanes), LeaveGate(place, run, step, number))


def leaving(tables: Tables, run: RunRow) -> Iterator[Post]:
    """The run ends: it leaves the gates where it counts, and those where it waits."""
    flow = run.flow
    if flow is None:
        return
    yield from leaves(tables, run.run, BODY, flow.held, ONCE)
    yield from leaves(tables, run.run, BODY, flow.gates[: flow.asked], ONCE)
    if flow.slot is not None:
        yield from leaves(tables, run.run, BODY, flow.slots[: flow.slot.asked], flow.slot.number)
    if flow.slots and run.pending:
        for id in run.steps:
            step = tables.steps.get((run.run, id))
            if step is not None and step.slot is not None:
                yield from leaves(tables, run.run, id, flow.slots[: step.slot.asked], step.slot.number)
