"""Moves about gates: of runs that ask at the gates of another lane, and of this lane as the home of gates.

What the other lane says comes as messages of lane 1, in any order and number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from millstream.core.flow.gates import QUEUE_GATES, way_of
from millstream.core.tables import Tables
from millstream.core.triggers.readable import readable
from millstream.model.commands import Command, LaneMessage, TakeMessage
from millstream.model.gates.declared import ConcurrencyRule, FlowSpec, Slot, ThrottleRule
from millstream.model.gates.messages import AdmitStart, AskGate, GateOpen, LeaveGate
from millstream.model.ids import run_id
from millstream.model.rows import Hand, RunRow
from millstream.model.waits.awaited import home_of_place
from tests.core.harness import Harness
from tests.core.values import LANES, MINUTE_MS, PLACE, START_MS, event, function

ELSEWHERE: Final = tuple(run_id(START_MS, f"x{n}", "f", "", lane=1, lanes=LANES) for n in range(3))
BY_VALUE: Final = ConcurrencyRule(1, "event.data.n", per="step")
SHARED: Final = ConcurrencyRule(2, "'all'", scope="env", per="step")
SHIP: Final = msgspec.structs.replace(
    function("shop-ship", "order/paid", "order/placed", retries=1),
    flow=FlowSpec(
        concurrency=(BY_VALUE, SHARED),
        throttle=ThrottleRule(2, MINUTE_MS, 2, "event.data.n"),
        priority="event.data.n",
    ),
)
"""Asks at gates of either lane: each value of the key has a home of its own."""
SHIP_FREELY: Final = msgspec.structs.replace(
    SHIP, flow=FlowSpec(concurrency=(BY_VALUE, ConcurrencyRule(3, per="run")), ordered_by="event.data.n")
)
"""The same after a deploy: some gates are gone, another has come."""
HERE: Final = tuple(
    place
    for gate in QUEUE_GATES.values()
    for spec in (SHIP, SHIP_FREELY)
    for n in range(5)
    for place in gate.places(spec, {"data": {"n": n}})
    if home_of_place(place, LANES) == PLACE.lane
)
"""Places whose home this lane is."""


def asked_elsewhere(tables: Tables) -> list[GateOpen]:
    """What lets each body and step pass that has asked at a gate of the other lane."""
    opens: list[GateOpen] = []
    for _, run in tables.runs.scan(limit=1_000):
        if run.flow is None:
            continue
        if run.body == Hand.QUEUED:
            opens += _open(run, "", run.flow.slot, run.flow.asked > run.flow.passed)
        for step in run.steps:
            row = tables.steps.get((run.run, step))
            if row is not None and row.hand == Hand.QUEUED:
                opens += _open(run, step, row.slot, False)
    return [one for one in opens if home_of_place(one.place, LANES) != PLACE.lane]


def _open(run: RunRow, step: str, slot: Slot | None, is_gate: bool) -> list[GateOpen]:
    assert run.flow is not None
    if is_gate:
        return [GateOpen(run.flow.gates[run.flow.passed], run.run, step, 0)]
    if slot is None or slot.asked == slot.passed:
        return []
    return [GateOpen(run.flow.slots[slot.passed], run.run, step, slot.number)]


def opened(harness: Harness, x: int, y: int, number: int) -> LaneMessage | None:
    """The other lane lets somebody pass: one who asks, or one who asked before."""
    opens = asked_elsewhere(harness.tables)
    if not opens:
        return None
    one = opens[x % len(opens)]
    return one if y % 4 else GateOpen(one.place, one.run, one.step, max(one.number - 1, 0))


def at_home(harness: Harness, x: int, y: int, number: int) -> LaneMessage:
    """What runs of the other lane ask at the gates of this one, and what they leave."""
    place, run, step = HERE[x % len(HERE)], ELSEWHERE[y % len(ELSEWHERE)], ("", "a")[x // 3 % 2]
    asked = [row for _, row in harness.tables.asks.scan(limit=100) if row.run in ELSEWHERE]
    if asked and y % 3:
        row = asked[x % len(asked)]
        return LeaveGate(row.place, row.run, row.step, row.number - (y % 7 == 6))
    return AskGate(place, ("shop-ship", "shop-bill")[y % 5 == 4], run, step, number, START_MS + x)


def admitted(harness: Harness, x: int, y: int, number: int) -> LaneMessage:
    """A start that the other lane has read comes here, where its run is to live."""
    given = event(9_000 + number, "order/paid", data=b'{"n":%d}' % (x % 3))
    way = way_of(SHIP, readable(given), START_MS, lane=PLACE.lane, lanes=LANES)
    return AdmitStart("shop-ship", given, "", 0, (), 0, way.flow, PLACE.lane, "events", 1, number)


def last_answers(harness: Harness) -> Iterable[LaneMessage]:
    """What lets every run go that still waits at a gate: the other lane's word, and its runs' leave."""
    yield from asked_elsewhere(harness.tables)
    for _, row in harness.tables.asks.scan(limit=1_000):
        if row.run in ELSEWHERE:
            yield LeaveGate(row.place, row.run, row.step, row.number)


Gate = Callable[[Harness, int, int, int], Command | None]


def _said(harness: Harness, message: LaneMessage | None) -> Command | None:
    return TakeMessage(1, harness.story.taken.get(1, 0) + 1, message) if message is not None else None


MOVES: Final[tuple[Gate, ...]] = (
    lambda harness, x, y, number: _said(harness, opened(harness, x, y, number)),
    lambda harness, x, y, number: _said(harness, opened(harness, x, y, number)),
    lambda harness, x, y, number: _said(harness, at_home(harness, x, y, number)),
    lambda harness, x, y, number: _said(harness, admitted(harness, x, y, number)),
)
