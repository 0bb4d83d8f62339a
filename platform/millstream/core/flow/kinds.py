"""What a gate is: one value a gate, in the file of its name. The tables of them are in ``gates.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from millstream.core.tables import Tables
from millstream.model.facts import Fact
from millstream.model.function import FunctionSpec
from millstream.model.gates.declared import FlowSpec
from millstream.model.gates.messages import AdmitStart
from millstream.model.gates.rows import GateRow

Places = Callable[[FunctionSpec, Mapping[str, object]], tuple[str, ...]]
"""(function, its event as expressions see it) -> the places where the start has to pass; none: it has no such gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitGate:
    """A gate that says whether a start becomes a run: yes, no, or not yet.

    ``decide``  at the home of the place: ``onward`` where it says yes, ``skipped`` where it says no (``starts.py``);
                or facts that keep the start until another time.
    """

    name: str
    places: Places
    decide: Callable[[Tables, AdmitStart, str, int], list[Fact]]
    """(tables, the start, the place, now) -> facts."""
    left: Callable[[Tables, str, int], list[Fact]] | None = None
    """(tables, the place, now) -> what follows when the run that counted there is over; None: none counts there."""


class Room(NamedTuple):
    """What a gate says to one who would pass now.

    ``is_open``   whether it may.
    ``full_us``   what becomes of ``GateRow.full_us`` where it does.
    ``timer_ms``  when to look again; 0: when somebody leaves.
    """

    is_open: bool
    full_us: int = 0
    timer_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueGate:
    """A gate that lets runs pass one by one, and has a queue.

    ``name``      as it stands in places.
    ``holds``     whether one that has passed counts until it leaves.
    ``is_slot``   whether executing is counted: body and steps pass it each time they are handed out. Else a run passes
                  it once.
    ``by_rank``   whether the queue is in order of rank; else in that of arrival.
    ``room``      (the function's flow, the rule's id, the gate's row, now) -> whether one may pass. A rule that the
                  function has no more lets everyone pass.
    """

    name: str
    places: Places
    room: Callable[[FlowSpec, str, GateRow, int], Room]
    holds: bool = True
    is_slot: bool = False
    by_rank: bool = True
