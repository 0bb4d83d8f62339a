"""``owed(tables) -> effects``: what the state still owes the world, derived from the rows alone.

Effects may be lost: with the worker, with the lane. The worker that takes a lane over derives them again here. The
equation that holds at every moment, and that the simulation checks: *effects released so far, minus those answered by
later facts, equal ``owed(tables)``*. A new effect that must not be lost needs its rows and its lines here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from millstream.core.tables import Tables
from millstream.model.effects import Arm, CodeWanted, Deliver, Effect, Execute, Publish, Scan
from millstream.model.rows import Hand, RunRow

PAGE_ROWS: Final = 500


def owed(tables: Tables) -> Iterator[Effect]:
    """Everything. For tests and small lanes; a worker takes it in pages (``owed_by_run``) and timers by their time."""
    start: str | None = None
    while page := tables.runs.scan(start, limit=PAGE_ROWS):
        for _, run in page:
            yield from owed_by_run(tables, run)
        start = page[-1][0] + "\x00"
    for _, timer in tables.timers.scan(limit=1 << 60):
        yield Arm(timer.at_ms, timer.kind, timer.id, timer.step)
    yield from owed_messages(tables)


def owed_by_run(tables: Tables, run: RunRow) -> Iterator[Execute]:
    """The dispatches of one run that are not answered."""
    if run.body == Hand.OUT:
        yield Execute(run.run, run.function, "", run.attempt, run.body_dispatch)
    if run.pending:
        for id in run.steps:
            step = tables.steps.get((run.run, id))
            if step is not None and step.hand == Hand.OUT:
                yield Execute(run.run, run.function, id, step.attempt, step.dispatch)


def owed_messages(tables: Tables) -> Iterator[Deliver | Publish | CodeWanted | Scan]:
    """Messages and records not known to have arrived, hand-outs that wait for code, scans that are not over."""
    at: tuple[int, int] | None = None
    while messages := tables.outbox.scan(at, limit=PAGE_ROWS):
        for (to_lane, seq), _ in messages:
            yield Deliver(to_lane, seq)
            at = (to_lane, seq + 1)
    next_number: int | None = None
    while publishes := tables.publishes.scan(next_number, limit=PAGE_ROWS):
        for number, _ in publishes:
            yield Publish(number)
            next_number = number + 1
    place: tuple[str, str, str] | None = None
    while rows := tables.parked.scan(place, limit=PAGE_ROWS):
        for (function, run, step), row in rows:
            yield CodeWanted(row.run, row.function, row.step, row.dispatch)
            place = (function, run, step + "\x00")
    scan: tuple[str, int] | None = None
    while scanning := tables.scans.scan(scan, limit=PAGE_ROWS):
        for (id, partition), scanned in scanning:
            yield Scan(id, partition, scanned.at)
            scan = (id, partition + 1)
