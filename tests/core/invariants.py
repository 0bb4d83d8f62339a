"""What must hold of the rows after every command: nothing dangles, nothing waits for ever.

Timers, parking places and payloads are derived here a second time, from the runs and their steps; the tables must hold
exactly those. So after the end of the last run nothing of any run is left.
"""

from __future__ import annotations

from collections import Counter

from millstream.core.tables import Tables
from millstream.model.rows import Hand, RunRow, StepRow
from millstream.model.seen import until_ms

ROWS_MAX = 100_000
_TIMED = {int(Hand.BACKOFF): "retry", int(Hand.SLEEPING): "sleep", int(Hand.SCHEDULED): "due"}
_WAITING = {int(Hand.OUT), int(Hand.PARKED), *_TIMED}
_RESOLVED = (int(Hand.DONE), int(Hand.FAILED))

Timer = tuple[int, str, str, str]
Parked = tuple[str, str, str]


def check(tables: Tables) -> None:
    """Raise AssertionError on the first thing that is not as it must be."""
    timers: set[Timer] = set()
    parked: set[Parked] = set()
    steps: set[tuple[str, str]] = set()
    events: Counter[str] = Counter()
    for id, run in tables.runs.scan(limit=ROWS_MAX):
        rows = _steps_of(tables, run)
        _check_run(run, rows)
        steps.update((id, step) for step in run.steps)
        events.update(run.events)
        for step, hand, wake_at_ms in [("", run.body, run.wake_at_ms), *((r.step, r.hand, r.wake_at_ms) for r in rows)]:
            if hand in _TIMED:
                timers.add((wake_at_ms, _TIMED[hand], id, step))
            if hand == Hand.PARKED:
                parked.add((run.function, id, step))
    crons = {(row.at_ms, "cron", row.function, row.cron) for _, row in tables.crons.scan(limit=ROWS_MAX)}
    _same("timers", {key for key, _ in tables.timers.scan(limit=ROWS_MAX)}, timers | crons)
    _same("parked", {key for key, _ in tables.parked.scan(limit=ROWS_MAX)}, parked)
    _same("steps", {key for key, _ in tables.steps.scan(limit=ROWS_MAX)}, steps)
    _same("events", {id: row.runs for id, row in tables.events.scan(limit=ROWS_MAX)}, dict(events))
    _check_seen(tables)


def _steps_of(tables: Tables, run: RunRow) -> list[StepRow]:
    assert len(set(run.steps)) == len(run.steps), f"run {run.run} names a step twice: {run.steps}"
    rows = [tables.steps.get((run.run, step)) for step in run.steps]
    found = [row for row in rows if row is not None]
    assert len(found) == len(run.steps), f"run {run.run} names steps that have no row: {run.steps}"
    return found


def _check_run(run: RunRow, rows: list[StepRow]) -> None:
    pending = [row for row in rows if row.hand not in _RESOLVED]
    resolved = [row for row in rows if row.hand in _RESOLVED]
    assert run.pending == len(pending), f"{run} has {len(pending)} pending steps"
    assert run.resolved == len(resolved), f"{run} has {len(resolved)} resolved steps"
    assert sorted(row.order for row in resolved) == list(range(1, len(resolved) + 1)), f"{run} has no order of steps"
    assert run.bytes == sum(len(row.data) for row in resolved), f"{run} has another number of bytes"
    assert all(row.hand in _WAITING for row in pending), f"a pending step of {run} is in nobody's hand"
    numbers = [row.dispatch for row in pending if row.hand == Hand.OUT]
    numbers += [run.body_dispatch] if run.body == Hand.OUT else []
    assert len(set(numbers)) == len(numbers), f"two hand-outs of {run} have one number: {numbers}"
    assert max(numbers, default=0) <= run.dispatch, f"{run} has handed out {numbers}"
    # Liveness (lanes.md rule 32): an execution, a timer or a parking place.
    assert run.body in _WAITING or pending, f"{run} waits for nothing and will never end"
    assert run.body in _WAITING or not run.again, f"{run} has not looked at what was resolved"


def _check_seen(tables: Tables) -> None:
    hashes: dict[bytes, int] = {}
    for (source, clients, bucket, number), chunk in tables.seen_chunks.scan(limit=ROWS_MAX):
        held = tables.seen_buckets.get((source, clients, bucket))
        assert held is not None and held.first <= number <= held.chunk, f"chunk {number} lies outside of {held}"
        for i in range(0, len(chunk.hashes), 16):
            hash = chunk.hashes[i : i + 16]
            hashes[hash] = max(until_ms(clients, bucket), hashes.get(hash, 0))
    _same("seen", {key: row.until_ms for key, row in tables.seen.scan(limit=ROWS_MAX)}, hashes)


def _same(table: str, held: object, derived: object) -> None:
    assert held == derived, f"table {table} holds {held}, but the runs need {derived}"
