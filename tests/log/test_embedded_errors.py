"""Which errors of SQLite end the log for good, and which pass (lanes.md rule 17)."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from millstream.errors import Corruption, DiskFull, LogUnavailable
from millstream.log.embedded.file import explain, is_fatal, is_uncertain


def error(code: int) -> sqlite3.Error:
    raised = sqlite3.OperationalError("words")
    raised.sqlite_errorcode = code
    return raised


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_READ])
def test_a_page_that_may_be_gone_is_never_tried_again(code: int) -> None:
    assert is_fatal(error(code))
    assert not is_uncertain(error(code))


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP])
def test_a_wal_index_without_room_passes_and_its_commit_has_no_known_outcome(code: int) -> None:
    assert is_uncertain(error(code))
    assert not is_fatal(error(code))
    assert type(explain(error(code), Path("log"))) is LogUnavailable


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, DiskFull),
        (sqlite3.SQLITE_CANTOPEN, LogUnavailable),
        (sqlite3.SQLITE_BUSY, LogUnavailable),
        (sqlite3.SQLITE_READONLY, LogUnavailable),
        (sqlite3.SQLITE_CORRUPT, Corruption),
        (sqlite3.SQLITE_NOTADB, Corruption),
    ],
)
def test_the_others_pass_or_are_damage(code: int, kind: type[Exception]) -> None:
    assert not is_fatal(error(code))
    assert not is_uncertain(error(code))
    assert type(explain(error(code), Path("log"))) is kind
