"""The body of a run, the handler itself: what its return or its exception leads to, and an answer with nothing new."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.handles import Handles
from millstream.core.runs.deciding import Case, Decided, Draft, Fate
from millstream.core.runs.ending import end, fail
from millstream.core.runs.hands import BACKOFF, IDLE, hand_out_body, open_run, put_run
from millstream.core.runs.retry import next_attempt_at_ms
from millstream.core.tables import Tables
from millstream.model import limits
from millstream.model.effects import Effect
from millstream.model.facts import BodyAttemptFailed, BodyHeld, DiscoveryAnswered, JointFound, RunCompleted
from millstream.model.operations import BodyDone, BodyErrored, Failure

NOTHING_REPORTED = "NothingReported"


def done(case: Case, draft: Draft, op: BodyDone) -> Decided:
    """The handler returned: the run is over, whatever steps are still under way."""
    if len(op.result) > limits.RUN_RESULT_BYTES_MAX:
        message = (
            f"the result of the run was refused: at most {limits.RUN_RESULT_BYTES_MAX} bytes, got {len(op.result)}. "
            "Store it elsewhere and return a reference."
        )
        return give_up_body(case, draft, Failure("output_too_large", message), attempt=case.run.attempt)
    return end(case, draft, RunCompleted(case.run.run, case.run.function, case.dispatch, op.result))


def errored(case: Case, draft: Draft, op: BodyErrored) -> Decided:
    """The handler raised outside a step: another attempt of the body, or the run has failed."""
    attempt, failure = case.run.attempt, op.failure
    retry_at_ms = next_attempt_at_ms(case, "", attempt, op.retry_after_ms) if op.retriable else -1
    if retry_at_ms < 0:
        return give_up_body(case, draft, failure, attempt=attempt, is_final=op.is_final, no_retry=not op.retriable)
    fact = BodyAttemptFailed(
        case.run.run, attempt, case.dispatch, failure.name, failure.message, failure.stack, retry_at_ms, failure.more
    )
    return (fact,), replace(draft, fate=Fate.RESTARTED)


def give_up_body(
    case: Case, draft: Draft, failure: Failure, *, attempt: int, is_final: bool = False, no_retry: bool = False
) -> Decided:
    """No attempt of the body is left: the run has failed; or, where its function says so, it is held for an operator.

    ``is_final``  it would end the same whoever tries it again.
    ``no_retry``  its code said that another attempt has no use.
    """
    if is_final or not case.holds:
        return fail(case, draft, failure, attempt=attempt, no_retry=no_retry)
    held = BodyHeld(case.run.run, attempt, case.dispatch, failure.name, failure.message, failure.stack, failure.more)
    return (held,), replace(draft, fate=Fate.RESTARTED)


def nothing_reported(case: Case, draft: Draft) -> Decided:
    """The body found nothing new and no step is under way: nothing would ever bring it back. Its attempt has failed."""
    message = (
        "the function was called and answered with nothing new: expected a step, a result or an error, since no step "
        "of the run is under way. Check what it waits for: only steps bring a run on."
    )
    return errored(case, draft, BodyErrored(Failure(NOTHING_REPORTED, message)))


# --- fold -----------------------------------------------------------------------------------------


def body_attempt_failed(tables: Tables, f: BodyAttemptFailed, at_ms: int) -> Sequence[Effect]:
    """The body waits for its next attempt."""
    run = open_run(tables, f.run)
    put_run(tables, run, body=BACKOFF, attempt=f.attempt + 1, lost=0, wake_at_ms=f.retry_at_ms)
    return (timers.arm(tables, f.retry_at_ms, timers.RETRY, f.run, ""),)


def discovery_answered(tables: Tables, f: DiscoveryAnswered, at_ms: int) -> Sequence[Effect]:
    """The body found nothing new; hand it out again where something was resolved meanwhile."""
    run = open_run(tables, f.run)
    if f.discover:
        return hand_out_body(tables, run, attempt=0, lost=0)
    put_run(tables, run, body=IDLE, attempt=0, lost=0, again=False)
    return ()


def joint_found(tables: Tables, f: JointFound, at_ms: int) -> Sequence[Effect]:
    """The body goes on with all steps, or with each, from here on."""
    put_run(tables, open_run(tables, f.run), joint=f.is_joint)
    return ()


HANDLES = Handles(
    facts={
        BodyAttemptFailed: body_attempt_failed,
        DiscoveryAnswered: discovery_answered,
        JointFound: joint_found,
    }
)
