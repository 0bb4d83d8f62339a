"""Joint bodies: a group of steps that was found together is answered by one hand-out of the body.

The counts of calls are those that were recorded between the reference server and the SDKs: two groups of two steps one
after another take 7 calls where the body waits for both, and 9 where it goes on with each.
"""

from __future__ import annotations

from typing import Final

import pytest
from msgspec.structs import replace

from millstream.model.commands import FireTimer, LoseDispatch
from millstream.model.effects import Execute
from millstream.model.facts import DiscoveryAnswered, Fact, JointFound, StepCompleted, StepFailed
from millstream.model.function import FAIL, HOLD
from millstream.model.operations import BodyDone, Operation
from millstream.model.rows import Hand
from millstream.model.run_requests import CancelRun, FailRun, ResumeRun
from tests.core.harness import Harness
from tests.core.values import accept, app, done, errored, event, found, function, report, see, sleep

GROUPS: Final = (("a.1", "b.1"), ("a.2", "b.2"))


def started(on_exhausted: str = FAIL, retries: int = 1) -> Harness:
    harness = Harness()
    harness.do(see(app(replace(function("shop-f", "order/placed", retries=retries), on_exhausted=on_exhausted))))
    harness.do(accept(event()))
    return harness


def answer(harness: Harness, *operations: Operation, step: str = "", joint: bool | None = None) -> list[Fact]:
    out = harness.out(step)
    told = report(out.run, out.dispatch, *operations, step=step, attempt=out.attempt)
    return harness.do(replace(told, joint=joint))


def is_out(harness: Harness, step: str = "") -> bool:
    return any(isinstance(effect, Execute) and effect.step == step for effect in harness.outstanding)


def calls(harness: Harness) -> list[str]:
    return [effect.step for effect in harness.effects if isinstance(effect, Execute)]


def chained(harness: Harness, *, joint: bool) -> list[str]:
    """Two chains of two steps each, as the SDKs ask for them: a body finds those whose chain has come so far."""
    done_steps: set[str] = set()
    asked: set[str] = set()
    while True:
        if is_out(harness):
            ready = [s for chain in zip(*GROUPS, strict=True) for s in chain[: 1 + (chain[0] in done_steps)]]
            new = [s for s in ready if s not in asked]
            asked.update(new)
            if done_steps == {step for group in GROUPS for step in group}:
                answer(harness, BodyDone(b"1"), joint=joint)
                return calls(harness)
            answer(harness, *(found(step) for step in new), joint=joint)
            continue
        step = next(s for s in calls(harness) if s and is_out(harness, s))
        answer(harness, done(step), step=step)
        done_steps.add(step)


def test_two_groups_of_two_take_seven_calls_where_the_body_waits_for_both() -> None:
    assert chained(started(), joint=True) == ["", "a.1", "b.1", "", "a.2", "b.2", ""]


def test_and_nine_where_it_goes_on_with_each() -> None:
    made = chained(started(), joint=False)
    assert (len(made), made.count("")) == (9, 5)


def test_it_is_recorded_only_where_it_changes_and_only_of_the_answer_of_the_body() -> None:
    harness = started()
    facts = answer(harness, found("a"), found("b"), joint=True)
    assert facts[0] == JointFound(harness.run.run, True) and harness.run.joint
    assert not any(isinstance(fact, JointFound) for fact in answer(harness, done("a"), step="a", joint=False))
    assert harness.run.joint
    answer(harness, done("b"), step="b")
    assert not any(isinstance(fact, JointFound) for fact in answer(harness, found("c"), found("d"), joint=True))
    answer(harness, done("c"), step="c")
    answer(harness, done("d"), step="d")
    assert harness.run.joint, "None leaves it"
    answer(harness, found("e"), found("f"))
    assert harness.run.joint
    answer(harness, done("e"), step="e")
    assert not is_out(harness)


def test_the_last_of_a_group_brings_the_body_back_however_it_ends() -> None:
    harness = started(retries=0)
    answer(harness, found("a"), found("b"), sleep("c", 1_000), joint=True)
    wake = harness.armed("sleep")
    answer(harness, errored("a"), step="a")
    assert not is_out(harness)
    harness.do(FireTimer(wake.at_ms, wake.kind, wake.id, wake.step), wake.at_ms)
    assert harness.run.body == Hand.IDLE and not harness.run.again
    (failed,) = answer(harness, errored("b", retriable=False), step="b")
    assert isinstance(failed, StepFailed) and failed.discover and is_out(harness)


def test_a_sleep_that_ends_last_brings_it_back() -> None:
    harness = started()
    answer(harness, found("a"), sleep("c", 1_000), joint=True)
    wake = harness.armed("sleep")
    answer(harness, done("a"), step="a")
    assert not is_out(harness)
    harness.do(FireTimer(wake.at_ms, wake.kind, wake.id, wake.step), wake.at_ms)
    assert is_out(harness)


def test_a_step_that_is_tried_again_or_lost_is_still_one_of_the_group() -> None:
    harness = started()
    answer(harness, found("a"), found("b"), joint=True)
    answer(harness, errored("a"), step="a")
    answer(harness, done("b"), step="b")
    assert not is_out(harness)
    wake = harness.armed("retry")
    harness.do(FireTimer(wake.at_ms, wake.kind, wake.id, wake.step), wake.at_ms)
    harness.do(LoseDispatch(harness.run.run, "a", harness.out("a").dispatch))
    answer(harness, done("a"), step="a")
    assert is_out(harness)


def test_a_held_step_keeps_the_group_open_until_an_operator_decides() -> None:
    harness = started(HOLD, 0)
    answer(harness, found("a"), found("b"), joint=True)
    run = harness.run.run
    answer(harness, errored("a"), step="a")
    answer(harness, done("b"), step="b")
    assert harness.step("a").hand == Hand.HELD and not is_out(harness)
    harness.do(ResumeRun(run))
    answer(harness, errored("a"), step="a")
    assert not is_out(harness)
    harness.do(FailRun(run))
    assert is_out(harness)


def test_a_body_that_is_lost_is_handed_out_again_and_once() -> None:
    harness = started()
    answer(harness, found("a"), found("b"), joint=True)
    answer(harness, done("a"), step="a")
    answer(harness, done("b"), step="b")
    harness.do(LoseDispatch(harness.run.run, "", harness.out().dispatch))
    assert calls(harness) == ["", "a", "b", "", ""] and is_out(harness)


def test_a_body_that_ran_a_step_at_once_waits_for_those_it_found_beside_it() -> None:
    harness = started()
    completed, *_ = answer(harness, done("a"), found("b"), joint=True)[1:]
    assert isinstance(completed, StepCompleted) and not completed.discover
    assert harness.run.body == Hand.IDLE and not harness.run.again
    answer(harness, done("b"), step="b")
    assert is_out(harness)


def test_a_body_alone_with_its_step_goes_on_at_once() -> None:
    harness = started()
    answer(harness, done("a"), joint=True)
    assert is_out(harness)
    answer(harness, done("b"))
    assert harness.quick_ones == 2, "the event, and the second step"
    assert is_out(harness)


def test_a_race_that_becomes_joint_waits_for_what_was_under_way_before() -> None:
    harness = started()
    answer(harness, found("a"), found("b"))
    answer(harness, done("a"), step="a")
    answer(harness, found("c"), joint=True)
    answer(harness, done("c"), step="c")
    assert not is_out(harness)
    answer(harness, done("b"), step="b")
    assert is_out(harness)


def test_what_was_resolved_while_the_body_was_out_waits_for_the_others() -> None:
    harness = started()
    answer(harness, found("a"), found("b"), found("c"))
    answer(harness, done("a"), step="a")
    answer(harness, done("b"), step="b")  # The body is out with the first.
    assert harness.run.again
    (_, answered) = answer(harness, joint=True)
    assert answered == DiscoveryAnswered(harness.run.run, answered.dispatch, False) and not harness.run.again
    answer(harness, done("c"), step="c")
    assert is_out(harness)


def test_a_joint_run_that_becomes_a_race_goes_on_with_each() -> None:
    harness = started()
    answer(harness, found("a"), found("b"), joint=True)
    for step in ("a", "b"):
        answer(harness, done(step), step=step)
    answer(harness, found("c"), found("d"), joint=False)
    answer(harness, done("c"), step="c")
    assert is_out(harness)


@pytest.mark.parametrize("joint", [True, False])
def test_a_joint_run_that_is_cancelled_leaves_nothing(joint: bool) -> None:
    harness = started()
    answer(harness, found("a"), found("b"), joint=joint)
    answer(harness, done("a"), step="a")
    harness.do(CancelRun(harness.run.run, "tests"))
    assert not harness.runs and not harness.outstanding
