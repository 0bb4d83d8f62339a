"""A run on its way through its gates: it asks at one after another, passes, and gives back what it holds.

    body, step   QUEUED ──GateAsked──> AskGate … GateOpen ──GatePassed──> the next gate, or OUT
                 OUT ──(it sleeps, waits, fails, is done)──> SlotReturned, LeaveGate

What a run must ask or give back follows from its rows alone, so it is found after each decision, whatever that was
about (``follow``). A body that goes on at once with the next step keeps its slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from millstream.core.flow.leaving import BODY, ONCE, leaves
from millstream.core.handles import Handles
from millstream.core.messages import MessageKind
from millstream.core.runs.ending import refuse_about_run
from millstream.core.runs.hands import OUT, QUEUED, hand_out_body, hand_out_step, open_run, open_step, put_run, put_step
from millstream.core.tables import Tables
from millstream.model.effects import Effect
from millstream.model.facts import Fact, GateAsked, GatePassed, Post, SlotReturned
from millstream.model.gates.declared import RunFlow, Slot
from millstream.model.gates.messages import AskGate, GateOpen
from millstream.model.ids import lane_of
from millstream.model.rows import RunRow, StepRow
from millstream.model.waits.awaited import home_of_place


def follow(tables: Tables, facts: Sequence[Fact]) -> list[Fact]:
    """What runs must ask at gates, or give back, now that these facts are folded."""
    following: list[Fact] = []
    for run, step in _touched(facts):
        row = tables.runs.get(run)
        if row is None or row.flow is None:
            continue
        if not step:
            following += _body(tables, row, row.flow)
        elif row.flow.slots and (of := tables.steps.get((run, step))) is not None:
            following += _step(tables, row, row.flow, of)
    return following


def _touched(facts: Iterable[Fact]) -> dict[tuple[str, str], None]:
    """The bodies and steps that the facts are about, each once."""
    touched: dict[tuple[str, str], None] = {}
    for fact in facts:
        run = getattr(fact, "run", None)
        if run:
            touched[run, BODY] = None
            step = getattr(fact, "step", None)
            if step:
                touched[run, step] = None
    return touched


def _body(tables: Tables, run: RunRow, flow: RunFlow) -> Iterator[Fact]:
    if run.body == QUEUED:
        if flow.passed < len(flow.gates):
            if flow.asked == flow.passed:
                yield from _asks(tables, run, BODY, flow.gates[flow.passed], ONCE)
        elif flow.slot is None or flow.slot.asked == flow.slot.passed:
            yield from _asks_slot(tables, run, flow, BODY, flow.slot)
    elif run.body != OUT and flow.slot is not None:
        yield from _returned(tables, run, flow, BODY, flow.slot)


def _step(tables: Tables, run: RunRow, flow: RunFlow, step: StepRow) -> Iterator[Fact]:
    if step.hand == QUEUED:
        if step.slot is None or step.slot.asked == step.slot.passed:
            yield from _asks_slot(tables, run, flow, step.step, step.slot)
    elif step.hand != OUT and step.slot is not None:
        yield from _returned(tables, run, flow, step.step, step.slot)


def _asks_slot(tables: Tables, run: RunRow, flow: RunFlow, step: str, slot: Slot | None) -> Iterator[Fact]:
    passed = slot.passed if slot is not None else 0
    yield from _asks(tables, run, step, flow.slots[passed], slot.number if slot is not None else run.dispatch + 1)


def _asks(tables: Tables, run: RunRow, step: str, place: str, number: int) -> Iterator[Fact]:
    assert run.flow is not None
    yield GateAsked(run.run, step, place, number)
    message = AskGate(place, run.function, run.run, step, number, run.flow.score_ms)
    yield Post(home_of_place(place, tables.place.lanes), message)


def _returned(tables: Tables, run: RunRow, flow: RunFlow, step: str, slot: Slot) -> Iterator[Fact]:
    yield SlotReturned(run.run, step)
    yield from leaves(tables, run.run, step, flow.slots[: slot.asked], slot.number)


def open_gate(tables: Tables, message: GateOpen, now_ms: int) -> list[Fact]:
    """A gate lets a body or step pass. One that has given up asking has told the gate so."""
    run = tables.runs.get(message.run)
    if run is None or run.flow is None:
        return []
    flow = run.flow
    if not message.step:
        if run.body != QUEUED:
            return []
        asked = (flow.gates[flow.passed], ONCE) if flow.asked > flow.passed else _asked(flow, flow.slot)
    else:
        step = tables.steps.get((message.run, message.step)) if message.step in run.steps else None
        if step is None or step.hand != QUEUED:
            return []
        asked = _asked(flow, step.slot)
    if asked != (message.place, message.number):
        return []
    is_last = message.place == (*flow.gates, *flow.slots)[-1]
    is_start = is_last and not message.step and not run.body_dispatch
    return [GatePassed(message.run, message.step, message.place, message.number, is_last, is_start)]


def _asked(flow: RunFlow, slot: Slot | None) -> tuple[str, int] | None:
    """The gate that is asked for a slot now, and under which number."""
    return (flow.slots[slot.passed], slot.number) if slot is not None and slot.asked > slot.passed else None


def refuse_open(tables: Tables, message: GateOpen, reason: str, now_ms: int) -> list[Fact]:
    """What remains of one that raised: nothing can be decided about the run, so it fails."""
    return refuse_about_run(tables, message.run, "GateOpen", reason, now_ms)


GATE_OPEN = MessageKind(
    message=GateOpen, decide=open_gate, home=lambda t, m: lane_of(m.run, t.place.lanes), answers=False,
    remains=refuse_open,
)  # fmt: skip


# --- fold -----------------------------------------------------------------------------------------


def gate_asked(tables: Tables, f: GateAsked, at_ms: int) -> Sequence[Effect]:
    """It has asked."""
    run = open_run(tables, f.run)
    flow = run.flow
    assert flow is not None, f"run {f.run} asks at a gate and has none"
    if f.number == ONCE:
        put_run(tables, run, flow=replace(flow, asked=flow.asked + 1))
        return ()
    dispatch = max(run.dispatch, f.number)  # The number is used: no other ask and no hand-out gets it.
    if not f.step:
        slot = flow.slot or Slot(f.number)
        put_run(tables, run, dispatch=dispatch, flow=replace(flow, slot=replace(slot, asked=slot.asked + 1)))
        return ()
    step = open_step(tables, f.run, f.step)
    slot = step.slot or Slot(f.number)
    put_step(tables, step, slot=replace(slot, asked=slot.asked + 1))
    put_run(tables, run, dispatch=dispatch)
    return ()


def gate_passed(tables: Tables, f: GatePassed, at_ms: int) -> Sequence[Effect]:
    """It has passed; behind the last gate it is handed out."""
    run = open_run(tables, f.run)
    flow = run.flow
    assert flow is not None, f"run {f.run} passes a gate and has none"
    if f.step:
        step = open_step(tables, f.run, f.step)
        assert step.slot is not None, f"step {f.step} of run {f.run} passes a gate and has not asked"
        step = replace(step, slot=replace(step.slot, passed=step.slot.passed + 1))
        put_step(tables, step)
        return hand_out_step(tables, run, step)
    if f.number == ONCE:
        flow = replace(flow, passed=flow.passed + 1)
    else:
        assert flow.slot is not None, f"run {f.run} passes a gate and has not asked"
        flow = replace(flow, slot=replace(flow.slot, passed=flow.slot.passed + 1))
    run = replace(run, flow=flow)
    return hand_out_body(tables, run, attempt=run.attempt, lost=run.lost)


def slot_returned(tables: Tables, f: SlotReturned, at_ms: int) -> Sequence[Effect]:
    """It holds no slot."""
    if f.step:
        put_step(tables, open_step(tables, f.run, f.step), slot=None)
        return ()
    run = open_run(tables, f.run)
    assert run.flow is not None, f"run {f.run} returns a slot and has no gates"
    put_run(tables, run, flow=replace(run.flow, slot=None))
    return ()


HANDLES = Handles(facts={GateAsked: gate_asked, GatePassed: gate_passed, SlotReturned: slot_returned})
