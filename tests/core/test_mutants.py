"""Deliberate faults: each is caught by the harness within a bounded number of random sequences.

A fault that nothing catches says that the equation or the invariants have a hole, not that the fault is harmless.
Add one: a function that breaks the core through ``patch``, one line in ``FAULTS``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

import pytest
from msgspec.structs import replace

from millstream.core import messages, publishes, starting
from millstream.core.intake import seen
from millstream.core.nouns import DECIDE, FOLD
from millstream.core.runs import bodies, closing, dispatches, ending, hands, reports, retry
from millstream.core.runs.deciding import Case, Decided, Draft, is_resolved
from millstream.core.step_kinds import ANSWERS
from millstream.core.steps import run as run_step
from millstream.core.tables import Tables
from millstream.model.commands import AcceptEvent, LoseDispatch, Report, TakeMessage
from millstream.model.effects import Effect
from millstream.model.facts import (
    CronDisarmed,
    DispatchUnparked,
    EventAccepted,
    Fact,
    HeldResumed,
    MessageSent,
    MessageTaken,
    PublishQueued,
    RunStarted,
    StepCompleted,
)
from millstream.model.operations import StepErrored
from millstream.model.rows import EventRow, Hand, RunRow, StepRow
from tests.core.harness import Harness
from tests.core.moves import MOVES, Move, play

SEQUENCES_MAX: Final = 300
MOVES_EACH: Final = 80

Patch = pytest.MonkeyPatch


def accept_late_failures(patch: Patch) -> None:
    """A failure counts whoever reports it."""

    def errored(case: Case, draft: Draft, op: StepErrored, row: StepRow | None) -> Decided:
        if row is not None and not is_resolved(row):
            row = replace(row, hand=Hand.OUT, dispatch=case.dispatch)
        return real(case, draft, op, row)

    real = ANSWERS[StepErrored]
    patch.setitem(ANSWERS, StepErrored, errored)


def forget_again(patch: Patch) -> None:
    """What was resolved while the body was out is not looked at."""

    def fold(tables: Tables, fact: StepCompleted, at_ms: int) -> Sequence[Effect]:
        effects = real(tables, fact, at_ms)
        run = tables.runs.get(fact.run)
        assert run is not None
        tables.runs.put(fact.run, replace(run, again=False))
        return effects

    real = FOLD[StepCompleted]
    patch.setitem(FOLD, StepCompleted, fold)


def forget_timers_of_the_dead(patch: Patch) -> None:
    """The timers of a run outlive it."""
    patch.setattr(ending, "leave_hand", lambda tables, run, step: [])


def forget_parking_places(patch: Patch) -> None:
    """An unparked hand-out keeps its parking place."""

    def fold(tables: Tables, fact: DispatchUnparked, at_ms: int) -> Sequence[Effect]:
        key = (fact.function, fact.run, fact.step)
        row = tables.parked.get(key)
        effects = real(tables, fact, at_ms)
        assert row is not None
        tables.parked.put(key, row)
        return effects

    real = FOLD[DispatchUnparked]
    patch.setitem(FOLD, DispatchUnparked, fold)


def drop_the_outbox_early(patch: Patch) -> None:
    """A message is gone before it is known to have arrived."""

    def fold(tables: Tables, fact: MessageSent, at_ms: int) -> Sequence[Effect]:
        effects = real(tables, fact, at_ms)
        tables.outbox.delete((fact.to_lane, fact.seq))
        return effects

    real = FOLD[MessageSent]
    patch.setitem(FOLD, MessageSent, fold)


def reuse_dispatch_numbers(patch: Patch) -> None:
    """A body goes out again under the number it had."""

    def hand_out(tables: Tables, run: RunRow, *, attempt: int, lost: int) -> Sequence[Effect]:
        return real(tables, replace(run, dispatch=max(run.dispatch - 1, 0)), attempt=attempt, lost=lost)

    real = hands.hand_out_body
    for module in (bodies, dispatches, retry, starting):
        patch.setattr(module, "hand_out_body", hand_out)


def start_twice(patch: Patch) -> None:
    """An event starts its first function twice."""

    def accept(tables: Tables, command: AcceptEvent, now_ms: int) -> list[Fact]:
        facts = real(tables, command, now_ms)
        return facts + [fact for fact in facts if isinstance(fact, RunStarted)][:1]

    real = DECIDE[AcceptEvent]
    patch.setitem(DECIDE, AcceptEvent, accept)


def ignore_seen_ids(patch: Patch) -> None:
    """Every id is new."""
    counted = iter(range(1 << 30))

    def seen_hash(topic: str, partition: int, id: str) -> bytes:
        return (next(counted) // 2).to_bytes(16, "big")  # Each command is decided twice.

    patch.setattr(seen, "seen_hash", seen_hash)


def ignore_positions(patch: Patch) -> None:
    """A record that was read before is taken again, if its id is forgotten."""

    def accept(tables: Tables, command: AcceptEvent, now_ms: int) -> list[Fact]:
        behind = AcceptEvent(command.event, command.topic, command.partition, 1 << 40)
        facts = real(tables, behind, now_ms)
        return [_with_offset(fact, command.offset) for fact in facts]

    real = DECIDE[AcceptEvent]
    patch.setitem(DECIDE, AcceptEvent, accept)


def _with_offset(fact: Fact, offset: int) -> Fact:
    if not isinstance(fact, EventAccepted):
        return fact
    values = {name: getattr(fact, name) for name in fact.__struct_fields__}
    return EventAccepted(**{**values, "offset": offset})


def take_messages_twice(patch: Patch) -> None:
    """A message that comes again is taken again."""

    def take(tables: Tables, command: TakeMessage, now_ms: int) -> list[Fact]:
        held = tables.inbox_cursors.get(command.from_lane)
        taken = held.taken if held is not None else 0
        seq = command.seq + 1 if command.seq == taken else command.seq
        facts = real(tables, TakeMessage(command.from_lane, seq, command.message), now_ms)
        return [MessageTaken(f.from_lane, command.seq) if isinstance(f, MessageTaken) else f for f in facts]

    real = messages.take_message
    patch.setitem(DECIDE, TakeMessage, take)


def resolve_twice(patch: Patch) -> None:
    """A result that is recorded is recorded again."""
    patch.setattr(run_step, "is_resolved", lambda row: False)
    patch.setattr(reports, "is_resolved", lambda row: False)


def retry_for_ever(patch: Patch) -> None:
    """The last attempt is followed by another."""

    def next_attempt_at_ms(case: Case, step: str, attempt: int, after_ms: int) -> int:
        return case.now_ms + 1_000

    patch.setattr(run_step, "next_attempt_at_ms", next_attempt_at_ms)
    patch.setattr(bodies, "next_attempt_at_ms", next_attempt_at_ms)


def lose_for_ever(patch: Patch) -> None:
    """A step that kills its workers goes on doing so."""

    def lose(tables: Tables, command: LoseDispatch, now_ms: int) -> list[Fact]:
        with pytest.MonkeyPatch.context() as unlimited:
            unlimited.setattr("millstream.model.limits.DISPATCHES_LOST_MAX", 1_000)
            return real(tables, command, now_ms)

    real = dispatches.lose
    patch.setitem(DECIDE, LoseDispatch, lose)


def miscount_payloads(patch: Patch) -> None:
    """An event that starts two runs is let go of with the first."""

    def fold(tables: Tables, fact: RunStarted, at_ms: int) -> Sequence[Effect]:
        effects = real(tables, fact, at_ms)
        for id in fact.events:
            held = tables.events.get(id)
            assert held is not None
            tables.events.put(id, EventRow(held.event, 1))
        return effects

    real = FOLD[RunStarted]
    patch.setitem(FOLD, RunStarted, fold)


def number_publishes_twice(patch: Patch) -> None:
    """Two records of one decision have one number."""
    patch.setattr(publishes, "next_number", lambda tables, queued: 1)


def leave_crons_armed(patch: Patch) -> None:
    """A cron that is gone goes on firing."""

    def fold(tables: Tables, fact: CronDisarmed, at_ms: int) -> Sequence[Effect]:
        tables.crons.delete((fact.function, fact.cron))
        return ()

    patch.setitem(FOLD, CronDisarmed, fold)


def forget_publishes(patch: Patch) -> None:
    """A record for a topic is released but not stored."""

    def fold(tables: Tables, fact: PublishQueued, at_ms: int) -> Sequence[Effect]:
        effects = real(tables, fact, at_ms)
        tables.publishes.delete(fact.number)
        return effects

    real = FOLD[PublishQueued]
    patch.setitem(FOLD, PublishQueued, fold)


def answer_with_nothing(patch: Patch) -> None:
    """A body that brings nothing while nothing is under way is taken at its word."""

    def report(tables: Tables, command: Report, now_ms: int) -> list[Fact]:
        with pytest.MonkeyPatch.context() as silent:
            silent.setattr(bodies, "nothing_reported", lambda case, draft: ((), draft))
            return real(tables, command, now_ms)

    real = reports.report
    patch.setitem(DECIDE, Report, report)


def retry_as_the_function_says(patch: Patch) -> None:
    """A step's own policy is not looked at."""

    def errored(case: Case, draft: Draft, op: StepErrored, row: StepRow | None) -> Decided:
        return real(case, draft, replace(op, retry=None), row)

    real = ANSWERS[StepErrored]
    patch.setitem(ANSWERS, StepErrored, errored)


def resume_where_it_ended(patch: Patch) -> None:
    """What is resumed does not begin again with all its attempts."""

    def fold(tables: Tables, fact: HeldResumed, at_ms: int) -> Sequence[Effect]:
        key = (fact.run, fact.step)
        before = tables.steps.get(key) if fact.step else None
        effects = real(tables, fact, at_ms)
        after = tables.steps.get(key) if fact.step else None
        if before is not None and after is not None:
            tables.steps.put(key, replace(after, attempt=before.attempt + 1))
        return effects

    real = FOLD[HeldResumed]
    patch.setitem(FOLD, HeldResumed, fold)


def forget_who_is_held(patch: Patch) -> None:
    """What is resumed still stands among the held."""

    def fold(tables: Tables, fact: HeldResumed, at_ms: int) -> Sequence[Effect]:
        held = [row for _, row in tables.held.scan(limit=1_000)]
        effects = real(tables, fact, at_ms)
        for row in held:
            tables.held.put((row.function, row.run, row.step), row)
        return effects

    real = FOLD[HeldResumed]
    patch.setitem(FOLD, HeldResumed, fold)


def go_on_with_each(patch: Patch) -> None:
    """A joint body does not wait for the others."""
    patch.setattr(closing, "_goes_on", lambda case, facts: True)


def wait_for_one_too_many(patch: Patch) -> None:
    """A joint body waits for its last step, also when that has come."""
    real = closing._pending
    patch.setattr(closing, "_pending", lambda case, facts: max(real(case, facts), min(case.run.pending, 1)))


FAULTS: Final[tuple[Callable[[Patch], None], ...]] = (
    accept_late_failures,
    forget_again,
    forget_timers_of_the_dead,
    forget_parking_places,
    drop_the_outbox_early,
    reuse_dispatch_numbers,
    start_twice,
    ignore_seen_ids,
    ignore_positions,
    take_messages_twice,
    resolve_twice,
    retry_for_ever,
    lose_for_ever,
    miscount_payloads,
    number_publishes_twice,
    leave_crons_armed,
    forget_publishes,
    answer_with_nothing,
    retry_as_the_function_says,
    resume_where_it_ended,
    forget_who_is_held,
    go_on_with_each,
    wait_for_one_too_many,
)


def sequence(seed: int) -> list[Move]:
    """The moves of this seed."""
    draw = random.Random(seed).randrange
    return [Move(draw(len(MOVES)), draw(64), draw(64), draw(64)) for _ in range(MOVES_EACH)]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_deliberate_fault_is_caught(fault: Callable[[Patch], None], monkeypatch: Patch) -> None:
    fault(monkeypatch)
    assert not all(_holds(sequence(seed)) for seed in range(SEQUENCES_MAX))


def test_without_a_fault_the_same_sequences_hold() -> None:
    for seed in range(20):
        play(Harness(), sequence(seed))


def _holds(moves: list[Move]) -> bool:
    try:
        play(Harness(), moves)
    except AssertionError:
        return False
    return True
