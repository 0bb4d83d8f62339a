"""The gates, in the order in which a start and its run pass them: the one table that says which there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from millstream.core.flow.batch import BATCH
from millstream.core.flow.concurrency import IN_ORDER, PER_RUN, PER_STEP
from millstream.core.flow.debounce import DEBOUNCE
from millstream.core.flow.delay import DELAY
from millstream.core.flow.idempotency import IDEMPOTENCY
from millstream.core.flow.kinds import AdmitGate
from millstream.core.flow.places import parts_of, score_of
from millstream.core.flow.rate_limit import RATE_LIMIT
from millstream.core.flow.singleton import SINGLETON
from millstream.core.flow.throttle import THROTTLE
from millstream.model.function import FunctionSpec
from millstream.model.gates.declared import RunFlow
from millstream.model.waits.awaited import home_of_place

_ADMIT: Final[tuple[AdmitGate, ...]] = (DELAY, RATE_LIMIT, IDEMPOTENCY, DEBOUNCE, BATCH, SINGLETON)
_QUEUE: Final = (IN_ORDER, THROTTLE, PER_RUN, PER_STEP)
_LIVES_THERE: Final = (BATCH.name, IN_ORDER.name)
ADMIT_GATES: Final = {gate.name: gate for gate in _ADMIT}
QUEUE_GATES: Final = {gate.name: gate for gate in _QUEUE}


class Way(NamedTuple):
    """Where a start has to pass, and the lane where its run lives: the home of the last gate.

    Where runs are in order, it is that of their order: starts then come there, and ask, in the order of their arrival.
    The run of a batch lives where that is collected.
    """

    admits: tuple[str, ...]
    flow: RunFlow | None
    lane: int


def way_of(function: FunctionSpec, event: Mapping[str, object], at_ms: int, *, lane: int, lanes: int) -> Way:
    """Where a start of the function on this event has to pass. ``lane``: where its run lives, if there is no gate.

    Every key is evaluated here, once.
    """
    admits = tuple(place for gate in _ADMIT for place in gate.places(function, event))
    held = tuple(place for place in admits if ADMIT_GATES[parts_of(place).gate].left is not None)
    gates, slots = _queues(function, event, is_slot=False), _queues(function, event, is_slot=True)
    places = (*admits, *gates, *slots)
    run = None
    if function.flow is not None and (held or gates or slots):
        run = RunFlow(gates, slots, held, score_of(function.flow.priority, event, at_ms))
    if not places:
        return Way((), None, lane)
    last = next((place for place in places if parts_of(place).gate in _LIVES_THERE), places[-1])
    return Way(admits, run, home_of_place(last, lanes))


def _queues(function: FunctionSpec, event: Mapping[str, object], *, is_slot: bool) -> tuple[str, ...]:
    return tuple(place for gate in _QUEUE if gate.is_slot is is_slot for place in gate.places(function, event))
