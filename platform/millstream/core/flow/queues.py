"""The home of a gate: who has passed and counts, who waits in its queue, and who is next.

    AskGate ──room──> GateOpened: ──GateOpen──> the run's lane
            └no room─> GateQueued
    LeaveGate, a timer, another limit ─> GateLeft, GateTimed, and GateOpened for those who have room now

Where functions share a gate they take turns, so that no one's backlog starves another. Within a function the order is
that of rank, then of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.flow.gates import ADMIT_GATES, QUEUE_GATES
from millstream.core.flow.kinds import QueueGate, Room
from millstream.core.flow.places import parts_of
from millstream.core.flow.verdicts import flow_of
from millstream.core.handles import Handler, Handles
from millstream.core.messages import MessageKind
from millstream.core.tables import QueueKey, Tables
from millstream.model.commands import FireTimer
from millstream.model.effects import Effect
from millstream.model.facts import CommandRefused, Fact, GateLeft, GateOpened, GateQueued, GateTimed, Post
from millstream.model.gates.messages import AskGate, GateOpen, LeaveGate
from millstream.model.gates.rows import AskRow, GateRow, QueueRow
from millstream.model.ids import lane_of
from millstream.model.rows import CounterRow, TimerRow
from millstream.model.waits.awaited import home_of_place

OPENED_AT_ONCE_MAX: Final = 200
"""So many pass in one decision; the next ones a moment later, so that a lane does other things between."""
LOOK_AGAIN_MS: Final = 60_000
ARRIVALS: Final = "arrivals"


def gate_of(place: str) -> QueueGate:
    """The gate of a place."""
    return QUEUE_GATES[parts_of(place).gate]


def _room(tables: Tables, gate: GateRow, function: str, now_ms: int) -> Room:
    parts = parts_of(gate.place)
    return QUEUE_GATES[parts.gate].room(flow_of(tables, function), parts.rule, gate, now_ms)


def ask(tables: Tables, command: AskGate, now_ms: int) -> list[Fact]:
    """Somebody wants to pass: at once, where there is room and nobody of its function waits.

    Those of other functions who wait have none: their own limits may be lower, where they share the gate.
    """
    if tables.asks.get((command.place, command.run, command.step)) is not None:
        return []  # Asked before: what it leads to is under way.
    gate = tables.gates.get(command.place) or GateRow(command.place)
    room = _room(tables, gate, command.function, now_ms)
    who = (command.place, command.function, command.run, command.step, command.number)
    if room.is_open and command.function not in _heads(tables, gate):
        return _opened(tables, who, room)
    score_ms = command.score_ms if gate_of(command.place).by_rank else 0
    return [GateQueued(*who, score_ms, room.timer_ms)]


def leave(tables: Tables, command: LeaveGate, now_ms: int) -> list[Fact]:
    """What counts here does so no more, or what waits here waits no more. The next ones pass."""
    asked = tables.asks.get((command.place, command.run, command.step))
    if asked is None or asked.number != command.number:
        return []
    left = GateLeft(command.place, command.run, command.step)
    if not asked.is_held:
        return [left]
    admits = ADMIT_GATES.get(parts_of(command.place).gate)
    if admits is not None:
        assert admits.left is not None, f"a run counts at {command.place}, where none does"
        return [left, *admits.left(tables, command.place, now_ms)]
    gate = tables.gates.get(command.place)
    assert gate is not None, f"{command.run} counts at {command.place}, where nobody does"
    facts, _ = _next(tables, replace(gate, held=gate.held - 1), now_ms)
    return [left, *facts]


def look(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """The time has come to look at a gate again."""
    gate = tables.gates.get(command.id)
    assert gate is not None, "a gate's timer goes with it"
    facts, gate = _next(tables, gate, now_ms)
    if any(isinstance(fact, GateTimed) for fact in facts):
        return facts
    full_ms = -(-gate.full_us // 1_000)
    return [*facts, GateTimed(command.id, full_ms if full_ms > now_ms else 0)]


def refuse_look(tables: Tables, command: FireTimer, reason: str, now_ms: int) -> list[Fact]:
    """What remains of a look that raised: another one, later."""
    return [CommandRefused("FireTimer", command.id, reason), GateTimed(command.id, now_ms + LOOK_AGAIN_MS)]


def look_again(tables: Tables, gate: GateRow, now_ms: int) -> list[Fact]:
    """Those who have room now pass: a limit is another than before."""
    return _next(tables, gate, now_ms)[0] if gate.queued else []


def _next(tables: Tables, gate: GateRow, now_ms: int) -> tuple[list[Fact], GateRow]:
    """Those pass who have room; the functions take turns. And the gate as it is then."""
    facts: list[Fact] = []
    heads, holds, look_ms = _heads(tables, gate), gate_of(gate.place).holds, 0
    while heads:
        for function, waiting in tuple(heads.items()):
            room = _room(tables, gate, function, now_ms)
            if not room.is_open:
                del heads[function]  # Its own limit may be lower than that of the next.
                look_ms = min(look_ms or room.timer_ms, room.timer_ms)
                gate = replace(gate, full_us=room.full_us or gate.full_us)
                continue
            if len(facts) >= 2 * OPENED_AT_ONCE_MAX:
                return [*facts, GateTimed(gate.place, now_ms + 1)], gate
            asked = tables.asks.get((waiting.place, waiting.run, waiting.step))
            assert asked is not None, f"{waiting.run} queues at {waiting.place} and has not asked there"
            facts += _opened(tables, (gate.place, function, waiting.run, waiting.step, asked.number), room)
            gate = replace(gate, held=gate.held + holds, full_us=room.full_us or gate.full_us)
            following = _behind(tables, waiting)
            if following is None:
                del heads[function]
            else:
                heads[function] = following
    if look_ms:
        facts.append(GateTimed(gate.place, look_ms, gate.full_us))  # Cut once: else the queue waits so long each time.
    return facts, gate


def _opened(tables: Tables, who: tuple[str, str, str, str, int], room: Room) -> list[Fact]:
    place, _, run, step, number = who
    opened = GateOpened(*who, gate_of(place).holds, room.full_us, room.timer_ms)
    return [opened, Post(lane_of(run, tables.place.lanes), GateOpen(place, run, step, number))]


def _heads(tables: Tables, gate: GateRow) -> dict[str, QueueRow]:
    """The first in the queue of each function, beginning with the one whose turn it is."""
    heads: dict[str, QueueRow] = {}
    if not gate.queued:
        return heads
    function = ""
    while (row := _from(tables, (gate.place, function, 0, 0))) is not None:
        heads[row.function] = row
        function = row.function + "\x00"
    later = [function for function in heads if function > gate.turn]
    return {function: heads[function] for function in (*later, *(f for f in heads if f <= gate.turn))}


def _behind(tables: Tables, row: QueueRow) -> QueueRow | None:
    found = _from(tables, (row.place, row.function, row.score_ms, row.arrival + 1))
    return found if found is not None and found.function == row.function else None


def _from(tables: Tables, key: QueueKey) -> QueueRow | None:
    found = tables.queues.within(key[0], key, limit=1)
    return found[0][1] if found else None


def _home(tables: Tables, message: AskGate | LeaveGate) -> int:
    return home_of_place(message.place, tables.place.lanes)


ASK_GATE = MessageKind(message=AskGate, decide=ask, home=_home, answers=False)
LEAVE_GATE = MessageKind(message=LeaveGate, decide=leave, home=_home, answers=False)


# --- fold -----------------------------------------------------------------------------------------


def gate_queued(tables: Tables, f: GateQueued, at_ms: int) -> Sequence[Effect]:
    """It waits."""
    counter = tables.counters.get(ARRIVALS)
    arrival = (counter.value if counter is not None else 0) + 1
    tables.counters.put(ARRIVALS, CounterRow(ARRIVALS, arrival))
    tables.asks.put(
        (f.place, f.run, f.step), AskRow(f.place, f.run, f.step, f.function, f.number, f.score_ms, arrival, False)
    )
    row = QueueRow(f.place, f.function, f.score_ms, arrival, f.run, f.step)
    tables.queues.put((f.place, f.function, f.score_ms, arrival), row)
    gate = tables.gates.get(f.place) or GateRow(f.place)
    return _put(tables, replace(gate, queued=gate.queued + 1), _sooner(gate, f.timer_ms))


def gate_opened(tables: Tables, f: GateOpened, at_ms: int) -> Sequence[Effect]:
    """It passes, and counts here where the gate holds."""
    key = (f.place, f.run, f.step)
    gate = tables.gates.get(f.place) or GateRow(f.place)
    asked = tables.asks.get(key)
    arrival, score_ms = 0, 0
    if asked is not None:
        assert not asked.is_held, f"{f.run} passes {f.place} twice"
        arrival, score_ms = asked.arrival, asked.score_ms
        tables.queues.delete((f.place, asked.function, score_ms, arrival))
        gate = replace(gate, queued=gate.queued - 1)
    if f.is_held:
        tables.asks.put(key, AskRow(f.place, f.run, f.step, f.function, f.number, score_ms, arrival, True))
        gate = replace(gate, held=gate.held + 1)
    elif asked is not None:
        tables.asks.delete(key)
    gate = replace(gate, turn=f.function, full_us=f.full_us or gate.full_us)
    return _put(tables, gate, _sooner(gate, f.timer_ms))


def gate_left(tables: Tables, f: GateLeft, at_ms: int) -> Sequence[Effect]:
    """It counts here no more, or waits here no more."""
    key = (f.place, f.run, f.step)
    gate, asked = tables.gates.get(f.place), tables.asks.get(key)
    assert gate is not None and asked is not None, f"{f.run} leaves {f.place}, where it is not"
    tables.asks.delete(key)
    if asked.is_held:
        return _put(tables, replace(gate, held=gate.held - 1), gate.timer_ms)
    tables.queues.delete((f.place, asked.function, asked.score_ms, asked.arrival))
    return _put(tables, replace(gate, queued=gate.queued - 1), gate.timer_ms)


def gate_timed(tables: Tables, f: GateTimed, at_ms: int) -> Sequence[Effect]:
    """It is looked at again then, or when somebody asks."""
    gate = tables.gates.get(f.place)
    assert gate is not None, f"a look at {f.place}, where nobody is"
    return _put(tables, replace(gate, full_us=f.full_us or gate.full_us if f.at_ms else 0), f.at_ms)


def _sooner(gate: GateRow, timer_ms: int) -> int:
    return min(gate.timer_ms, timer_ms) if gate.timer_ms and timer_ms else gate.timer_ms or timer_ms


def _put(tables: Tables, gate: GateRow, timer_ms: int) -> list[Effect]:
    """Store the gate with this timer. One that says nothing any more goes."""
    effects: list[Effect] = []
    if gate.timer_ms != timer_ms:
        if gate.timer_ms:
            effects.append(timers.disarm(tables, gate.timer_ms, timers.GATE, gate.place, ""))
        if timer_ms:
            effects.append(timers.arm(tables, timer_ms, timers.GATE, gate.place, ""))
        gate = replace(gate, timer_ms=timer_ms)
    if gate.held or gate.queued or gate.timer_ms:
        tables.gates.put(gate.place, gate)
    else:
        tables.gates.delete(gate.place)
    return effects


def is_timed(tables: Tables, timer: TimerRow) -> bool:
    """Whether a gate is looked at by this timer."""
    gate = tables.gates.get(timer.id)
    return gate is not None and gate.timer_ms == timer.at_ms


HANDLES = Handles(
    timers={timers.GATE: Handler(look, refuse_look)},
    facts={GateQueued: gate_queued, GateOpened: gate_opened, GateLeft: gate_left, GateTimed: gate_timed},
)
