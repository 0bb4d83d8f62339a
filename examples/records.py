"""Where the examples put what they do: messages, mails, views, as rows of one small SQLite file.

A real application has its own database and its own mail provider; nothing here goes over a network. What the file
keeps is the rule that makes a durable function safe: **every row has a key, and a key is written once**. A step's code
may run a second time (the worker died after the work and before the record of it), so the examples take
``millstream.current().idempotency_key`` for the key: the second time changes nothing.

The file is ``.millstream-examples.db`` in the working directory, or what ``EXAMPLES_DB`` says. To look into it:

    sqlite3 .millstream-examples.db 'select kind, subject, value from records order by rowid'
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

TABLE = (
    "CREATE TABLE IF NOT EXISTS records (kind TEXT, key TEXT, subject TEXT, at_ms INTEGER, value TEXT, "
    "UNIQUE (kind, key))"
)
INDEX = "CREATE INDEX IF NOT EXISTS by_subject ON records (kind, subject)"
LOCK_WAIT_S = 10.0


@contextmanager
def _connected() -> Iterator[sqlite3.Connection]:
    path = os.environ.get("EXAMPLES_DB", ".millstream-examples.db")
    with closing(sqlite3.connect(path, timeout=LOCK_WAIT_S)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(TABLE)
        connection.execute(INDEX)
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def keep(kind: str, key: str, subject: str, value: Mapping[str, Any], at_ms: int = 0) -> int:
    """Keep a row unless its key is there already; which one of its subject it is, from 1.

    The same key always gets the same answer, so a step may call this again.
    """
    with _connected() as db:
        row = (kind, key, subject, at_ms, json.dumps(value))
        db.execute("INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?)", row)
        counted = db.execute(
            "SELECT count(*) FROM records WHERE kind = ? AND subject = ? "
            "AND rowid <= (SELECT rowid FROM records WHERE kind = ? AND key = ?)",
            (kind, subject, kind, key),
        ).fetchone()
    return int(counted[0])


def replace(kind: str, key: str, subject: str, value: Mapping[str, Any]) -> None:
    """Put a row in place of the one with its key."""
    with _connected() as db:
        db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, 0, ?)", (kind, key, subject, json.dumps(value)))


def found(kind: str, subject: str | None = None) -> list[dict[str, Any]]:
    """The values of a kind (of a subject), oldest first."""
    with _connected() as db:
        rows = db.execute(
            "SELECT value FROM records WHERE kind = ? AND (? IS NULL OR subject = ?) ORDER BY rowid",
            (kind, subject, subject),
        ).fetchall()
    return [json.loads(value) for (value,) in rows]


def counts(kind: str, after_ms: int) -> dict[str, int]:
    """How many rows each subject of a kind has from ``after_ms`` on, the largest first."""
    with _connected() as db:
        rows = db.execute(
            "SELECT subject, count(*) FROM records WHERE kind = ? AND at_ms >= ? GROUP BY subject ORDER BY 2 DESC, 1",
            (kind, after_ms),
        ).fetchall()
    return {str(subject): int(count) for subject, count in rows}
