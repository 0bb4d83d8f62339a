"""What must hold of the rows after every command: nothing dangles, nothing waits for ever.

What keeps each run alive is asked of ``core/liveness.py``; the timers, parking places, steps and payloads of all runs
together must then be exactly those in the tables. So after the end of the last run nothing of any run is left.
"""

from __future__ import annotations

from collections import Counter

from millstream.core import timers
from millstream.core.flow import idempotency, rate_limit, singleton
from millstream.core.flow.places import parts_of
from millstream.core.flow.queues import gate_of
from millstream.core.liveness import Liveness, liveness, timer_problem
from millstream.core.runs.deciding import is_resolved
from millstream.core.tables import Tables
from millstream.core.waits import homes
from millstream.core.waits.interests import SEEK
from millstream.core.waits.kept import BYTES, EVENTS, counter, size
from millstream.model.gates.rows import AskRow
from millstream.model.ids import lane_of
from millstream.model.rows import Hand, RunRow, StepRow, TimerRow
from millstream.model.seen import until_ms
from millstream.model.waits.awaited import AwaitedPost, home_of_place

ROWS_MAX = 100_000


def check(tables: Tables) -> None:
    """Raise AssertionError on the first thing that is not as it must be."""
    alive = Liveness()
    steps: set[tuple[str, str]] = set()
    events: Counter[str] = Counter()
    for id, run in tables.runs.scan(limit=ROWS_MAX):
        alive.add(liveness(tables, run))
        assert not alive.problems, alive.problems[0]
        _check_run(run, _steps_of(tables, run))
        steps.update((id, step) for step in run.steps)
        events.update(run.events)
    for _, batch in tables.batches.scan(limit=ROWS_MAX):
        events.update(batch.events)
    crons = {(row.at_ms, "cron", row.function, row.cron) for _, row in tables.crons.scan(limit=ROWS_MAX)}
    looking = {(row.timer_ms, "cancel", id, "") for id, row in tables.cancellations.scan(limit=ROWS_MAX)}
    held = {key for key, _ in tables.timers.scan(limit=ROWS_MAX)}
    of_gates = (timers.GATE, timers.SWEEP, timers.KEPT, timers.BATCH, rate_limit.NAME, idempotency.NAME)
    of_places = (homes.MATCH, homes.LOOK, *of_gates)
    beside = {key for key in held if key[1] in of_places}
    problems = [problem for key in beside if (problem := timer_problem(tables, TimerRow(*key)))]
    assert not problems, problems[0]
    _same("timers", held, {*alive.timers, *crons, *looking, *beside})
    _same("parked", {key for key, _ in tables.parked.scan(limit=ROWS_MAX)}, set(alive.parked))
    _same("held", {key for key, _ in tables.held.scan(limit=ROWS_MAX)}, set(alive.held))
    _same("steps", {key for key, _ in tables.steps.scan(limit=ROWS_MAX)}, steps)
    _same("events", {id: row.runs for id, row in tables.events.scan(limit=ROWS_MAX)}, dict(events))
    _check_seen(tables)
    _check_waits(tables)
    _check_gates(tables)


def _steps_of(tables: Tables, run: RunRow) -> list[StepRow]:
    assert len(set(run.steps)) == len(run.steps), f"run {run.run} names a step twice: {run.steps}"
    rows = [tables.steps.get((run.run, step)) for step in run.steps]
    return [row for row in rows if row is not None]


def _check_run(run: RunRow, rows: list[StepRow]) -> None:
    pending = [row for row in rows if not is_resolved(row)]
    resolved = [row for row in rows if is_resolved(row)]
    assert sorted(row.order for row in resolved) == list(range(1, len(resolved) + 1)), f"{run} has no order of steps"
    kept = sum(len(row.awaits.data) for row in resolved if isinstance(row.awaits, AwaitedPost))
    assert run.bytes == kept + sum(len(row.data) for row in rows), f"{run} has another number of bytes"
    numbers = [row.dispatch for row in pending if row.hand == Hand.OUT]
    numbers += [run.body_dispatch] if run.body == Hand.OUT else []
    assert len(set(numbers)) == len(numbers), f"two hand-outs of {run} have one number: {numbers}"
    assert max(numbers, default=0) <= run.dispatch, f"{run} has handed out {numbers}"
    assert run.body != Hand.IDLE or not run.again, f"{run} has not looked at what was resolved"


def _check_seen(tables: Tables) -> None:
    hashes: dict[bytes, int] = {}
    for (source, clients, bucket, number), chunk in tables.seen_chunks.scan(limit=ROWS_MAX):
        held = tables.seen_buckets.get((source, clients, bucket))
        assert held is not None and held.first <= number <= held.chunk, f"chunk {number} lies outside of {held}"
        for i in range(0, len(chunk.hashes), 16):
            hash = chunk.hashes[i : i + 16]
            hashes[hash] = max(until_ms(clients, bucket), hashes.get(hash, 0))
    _same("seen", {key: row.until_ms for key, row in tables.seen.scan(limit=ROWS_MAX)}, hashes)


def _check_waits(tables: Tables) -> None:
    """Who waits at places whose home is here, and what is kept there."""
    waiting = Counter((row.event, row.path) for _, row in tables.waiters.scan(limit=ROWS_MAX))
    counted = {key: row.waiters for key, row in tables.coverage.scan(limit=ROWS_MAX)}
    assert waiting.keys() <= counted.keys(), f"somebody waits, and nothing was asked: {waiting} {counted}"
    _same("coverage", {key: number for key, number in counted.items() if number}, dict(waiting))
    kept = [row for _, row in tables.kept.scan(limit=ROWS_MAX)]
    at = {(place, row.received_at_ms, row.internal_id) for row in kept for place in row.places}
    _same("kept_at", {key for key, _ in tables.kept_at.scan(limit=ROWS_MAX)}, at)
    assert counter(tables, EVENTS) == len(kept), "kept events are miscounted"
    assert counter(tables, BYTES) == sum(size(row.event) for row in kept), "the bytes of kept events are miscounted"
    scans = Counter(row.scan for _, row in tables.scans.scan(limit=ROWS_MAX) if row.purpose == SEEK)
    _same("seeks", {scan: row.left for scan, row in tables.seeks.scan(limit=ROWS_MAX)}, dict(scans))


def _check_gates(tables: Tables) -> None:
    """Who has passed the gates whose home is here, and who queues there."""
    asks = [row for _, row in tables.asks.scan(limit=ROWS_MAX)]
    wait = [row for row in asks if not row.is_held]
    queued = {(row.place, row.function, row.score_ms, row.arrival): (row.run, row.step) for row in wait}
    rows = {key: (row.run, row.step) for key, row in tables.queues.scan(limit=ROWS_MAX)}
    _same("queues", rows, queued)
    gates = dict(tables.gates.scan(limit=ROWS_MAX))
    held, waiting = Counter(row.place for row in asks if row.is_held), Counter(row.place for row in wait)
    _same("gates", {place: row.held for place, row in gates.items() if row.held}, dict(held))
    _same("gates", {place: row.queued for place, row in gates.items() if row.queued}, dict(waiting))
    for row in gates.values():
        assert row.held or row.queued or row.timer_ms, f"a gate that says nothing: {row}"
    singletons = {row.place for row in asks if parts_of(row.place).gate == singleton.NAME}
    _same("singletons", {place for place, _ in tables.singletons.scan(limit=ROWS_MAX)}, singletons)
    for _, starts in tables.starts.scan(limit=ROWS_MAX):
        assert starts.starts and starts.timer_ms, f"counted starts that say nothing: {starts}"
    _check_asked(tables, {(row.place, row.run, row.step): row for row in asks})


def _check_asked(tables: Tables, asks: dict[tuple[str, str, str], AskRow]) -> None:
    """What runs of this lane have asked here, and nothing else of theirs, is known here."""
    expected: dict[tuple[str, str, str], tuple[int, bool]] = {}
    lanes, lane = tables.place.lanes, tables.place.lane
    for id, run in tables.runs.scan(limit=ROWS_MAX):
        flow = run.flow
        if flow is None:
            continue
        for place in flow.held:
            if (place, id, "") in asks:  # Not where the gate is gone, or was made anew meanwhile.
                expected[place, id, ""] = (0, True)
        for index, place in enumerate(flow.gates[: flow.asked]):
            if index >= flow.passed or gate_of(place).holds:
                expected[place, id, ""] = (0, index < flow.passed)
        slots = {"": flow.slot, **{step.step: step.slot for step in _steps_of(tables, run)}}
        for step, slot in slots.items():
            for index, place in enumerate(flow.slots[: slot.asked] if slot is not None else ()):
                assert slot is not None
                expected[place, id, step] = (slot.number, index < slot.passed)
    expected = {key: value for key, value in expected.items() if home_of_place(key[0], lanes) == lane}
    ours = {key: (row.number, row.is_held) for key, row in asks.items() if lane_of(key[1], lanes) == lane}
    _same("asks", ours, expected)


def _same(table: str, held: object, derived: object) -> None:
    assert held == derived, f"table {table} holds {held}, but the runs need {derived}"
