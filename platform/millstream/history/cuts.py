"""Long values in answers: which are shown whole, and what remains of the others.

Reads are bounded in bytes, not only in rows. Of a value that is cut its beginning is kept, and how long it is; whoever
shows it says where the whole is. In listings that is decided by SQLite, which then reads no more than the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from millstream.history.trail import StepSeen
from millstream.model import limits

BEGINNING_BYTES: Final = 2_000


_VALUES: Final = "length(data) + length(user) + length(meta)"
_IS_LONG: Final = f"{_VALUES} > {limits.VALUE_BYTES_SHOWN_MAX}"
EVENTS_QUESTION: Final = (
    "SELECT n, internal_id, id, name, ts_ms, received_ms, topic, partition, position, key, v,"
    f" CASE WHEN {_IS_LONG} THEN x'' ELSE user END, CASE WHEN {_IS_LONG} THEN x'' ELSE meta END,"
    f" CASE WHEN {_IS_LONG} THEN substr(data, 1, {BEGINNING_BYTES}) ELSE data END,"
    f" CASE WHEN {_IS_LONG} THEN {_VALUES} ELSE 0 END FROM event"
)
"""The question for events in listings: of one that is long, the beginning and how long it is."""


def runs_question(shown_max: int) -> str:
    """The question for runs, with results of so many bytes whole; of longer ones the beginning and the length."""
    long = f"length(r.result) > {shown_max}"
    return (
        "SELECT r.n, r.run, f.slug, f.app, f.name, r.status, r.started_ms, r.ended_ms, r.event, r.event_name, r.cause,"
        f" r.error, CASE WHEN {long} THEN substr(r.result, 1, {BEGINNING_BYTES}) ELSE r.result END,"
        f" CASE WHEN {long} THEN length(r.result) ELSE 0 END FROM run r JOIN function f ON f.id = r.function"
    )


def longest(sizes: Sequence[int], bytes_max: int) -> frozenset[int]:
    """The places of the values that do not fit: the shortest are shown first."""
    left, cut = bytes_max, []
    for size, place in sorted((size, place) for place, size in enumerate(sizes)):
        left -= size
        if left < 0:
            cut.append(place)
    return frozenset(cut)


def shorten(step: StepSeen) -> None:
    """Keep the beginning of a step's output."""
    step.output_bytes, step.output = len(step.output), step.output[:BEGINNING_BYTES]


def bound_errors(steps: Sequence[StepSeen]) -> int:
    """Leave out errors of attempts beyond ERRORS_BYTES_SHOWN_MAX, the oldest first; how many were left out."""
    places = [(attempt.ended_at_ms, s, a) for s, step in enumerate(steps) for a, attempt in enumerate(step.attempts)]
    left, cut = limits.ERRORS_BYTES_SHOWN_MAX, 0
    for _, s, a in sorted(places, reverse=True):
        attempt = steps[s].attempts[a]
        if attempt.error is None:
            continue
        left -= len(attempt.error.message) + len(attempt.error.stack) + len(attempt.error.name)
        if left < 0:
            steps[s].attempts[a] = replace(attempt, error=None)
            cut += 1
    return cut
