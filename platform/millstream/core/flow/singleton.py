"""``singleton``: one open run of a key, from its start to its end. What becomes of a start that comes meanwhile:

    skip      it is skipped
    latest    the newest is kept, and starts when the open run is over; what is older than that, or than the event of
              the open run, is skipped
    cancel    likewise, and the open run is cancelled

    AdmitStart ──free──> SingletonHeld, GateOpened: the run counts here until it is over (``RunFlow.held``)
               └─open──> SingletonKept, CancelRun    LeaveGate ─> GateLeft, and the kept one passes; or SingletonFreed

The newest is the one whose event was received last, whichever lane brings it first. The run counts under its id, so a
start that comes again, its request repeated, finds its own run and passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from millstream.core.flow.kinds import AdmitGate
from millstream.core.flow.leaving import BODY, ONCE
from millstream.core.flow.places import by_key, parts_of, rule_id
from millstream.core.flow.verdicts import flow_of, kept, onward, run_of, skipped
from millstream.core.handles import Handles
from millstream.core.tables import Tables
from millstream.model.effects import Effect
from millstream.model.event import Envelope
from millstream.model.facts import Fact, GateOpened, Post, SingletonFreed, SingletonHeld, SingletonKept
from millstream.model.gates.declared import SingletonRule
from millstream.model.gates.messages import AdmitStart
from millstream.model.gates.rows import AskRow, SingletonRow
from millstream.model.ids import lane_of
from millstream.model.run_requests import CancelRun

NAME: Final = "singleton"


def decide(tables: Tables, start: AdmitStart, place: str, now_ms: int) -> list[Fact]:
    """Whether the place is free; else what the mode says."""
    rule = _rule(tables, start.function, place)
    if rule is None:
        return [onward(tables, start)]
    run, holder = run_of(tables, start), _holder(tables, place)
    if holder is None:
        return _held(tables, start, place, run)
    if holder.run == run:
        return [onward(tables, start)]
    of = f" for the same value of {rule.key}" if rule.key else ""
    if rule.mode == "skip":
        return skipped(tables, start, f"singleton: run {holder.run} is open{of}")
    row = tables.singletons.get(place)
    assert row is not None, f"{holder.run} is the open run at {place}, which is not known"
    return _followed(tables, start, rule, row, holder.run)


def _followed(tables: Tables, start: AdmitStart, rule: SingletonRule, row: SingletonRow, holder: str) -> list[Fact]:
    """The open run is followed by the newest start that has come."""
    place, of = row.place, f" for the same value of {rule.key}" if rule.key else ""
    if row.kept is not None:
        if run_of(tables, row.kept) == run_of(tables, start):
            return []  # Kept already.
        if _age(start.event) < _age(row.kept.event):
            return skipped(tables, start, f"singleton: the newer event {row.kept.event.id} waits for its start{of}")
    if _age(start.event) < (row.received_at_ms, row.internal_id):
        return skipped(tables, start, f"singleton: run {holder} of a newer event is open{of}")
    facts: list[Fact] = []
    if row.kept is not None:
        facts += skipped(
            tables, row.kept, f"singleton: the newer event {start.event.id} came before it could start{of}"
        )
    is_cancelled = row.is_cancelling or rule.mode == "cancel"
    start, told = kept(tables, start)
    facts += [SingletonKept(place, start, is_cancelled), *told]
    if is_cancelled and not row.is_cancelling:
        reason = f"singleton: the newer event {start.event.id} came{of}"
        facts.append(Post(lane_of(holder, tables.place.lanes), CancelRun(holder, reason)))
    return facts


def left(tables: Tables, place: str, now_ms: int) -> list[Fact]:
    """The open run is over: the start that was kept follows."""
    row = tables.singletons.get(place)
    start = row.kept if row is not None else None
    if start is None:
        return [SingletonFreed(place)]
    if _rule(tables, start.function, place) is None:
        return [SingletonFreed(place), onward(tables, start)]
    return _held(tables, start, place, run_of(tables, start))


def _held(tables: Tables, start: AdmitStart, place: str, run: str) -> list[Fact]:
    return [
        SingletonHeld(place, *_age(start.event)),
        GateOpened(place, start.function, run, BODY, ONCE, True, 0, 0),
        onward(tables, start),
    ]


def _age(event: Envelope) -> tuple[int, str]:
    """By which of two events is the newer one."""
    return event.received_at_ms, event.internal_id


def _holder(tables: Tables, place: str) -> AskRow | None:
    """The open run."""
    found = tables.asks.within(place, limit=1)
    return found[0][1] if found else None


def _rule(tables: Tables, function: str, place: str) -> SingletonRule | None:
    """What is deployed now: None where the gate is gone, or has another key."""
    rule = flow_of(tables, function).singleton
    return rule if rule is not None and rule_id(rule.key) == parts_of(place).rule else None


# --- fold -----------------------------------------------------------------------------------------


def singleton_held(tables: Tables, f: SingletonHeld, at_ms: int) -> Sequence[Effect]:
    """A run is open."""
    tables.singletons.put(f.place, SingletonRow(f.place, f.received_at_ms, f.internal_id))
    return ()


def singleton_kept(tables: Tables, f: SingletonKept, at_ms: int) -> Sequence[Effect]:
    """A start follows it."""
    row = tables.singletons.get(f.place)
    assert row is not None, f"a start is kept at {f.place}, where no run is open"
    tables.singletons.put(f.place, replace(row, kept=f.start, is_cancelling=f.is_cancelling))
    return ()


def singleton_freed(tables: Tables, f: SingletonFreed, at_ms: int) -> Sequence[Effect]:
    """None is open."""
    tables.singletons.delete(f.place)
    return ()


SINGLETON: Final = AdmitGate(name=NAME, places=by_key(NAME, lambda flow: flow.singleton), decide=decide, left=left)
HANDLES = Handles(facts={SingletonHeld: singleton_held, SingletonKept: singleton_kept, SingletonFreed: singleton_freed})
