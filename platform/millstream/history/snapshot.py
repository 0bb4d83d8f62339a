"""Reading one state of the index: several questions that see the same, and the packed lists of a run's trail."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress

from millstream.errors import LogUnavailable


class Snapshot:
    """Several reads that see one state of the index."""

    def __init__(self, db: sqlite3.Connection, failed: Callable[[Exception], LogUnavailable]) -> None:
        self._db = db
        self._failed = failed

    def __enter__(self) -> sqlite3.Connection:
        self._db.execute("BEGIN")
        return self._db

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise self._failed(error) from error
        with suppress(sqlite3.Error):  # Closed by an error inside; a read has nothing to lose.
            self._db.execute("COMMIT")


def chunks_of(db: sqlite3.Connection, n: int, run: str) -> list[bytes]:
    """The packed lists of a run's trail, in order."""
    chunks = [db.execute("SELECT trail FROM run WHERE n = ?", (n,)).fetchone()[0]]
    chunks += [c for (c,) in db.execute("SELECT entries FROM trail WHERE run = ? ORDER BY id", (run,))]
    chunks += [c for (c,) in db.execute("SELECT entries FROM recalled WHERE run = ?", (run,))]
    return [chunk for chunk in chunks if chunk]
