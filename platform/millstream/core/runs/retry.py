"""How long to wait before another attempt. Jitter is derived from the run, so that the same decision can be made
again."""

from __future__ import annotations

from typing import Final

from millstream.model import limits
from millstream.model.function import DEFAULT_BACKOFF, FunctionSpec
from millstream.model.ids import hash16
from millstream.model.place import Place

# Before hand-out n + 1 after n lost ones: a step that kills its worker must not kill every worker in turn.
LOST_DELAYS_MS: Final = (0, 1_000, 5_000, 15_000, 60_000)


def retry_at_ms(
    place: Place, spec: FunctionSpec | None, run: str, step: str, attempt: int, *, now_ms: int, after_ms: int
) -> int:
    """When the attempt after ``attempt`` starts. ``after_ms`` ≥ 0 is what the failed code asked for."""
    if after_ms >= 0:
        return now_ms + min(max(after_ms, limits.RETRY_AFTER_MS_MIN), limits.RETRY_AFTER_MS_MAX)
    if place.retry_interval_ms >= 0:
        return now_ms + place.retry_interval_ms
    backoff = spec.backoff if spec is not None else DEFAULT_BACKOFF
    delay_ms = backoff.delays_ms[min(attempt, len(backoff.delays_ms) - 1)]
    if backoff.jitter_ms:
        delay_ms += int.from_bytes(hash16(run, step, str(attempt))[:6], "big") % (backoff.jitter_ms + 1)
    return now_ms + delay_ms


def lost_retry_at_ms(lost: int, now_ms: int) -> int:
    """When a hand-out that was lost for the ``lost``-th time is made again; 0 means now."""
    delay_ms = LOST_DELAYS_MS[min(lost - 1, len(LOST_DELAYS_MS) - 1)]
    return now_ms + delay_ms if delay_ms else 0
