"""The entries of a run's trail: what the history keeps of what happened inside a run. ``history/trail.py`` reads them.

Entries are positional, ``(tag, at_ms, step, …)``, and only ever appended. Tags are stored: they never change their
meaning. Add a kind of entry: a tag here, its case in ``history/trail.py``.
"""

from __future__ import annotations

from typing import Any, Final

DONE: Final = 0  # at, step, name, kind, attempt, started_at, data
PLANNED: Final = 1  # at, step, name, kind
SLEEPING: Final = 2  # at, step, name, kind, wake_at
WOKE: Final = 3  # at, step, kind
ERRORED: Final = 4  # at, step, name, kind, attempt, started_at, retry_at, error name, message, stack
FAILED: Final = 5  # the same with retry_at 0, and what the error has beside the three
BODY_ERRORED: Final = 6  # at, "", attempt, retry_at, error name, message, stack
LOST: Final = 7  # at, step, how often by now, retry_at
PARKED: Final = 8  # at, step, function; where the code has changed, the reason
UNPARKED: Final = 9  # at, step
WAITING: Final = 10  # at, step, name, kind, until, what it waits for as JSON (waits_for.py)
CAME: Final = 11  # at, step, which of the awaited events; of a signal 0
GIVEN_BACK: Final = 12  # at, step
ASKED: Final = 20  # at, step (empty: the body), the gate, the value of its key
PASSED: Final = 21  # the same
HELD: Final = 13  # at, step, name, kind, attempt, started_at, error name, message, stack; of a step also the rest
RESUMED: Final = 14  # at, step

Entry = tuple[Any, ...]
