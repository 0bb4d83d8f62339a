"""Another attempt: how long to wait before it, and what happens when the wait is over.

Jitter is derived from the run, so that the same decision can be made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from millstream.core import timers
from millstream.core.handles import Handles
from millstream.core.runs.bounds import in_time
from millstream.core.runs.deciding import Case
from millstream.core.runs.hands import hand_out_body, hand_out_step, leave_hand, open_run, open_step
from millstream.core.tables import Tables
from millstream.model import limits
from millstream.model.commands import FireTimer
from millstream.model.effects import Effect
from millstream.model.facts import Fact, RetryDue
from millstream.model.function import DEFAULT_BACKOFF, Backoff
from millstream.model.ids import hash16
from millstream.model.operations import RetryPolicy
from millstream.model.place import Place

# Before hand-out n + 1 after n lost ones: a step that kills its worker must not kill every worker in turn.
LOST_DELAYS_MS: Final = (0, 1_000, 5_000, 15_000, 60_000)


def next_attempt_at_ms(case: Case, step: str, attempt: int, after_ms: int, own: RetryPolicy | None = None) -> int:
    """When the attempt after this one starts; −1 when it was the last. ``step`` is empty for the body.

    ``own``  the step's policy, where it has one; what it leaves open the function says.
    """
    spec = case.spec
    retries = spec.retries if spec is not None else limits.RETRIES_DEFAULT
    backoff = spec.backoff if spec is not None else DEFAULT_BACKOFF
    if own is not None:
        retries = own.retries if own.retries >= 0 else retries
        backoff = Backoff(own.delays_ms, own.jitter_ms) if own.delays_ms else backoff
    if attempt >= retries:
        return -1
    place = case.tables.place
    return retry_at_ms(place, backoff, case.run.run, step, attempt, now_ms=case.now_ms, after_ms=after_ms)


def retry_at_ms(
    place: Place, backoff: Backoff, run: str, step: str, attempt: int, *, now_ms: int, after_ms: int
) -> int:
    """When the attempt after ``attempt`` starts. ``after_ms`` ≥ 0 is what the failed code asked for."""
    if after_ms >= 0:
        return now_ms + min(max(after_ms, limits.RETRY_AFTER_MS_MIN), limits.RETRY_AFTER_MS_MAX)
    if place.retry_interval_ms >= 0:
        return now_ms + place.retry_interval_ms
    delay_ms = backoff.delays_ms[min(attempt, len(backoff.delays_ms) - 1)]
    if backoff.jitter_ms:
        delay_ms += int.from_bytes(hash16(run, step, str(attempt))[:6], "big") % (backoff.jitter_ms + 1)
    return now_ms + delay_ms


def lost_retry_at_ms(lost: int, now_ms: int) -> int:
    """When a hand-out that was lost for the ``lost``-th time is made again; 0 means now."""
    delay_ms = LOST_DELAYS_MS[min(lost - 1, len(LOST_DELAYS_MS) - 1)]
    return now_ms + delay_ms if delay_ms else 0


def fire(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """A delay before another hand-out is over."""
    return [RetryDue(command.id, command.step)]


def retry_due(tables: Tables, f: RetryDue, at_ms: int) -> Sequence[Effect]:
    """Fold: hand out again."""
    run = open_run(tables, f.run)
    if not f.step:
        gone = leave_hand(tables, run, None)
        return [*gone, *hand_out_body(tables, run, attempt=run.attempt, lost=run.lost)]
    held = open_step(tables, f.run, f.step)
    gone = leave_hand(tables, run, held)
    return [*gone, *hand_out_step(tables, run, held)]


HANDLES = Handles(timers={timers.RETRY: in_time(fire)}, facts={RetryDue: retry_due})
