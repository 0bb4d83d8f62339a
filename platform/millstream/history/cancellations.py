"""Cancellations in the history: a row for each lane that looks for runs to end; a listing sums the lanes up.

The rows follow the facts in their order, within the batch's transaction; one that is over is kept as long as runs are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from millstream.model import facts as f

CancellationFact = f.CancellationStarted | f.CancellationAdvanced | f.CancellationEnded
RUNNING: Final = 0
DONE: Final = 1
STOPPED: Final = 2

SCHEMA: Final = """
CREATE TABLE cancellation (
    cancellation TEXT NOT NULL, lane INTEGER NOT NULL, function TEXT NOT NULL, from_ms INTEGER NOT NULL,
    before_ms INTEGER NOT NULL, expression TEXT NOT NULL, reason TEXT NOT NULL, began_ms INTEGER NOT NULL,
    state INTEGER NOT NULL, looked INTEGER NOT NULL, cancelled INTEGER NOT NULL, ended_ms INTEGER NOT NULL,
    PRIMARY KEY (cancellation, lane)
) WITHOUT ROWID;
"""


class CancellationSeen(msgspec.Struct, frozen=True, gc=False):
    """A cancellation, summed up over the ``lanes`` that have recorded it. ``running`` and ``stopped`` count lanes.

    ``ended_ms`` is the last lane's end so far.
    """

    cancellation: str
    function: str
    from_ms: int
    before_ms: int
    expression: str
    reason: str
    began_ms: int
    ended_ms: int
    lanes: int
    running: int
    stopped: int
    looked: int
    cancelled: int


def store(db: sqlite3.Connection, facts: Sequence[tuple[CancellationFact, int]]) -> None:
    """What the facts of a batch, with their times, make of the rows."""
    for fact, at_ms in facts:
        key = (fact.cancellation, fact.lane)
        if isinstance(fact, f.CancellationStarted):
            about = (fact.function, fact.from_ms, fact.before_ms, fact.expression, fact.reason, at_ms)
            db.execute(
                "INSERT OR REPLACE INTO cancellation VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", (*key, *about, RUNNING, 0, 0, 0)
            )
        elif isinstance(fact, f.CancellationAdvanced):
            db.execute(
                "UPDATE cancellation SET looked = looked + ?, cancelled = cancelled + ?"
                " WHERE cancellation = ? AND lane = ?",
                (fact.looked, fact.cancelled, *key),
            )
        else:
            db.execute(
                "UPDATE cancellation SET state = ?, looked = ?, cancelled = ?, ended_ms = ?"
                " WHERE cancellation = ? AND lane = ?",
                (STOPPED if fact.is_stopped else DONE, fact.looked, fact.cancelled, at_ms, *key),
            )


def forget(db: sqlite3.Connection, before_ms: int, limit: int) -> int:
    """Delete a chunk of those that were over before; how many rows went."""
    return db.execute(
        "DELETE FROM cancellation WHERE (cancellation, lane) IN"
        " (SELECT cancellation, lane FROM cancellation WHERE ended_ms > 0 AND ended_ms < ? LIMIT ?)",
        (before_ms, limit),
    ).rowcount


QUESTION: Final = (
    "SELECT cancellation, function, from_ms, before_ms, expression, reason, min(began_ms), max(ended_ms), count(*),"
    f" sum(state = {RUNNING}), sum(state = {STOPPED}), sum(looked), sum(cancelled) FROM cancellation"
    " WHERE cancellation < ? GROUP BY cancellation ORDER BY cancellation DESC LIMIT ?"
)
"""Those below an id, the newest first; so many."""
NEWEST: Final = "~"
"""Above every id."""
