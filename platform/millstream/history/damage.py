"""What an error of the index's file means, and how a damaged one is given up: the one place that says so.

The index is a cache, so there are two kinds. What **passes** (no room, no descriptors, another process has it) is
LogUnavailable: the same call succeeds later. All else is **damage**, HistoryDamaged: the statements are ours and right,
so a file in which a table, a row or a key is not as they left it is not what was written.

    reader or writer finds damage ──condemn──> history.db.condemned        a note that outlives the process
    the writer, at its start or within a second ──move_aside──> history.db.damaged, one at most; a new index

Only the writer moves it, since only one process is the writer (``process.only_writer``); readers open the new one by
themselves when the name shows another file.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from millstream.disk import passing
from millstream.errors import DiskFull, LogUnavailable, OperatorError

_log = logging.getLogger(__name__)

_PASSES: Final = frozenset(
    (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
    )
)
_TORN: Final = frozenset((sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS))
"""Errors of reading that stay: the file is shorter than it says, or the disk gives a page no more."""


class HistoryDamaged(OperatorError):
    """The index is not what was written. It is moved aside and folded anew; nothing is lost."""


class RowDamaged(ValueError):
    """A row of the index holds what nobody writes."""


def explain(error: Exception, path: Path) -> OperatorError:
    """What an error means: DiskFull and LogUnavailable pass, HistoryDamaged stays until it is moved aside."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, sqlite3.ProgrammingError):  # A closed connection, or a bug: it says nothing of the file.
        return LogUnavailable(f"the history index {path} cannot be used now: {error}. Try again.")
    if isinstance(error, OSError):
        return LogUnavailable(f"the history index {path} cannot be used now: {error}. Nothing is lost. Try again.")
    if code is not None and (code & 0xFF in _PASSES or _may_only_be_read(code, path)) and code not in _TORN:
        kind = DiskFull if code & 0xFF == sqlite3.SQLITE_FULL else LogUnavailable
        return kind(f"the history index {path} cannot be used now: {error}. Nothing is lost; it is folded again.")
    return HistoryDamaged(
        f"the history index {path} is damaged: {error}. Expected what was written to it. It is moved aside to "
        f"{_beside(path, '.damaged').name} and folded anew from the log; nothing is lost. Check the disk."
    )


def _may_only_be_read(code: int, path: Path) -> bool:
    """Whether the system forbids writing. SQLite says so, too, of a file whose header has a damaged version."""
    return code & 0xFF == sqlite3.SQLITE_READONLY and not os.access(path, os.W_OK)


def condemn(path: Path) -> None:
    """Have the writer give the index up; it looks every second, and at its start."""
    with suppress(OSError):  # No room for a note: who reads there next finds the damage again.
        _beside(path, ".condemned").touch()


def is_condemned(path: Path) -> bool:
    """Whether somebody found damage in the index that is there now."""
    return _beside(path, ".condemned").exists()


def move_aside(path: Path, why: str) -> None:
    """By the writer alone, and with its connection closed. The note goes last: dying in here begins it again.

    Raises LogUnavailable where that cannot be done now.
    """
    aside = _beside(path, ".damaged")
    condemn(path)
    try:
        for end in ("-wal", "-shm"):  # Else a new file would take the pages of the old one for its own.
            _beside(path, end).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            path.replace(aside)
        _beside(path, ".condemned").unlink(missing_ok=True)
    except OSError as error:
        raise LogUnavailable(
            f"the history index {path} is damaged and was not moved aside: {passing(error) or error}. Mend that; it "
            "is tried again."
        ) from error
    _log.warning("history moved aside index=%s to=%s reason=%s", path, aside, why)


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)
