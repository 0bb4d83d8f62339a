"""``doubling_s``: the pause before the next try, twice as long after each failure, up to a maximum.

For whatever is tried for ever: a lane whose log is away, an executor that dies while it starts. What users configure
for their steps is ``model/function.Backoff``.
"""

from __future__ import annotations

from typing import Final

_DOUBLINGS_MAX: Final = 62
"""Any maximum is reached by then; a power of two is no float after 1,023 failures in a row."""


def doubling_s(first_s: float, failures: int, max_s: float) -> float:
    """``first_s`` after no failure, twice that after the first, and so on; ``max_s`` at most."""
    return min(first_s * 2.0 ** min(failures, _DOUBLINGS_MAX), max_s)
