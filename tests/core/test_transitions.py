"""The table of transitions is the folds' own: nothing in it that never happens, and no field that a fold forgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pytest

from millstream.core.flow.concurrency import PER_STEP
from millstream.core.nouns import FOLD
from millstream.core.runs.hands import BODY_TIMERS
from millstream.core.runs.moves import Move
from millstream.core.runs.transitions import transitions
from millstream.core.steps import KINDS, callback, wait_for_signal
from millstream.core.tables import Tables
from millstream.model import limits
from millstream.model.commands import (
    EventCame,
    FireTimer,
    LoseDispatch,
    NothingCame,
    ParkDispatch,
    SignalCame,
    TakeMessage,
    Unpark,
)
from millstream.model.facts import Fact, StepCompleted
from millstream.model.function import FAIL, HOLD
from millstream.model.gates.declared import ConcurrencyRule, FlowSpec, RunFlow, Slot
from millstream.model.ids import home_of
from millstream.model.operations import Condition, SignalWaitFound, WaitFound
from millstream.model.rows import Hand, HeldRow, ParkedRow, RunRow, StepRow, TimerRow
from millstream.model.run_requests import ResumeRun
from millstream.model.waits.awaited import (
    AwaitedEvent,
    AwaitedEvents,
    AwaitedPost,
    AwaitedSignal,
    home_of_place,
    place_of,
)
from millstream.state.memory import MemoryStore
from millstream.state.tables import LaneTables
from tests.core.harness import Harness
from tests.core.moves import play
from tests.core.test_mutants import sequence
from tests.core.values import (
    LANES,
    MINUTE_MS,
    PLACE,
    accept,
    app,
    body_errored,
    done,
    errored,
    event,
    found,
    function,
    report,
    see,
)

SEQUENCES: Final = 600
RUN: Final = "01H"
TOO_LARGE: Final = b"1" * (limits.STEP_OUTPUT_BYTES_MAX + 1)


def seen_moves() -> tuple[set[Move], set[Move]]:
    """The moves of random sequences and of the stories below."""
    body: set[Move] = set()
    step: set[Move] = set()
    for seed in range(SEQUENCES):
        harness = Harness()
        play(harness, sequence(seed))
        body |= harness.hands.body
        step |= harness.hands.step
    for story in (
        two_steps_fail_in_one_answer,
        late_results_that_are_too_large,
        late_results_that_are_too_large_and_held,
        a_late_result_while_the_next_attempt_waits,
        late_results_of_what_was_given_up,
        a_late_result_that_is_too_large_while_the_step_queues,
        what_is_held_and_resumed_queues_again,
        a_step_whose_code_has_come_queues,
        an_event_and_then_a_refusal_while_a_wait_closes,
        a_signal_that_comes_while_its_wait_closes,
    ):
        hands = story().hands
        body |= hands.body
        step |= hands.step
    return body, step


def started(on_exhausted: str = FAIL) -> Harness:
    """A harness with one run whose body is out."""
    harness = Harness()
    harness.do(see(app(msgspec.structs.replace(function("shop-f", "order/placed"), on_exhausted=on_exhausted))))
    harness.do(accept(event()))
    return harness


def two_steps_fail_in_one_answer() -> Harness:
    """The first failure answers the body, the second brings it back."""
    harness = started()
    harness.do(report(harness.run.run, 1, errored("a", retriable=False), errored("b", retriable=False)))
    return harness


def late_results_that_are_too_large_and_held() -> Harness:
    """Likewise; an operator is asked, once."""
    return late_results_that_are_too_large(HOLD)


def late_results_that_are_too_large(on_exhausted: str = FAIL) -> Harness:
    """The worker was thought dead, or the hand-out was parked; its result comes all the same, and is refused."""
    harness = started(on_exhausted)
    run = harness.run.run
    harness.do(report(run, 1, found("a"), found("b")))
    for _ in range(2):
        harness.do(LoseDispatch(run, "a", harness.out("a").dispatch))
    harness.do(ParkDispatch(run, "b", harness.out("b").dispatch))
    assert (harness.step("a").hand, harness.step("b").hand) == (Hand.BACKOFF, Hand.PARKED)
    harness.do(report(run, 2, done("a", TOO_LARGE), step="a"))
    harness.do(report(run, 3, done("b", TOO_LARGE), step="b"))
    assert harness.do(report(run, 3, done("b", TOO_LARGE), step="b")) == [], "told twice"
    return harness


def late_results_of_what_was_given_up() -> Harness:
    """One step was lost too often and is held, the other is parked; the work of both was done all the same."""
    harness = started(HOLD)
    run = harness.run.run
    harness.do(report(run, 1, found("a"), found("b")))
    harness.do(ParkDispatch(run, "b", harness.out("b").dispatch))
    while harness.step("a").hand != Hand.HELD:
        if harness.step("a").hand == Hand.BACKOFF:
            arm = harness.armed("retry")
            harness.do(FireTimer(arm.at_ms, arm.kind, arm.id, arm.step), arm.at_ms)
        harness.do(LoseDispatch(run, "a", harness.out("a").dispatch))
    harness.do(report(run, 2, done("a"), step="a"))
    harness.do(report(run, 3, done("b"), step="b"))
    assert (harness.step("a").hand, harness.step("b").hand) == (Hand.DONE, Hand.DONE)
    return harness


def a_late_result_while_the_next_attempt_waits() -> Harness:
    """The worker was thought dead, and has done the work."""
    harness = started()
    run = harness.run.run
    harness.do(report(run, 1, found("a"), found("b")))
    for _ in range(2):
        harness.do(LoseDispatch(run, "a", harness.out("a").dispatch))
    harness.do(report(run, 2, done("a"), step="a"))
    return harness


def one_at_a_time(on_exhausted: str = FAIL) -> Harness:
    """A harness with a function of which one body or step may execute; the gate's home is its lane."""
    one = FlowSpec(concurrency=(ConcurrencyRule(1),))
    gated = (
        msgspec.structs.replace(function(f"shop-f{n}", "order/placed"), flow=one, on_exhausted=on_exhausted)
        for n in range(99)
    )
    spec = next(f for f in gated if home_of_place(PER_STEP.places(f, {})[0], PLACE.lanes) == PLACE.lane)
    harness = Harness()
    harness.do(see(app(spec)))
    return harness


def a_step_whose_code_has_come_queues() -> Harness:
    """It gave its slot back while it was parked."""
    harness = one_at_a_time()
    harness.do(accept(event()))
    run = harness.run
    harness.do(report(run.run, run.body_dispatch, found("a"), found("b")))
    parked = harness.step("a").dispatch
    harness.do(ParkDispatch(run.run, "a", parked))
    assert harness.step("b").hand == Hand.OUT
    harness.do(Unpark(run.run, "a", parked))
    assert harness.step("a").hand == Hand.QUEUED
    return harness


def a_late_result_that_is_too_large_while_the_step_queues(on_exhausted: str = FAIL) -> Harness:
    """One step at a time may execute; the other queues, and the result of a hand-out that was thought lost comes."""
    harness = one_at_a_time(on_exhausted)
    harness.do(accept(event()))
    run = harness.run
    harness.do(report(run.run, run.body_dispatch, found("a"), found("b")))
    assert (harness.step("a").hand, harness.step("b").hand) == (Hand.OUT, Hand.QUEUED)
    harness.do(report(run.run, 1, done("b", TOO_LARGE), step="b"))
    harness.do(report(run.run, harness.step("a").dispatch, errored("a", retriable=False), step="a"))
    return harness


def what_is_held_and_resumed_queues_again() -> Harness:
    """Two steps, then the body: each has failed for good, and needs a slot when an operator has it tried again."""
    harness = a_late_result_that_is_too_large_while_the_step_queues(HOLD)
    run = harness.run.run
    assert (harness.step("a").hand, harness.step("b").hand) == (Hand.HELD, Hand.HELD)
    harness.do(ResumeRun(run))
    for step in ("a", "b"):
        harness.do(report(run, harness.step(step).dispatch, done(step), step=step))
    harness.do(report(run, harness.run.body_dispatch, body_errored(retriable=False)))
    assert harness.run.body == Hand.HELD
    harness.do(ResumeRun(run))
    assert harness.run.body == Hand.OUT
    return harness


def an_event_and_then_a_refusal_while_a_wait_closes() -> Harness:
    """The time of a wait for two events is over; one comes at the last moment, for the other too many wait."""
    names = ("order/paid", "order/lost.late")
    elsewhere = next(
        n for n in range(99) if all(home_of_place(place_of(name, "data.n", str(n)), LANES) == 1 for name in names)
    )
    harness = Harness()
    harness.do(see(app(function("shop-f", "order/placed"))))
    harness.do(accept(event(data=b'{"n":%d}' % elsewhere)))
    run = harness.run.run
    conditions = tuple(Condition(name, "data.n") for name in names)
    harness.do(report(run, 1, WaitFound("both", "both", conditions, MINUTE_MS, True)))
    arm = harness.armed("wait")
    harness.do(FireTimer(arm.at_ms, arm.kind, arm.id, arm.step), arm.at_ms)
    harness.do(TakeMessage(1, 1, EventCame(run, "both", 0, event(9, names[0], data=b'{"n":%d}' % elsewhere))))
    assert harness.step("both").hand == Hand.CLOSING
    harness.do(TakeMessage(1, 2, NothingCame(run, "both", 1, False, "too many")))
    assert harness.step("both").hand == Hand.FAILED
    return harness


def a_signal_that_comes_while_its_wait_closes() -> Harness:
    """The time is over, and its home has sent it before it is asked."""
    signal = next(name for n in range(99) if home_of(name := f"approve/{n}", LANES) == 1)
    harness = started()
    run = harness.run.run
    harness.do(report(run, 1, SignalWaitFound("s", "s", signal, MINUTE_MS)))
    arm = harness.armed("wait")
    harness.do(FireTimer(arm.at_ms, arm.kind, arm.id, arm.step), arm.at_ms)
    assert harness.step("s").hand == Hand.CLOSING
    harness.do(TakeMessage(1, 1, SignalCame(run, "s", b"1")))
    assert harness.step("s").awaits == AwaitedSignal(signal, True)
    return harness


def test_every_move_of_the_table_happens() -> None:
    body, step = seen_moves()
    table = transitions()
    assert set(table.body) - body == set(), "no body ever moves so: take the line out, or show how it happens"
    assert set(table.step) - step == set(), "no step ever moves so: take the line out, or show how it happens"
    assert len(set(table.body)) == len(table.body) and len(set(table.step)) == len(table.step), "a move stands twice"


def test_an_unparked_step_goes_out_again() -> None:
    harness = started()
    run = harness.run.run
    harness.do(report(run, 1, found("a"), found("b")))
    harness.do(ParkDispatch(run, "a", harness.out("a").dispatch))
    harness.do(Unpark(run, "a", harness.step("a").dispatch))
    assert harness.step("a").hand == Hand.OUT


# --- fields ---------------------------------------------------------------------------------------

PASSED: Final = Slot(7, 1, 1)
DISTINCT: Final[dict[type, Any]] = {int: 7, str: "kept", bytes: b"kept", bool: True, tuple: ("s",)}


def distinct(row: type[RunRow] | type[StepRow], **given: Any) -> Any:
    """A row in which every field has a value that is not its default, but for those given."""
    fields = {}
    for field in msgspec.structs.fields(row):
        plain = getattr(field.type, "__origin__", field.type)
        fields[field.name] = DISTINCT[plain] if plain in DISTINCT else DISTINCT[int]
    if row is StepRow:
        fields["awaits"] = AwaitedEvents((AwaitedEvent("kept", "00ff"),) * 10, False, 7)
        fields["slot"] = PASSED
    else:
        fields["flow"] = RunFlow(("00ff/g",), ("00ff/s",), ("00ff/h",), 7, 1, 1, PASSED)
    return row(**fields | given)


def facts_with_rows() -> Sequence[tuple[type[Fact], Hand | None, Hand | None]]:
    """(fact, hand of the body before, hand of the step before) for each move of a row that was there."""
    table = transitions()
    bodies = [(move.fact, move.before, only_of_a_step(move.fact)) for move in table.body]
    bodies = [(fact, hand, of_step) for fact, hand, of_step in bodies if hand is not None]
    steps = [(move.fact, Hand.IDLE, move.before) for move in table.step if move.before is not None]
    return sorted({*bodies, *steps}, key=repr)


def only_of_a_step(fact: type) -> Hand | None:
    """The hand of the step that a fact of one kind is about, where it is never about a new one."""
    hands = [move.before for kind in KINDS.values() for move in kind.moves.step if move.fact is fact]
    return hands[0] if hands and None not in hands else None


def made(kind: type[Fact], step: str) -> Fact:
    """A fact of this kind about the run and step of ``tables``."""
    values: dict[str, Any] = {"run": RUN, "step": step, "dispatch": 5, "function": "kept", "kind": "run", "number": 7}
    plain = {str: "x", int: 9, bool: False, bytes: b"x"}
    fields = {f.name: values.get(f.name, plain.get(f.type, 9)) for f in msgspec.structs.fields(kind)}
    return kind(**fields)


def tables(body: Hand, step: StepRow | None) -> LaneTables:
    """Tables with one run, and with a timer and parking place for whatever may wait for one."""
    made = LaneTables(PLACE, MemoryStore())
    steps = (step.step,) if step is not None else ()
    made.runs.put(RUN, distinct(RunRow, run=RUN, body=body, body_dispatch=5, dispatch=8, steps=steps, events=("kept",)))
    if step is not None:
        made.steps.put((RUN, step.step), step)
    for id in ("", "s"):
        made.parked.put(("kept", RUN, id), ParkedRow("kept", RUN, id, 5))
        made.held.put(("kept", RUN, id), HeldRow("kept", RUN, id, 5, "E", "boom", ""))
        for kind in {*BODY_TIMERS.values(), *(timer for each in KINDS.values() for timer in each.hands.values())}:
            made.timers.put((7, kind, RUN, id), TimerRow(7, kind, RUN, id))
    return made


def step_before(fact: type[Fact], hand: Hand) -> StepRow:
    """A step in this hand, of the kind whose fact it is, or of any that may be in this hand."""
    owners = (each.name for each in KINDS.values() if fact in each.facts)
    name = next(owners, "") or next((each.name for each in KINDS.values() if hand in each.hands), "run")
    awaits = {callback.NAME: AwaitedPost(7, b"kept"), wait_for_signal.NAME: AwaitedSignal("kept")}
    holds = {"awaits": awaits[name]} if name in awaits else {}
    row: StepRow = distinct(StepRow, run=RUN, step="s", kind=name, hand=hand, dispatch=5, **holds)
    return row


@pytest.mark.parametrize(("kind", "body", "hand"), facts_with_rows(), ids=str)
def test_each_field_that_a_fact_does_not_own_survives_it(kind: type[Fact], body: Hand, hand: Hand | None) -> None:
    step = step_before(kind, hand) if hand is not None else None
    lane = tables(body, step)
    before = lane.runs.get(RUN)
    assert before is not None
    table = transitions()
    brings_a_step = any(move.fact is kind and move.before is None for move in table.step)
    FOLD[kind](lane, made(kind, "s" if step is not None else "new" if brings_a_step else ""), 1)
    assert_kept(before, lane.runs.get(RUN), table.run_fields.get(kind, frozenset()))
    if step is not None:
        assert_kept(step, lane.steps.get((RUN, "s")), table.step_fields.get(kind, frozenset()))


def assert_kept(before: RunRow | StepRow, after: RunRow | StepRow | None, owned: frozenset[str]) -> None:
    assert after is not None
    for field in before.__struct_fields__:
        if field not in owned:
            assert getattr(after, field) == getattr(before, field), f"{field} was lost"


def test_a_fold_that_makes_a_row_anew_is_caught() -> None:
    def forgetful(lane: Tables, fact: StepCompleted, at_ms: int) -> tuple[()]:
        lane.steps.put((fact.run, fact.step), StepRow(fact.run, fact.step, fact.name, fact.kind, Hand.DONE))
        lane.runs.put(RUN, RunRow(RUN, "kept", ("kept",), "", 0))
        return ()

    lane = tables(Hand.IDLE, distinct(StepRow, run=RUN, step="s", kind="run", hand=Hand.OUT))
    before = lane.runs.get(RUN)
    assert before is not None
    forgetful(lane, made(StepCompleted, "s"), 1)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="was lost"):
        assert_kept(before, lane.runs.get(RUN), transitions().run_fields[StepCompleted])
