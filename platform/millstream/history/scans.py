"""Scans in the history: a row for each partition of a scan, how far it is and how many runs it has started.

The rows follow the facts in their order, within the batch's transaction; one that is over is kept as long as runs are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from millstream.model import facts as f

ScanFact = f.ScanStarted | f.ScanAdvanced | f.ScanEnded
SCANS_SHOWN_MAX: Final = 1_000
RUNNING: Final = "Running"
COMPLETED: Final = "Completed"
CANCELLED: Final = "Cancelled"

SCHEMA: Final = """
CREATE TABLE scan (
    scan TEXT NOT NULL, partition INTEGER NOT NULL, function TEXT NOT NULL, topic TEXT NOT NULL,
    purpose TEXT NOT NULL, from_offset INTEGER NOT NULL, upto INTEGER NOT NULL, at INTEGER NOT NULL,
    started INTEGER NOT NULL, status TEXT NOT NULL, began_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL,
    PRIMARY KEY (scan, partition)
) WITHOUT ROWID;
"""


class ScanSeen(msgspec.Struct, frozen=True, gc=False):
    """One partition of a scan, as the history knows it. ``at`` and ``from_offset`` −1: not looked up yet."""

    scan: str
    partition: int
    function: str
    topic: str
    purpose: str
    from_offset: int
    upto: int
    at: int
    started: int
    status: str
    began_ms: int
    ended_ms: int


def store(db: sqlite3.Connection, facts: Sequence[tuple[ScanFact, int]]) -> None:
    """What the facts of a batch, with their times, make of the rows."""
    for fact, at_ms in facts:
        key = (fact.scan, fact.partition)
        if isinstance(fact, f.ScanStarted):
            about = (fact.function, fact.topic, fact.purpose, fact.from_offset, fact.upto, fact.from_offset)
            db.execute(
                "INSERT OR REPLACE INTO scan VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", (*key, *about, 0, RUNNING, at_ms, 0)
            )
        elif isinstance(fact, f.ScanAdvanced):
            db.execute(
                "UPDATE scan SET from_offset = CASE WHEN from_offset < 0 THEN ? ELSE from_offset END, at = ?,"
                " started = started + ? WHERE scan = ? AND partition = ?",
                (fact.at, fact.at, fact.started, *key),
            )
        else:
            db.execute(
                "UPDATE scan SET status = ?, ended_ms = ? WHERE scan = ? AND partition = ?",
                (CANCELLED if fact.cancelled else COMPLETED, at_ms, *key),
            )


def forget(db: sqlite3.Connection, before_ms: int, limit: int) -> int:
    """Delete a chunk of those that were over before; how many rows went."""
    return db.execute(
        "DELETE FROM scan WHERE (scan, partition) IN"
        " (SELECT scan, partition FROM scan WHERE ended_ms > 0 AND ended_ms < ? LIMIT ?)",
        (before_ms, limit),
    ).rowcount


QUESTION: Final = f"SELECT * FROM scan ORDER BY began_ms DESC, scan, partition LIMIT {SCANS_SHOWN_MAX}"
