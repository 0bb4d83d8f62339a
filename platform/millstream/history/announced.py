"""The events that announce ends of runs, made from the index when they are asked for.

A lane writes such an event only where a function subscribes to it. Of all other ends the index keeps a number, the run
and the kind (``announced``); name, ids and data are what the lane would have written, made here of the run's row and
the events that started it. Events that are gone, or whose topic is not followed, are left out of the data.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from millstream.history.fold import ANNOUNCEMENTS, CANCELLED, FAILED
from millstream.history.index import COUNTER_BITS
from millstream.history.trail import error_of
from millstream.model.announcement import RunEnd, announcement, announcement_id
from millstream.model.error_object import more_of
from millstream.model.event import FUNCTION_FINISHED, Envelope
from millstream.model.facts import RunCancelled, RunCompleted, RunFailed
from millstream.model.ids import is_ulid, ulid_time_ms

Numbered = tuple[int, Envelope]
_ROW: Final = (
    "SELECT a.n, a.kind, a.run, f.slug, r.status, r.result, r.error, r.no_retry, r.event, r.n FROM announced a"
    " JOIN run r ON r.run = a.run JOIN function f ON f.id = r.function"
)


def newest(db: sqlite3.Connection, name: str, bounds: tuple[int, int], limit: int) -> Iterator[Numbered]:
    """Announcements with below ≤ number < above (``bounds`` is above, below), newest first. ``name`` empty: all.

    Each is made when it is asked for: they hold results.
    """
    if name and name not in ANNOUNCEMENTS:
        return
    kind = ANNOUNCEMENTS.index(name) if name else -1
    # The second term lets SQLite take the index of the rare kinds.
    where = "" if kind < 0 else f" AND a.kind = {kind}" + (" AND a.kind > 0" if kind else "")
    rows = db.execute(f"{_ROW} WHERE a.n < ? AND a.n >= ?{where} ORDER BY a.n DESC LIMIT ?", (*bounds, limit))
    for row in rows:
        yield row[0], _made(db, row)


def by_id(db: sqlite3.Connection, id: str) -> Numbered | None:
    """The announcement with this internal id; or the last that carries a run's id as its own."""
    if not is_ulid(id):
        return None
    for n, kind, run in _at(db, ulid_time_ms(id)):
        if announcement_id(ANNOUNCEMENTS[kind], run, n >> COUNTER_BITS) == id:
            return _one(db, n)
    ended = db.execute("SELECT ended_ms FROM run WHERE run = ?", (id,)).fetchone()
    for n, kind, run in _at(db, ended[0] if ended is not None else 0):
        if run == id and ANNOUNCEMENTS[kind] != FUNCTION_FINISHED:
            return _one(db, n)
    return None


def _at(db: sqlite3.Connection, at_ms: int) -> Iterator[tuple[int, int, str]]:
    begin, end = at_ms << COUNTER_BITS, (at_ms + 1) << COUNTER_BITS
    if not 0 < begin < 1 << 62:
        return
    yield from db.execute("SELECT n, kind, run FROM announced WHERE n >= ? AND n < ?", (begin, end)).fetchall()


def _one(db: sqlite3.Connection, n: int) -> Numbered | None:
    row = db.execute(f"{_ROW} WHERE a.n = ?", (n,)).fetchone()
    return None if row is None else (n, _made(db, row))


def _made(db: sqlite3.Connection, row: tuple[Any, ...]) -> Envelope:
    n, kind, run, function, status, result, error, no_retry, event, run_n = row
    further = [e for (e,) in db.execute("SELECT event FROM run_event WHERE n = ? ORDER BY place", (run_n,))]
    events = [found for id in (event, *further) if (found := envelope(db, id)) is not None]
    end: RunEnd
    if status == FAILED:
        failure, more = error_of(error), more_of(json.loads(error))
        end = RunFailed(run, function, 0, failure.name, failure.message, failure.stack, more, bool(no_retry))
    elif status == CANCELLED:
        end = RunCancelled(run, function, error_of(error).message)
    else:
        end = RunCompleted(run, function, 0, result or b"null")
    return announcement(ANNOUNCEMENTS[kind], end, events, n >> COUNTER_BITS)


def envelope(db: sqlite3.Connection, internal_id: str) -> Envelope | None:
    """An event as it was received; None where it is not kept."""
    row = db.execute(
        "SELECT internal_id, id, name, data, ts_ms, received_ms, key, user, v, meta FROM event"
        " WHERE internal_id = ? ORDER BY n DESC LIMIT 1",
        (internal_id,),
    ).fetchone()
    if row is None:
        return None
    internal, given, name, data, *rest = row
    return Envelope(internal, given or internal, given is not None, name, data, *rest)
