"""What a start compares before it opens a log to write: the file with its mark (``mark.py``).

    examine(directory, losses)   raises AcknowledgedLost, or returns; the file is only read, so that a damaged WAL stays
                                 as it is. An accepted loss keeps what SQLite is about to overwrite in ``lost-<time>/``

The rule kept here: less than the mark says is never taken for an empty log.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from millstream.disk import sync_directory
from millstream.log.embedded import mark
from millstream.log.embedded.file import (
    FILE_NAME,
    UNREADABLE,
    bounds,
    connect,
    explain,
    identity_of,
    last_time,
    places,
    topics,
    unreadable,
)
from millstream.losses import Losses, time_text
from millstream.telemetry import say

LOG: Final = logging.getLogger("millstream.log")
WAL_NAME: Final = f"{FILE_NAME}-wal"
NAMED_MAX: Final = 5
REMEDY: Final = (
    "A damaged or missing log.db-wal or log.db, an older copy of one of them, or a disk that lost writes does this. "
    "Bring the missing file back or restore the whole directory from a copy; `millstream lanes verify` lists every "
    "partition."
)
EXCUSE: Final = "durability os: the machine was started again since, and a power cut may take the last seconds"


class Missing(NamedTuple):
    """Offsets of a partition that were acknowledged and are not there. Times are 0 where nobody knows."""

    topic: str
    partition: int
    first: int
    end: int
    until_ms: int
    since_ms: int

    @property
    def text(self) -> str:
        """One line about it."""
        there = f"the last one there is of {time_text(self.since_ms)}" if self.since_ms else "none is there"
        until = f", acknowledged up to {time_text(self.until_ms)}" if self.until_ms else ""
        return (
            f"topic {self.topic!r} partition {self.partition}: offsets {self.first} to {self.end - 1} "
            f"({self.end - self.first} records{until}; {there})"
        )


def examine(directory: Path, losses: Losses) -> bool:
    """Compare, in a thread; whether a whole mark vouches for the log.

    Raises AcknowledgedLost for an unaccepted loss, Corruption for a damaged file.
    """
    found = mark.read(directory)
    if found is not None and not found.survived:
        losses.excuse = losses.excuse or EXCUSE
    what = _loss(directory, found)
    if what:
        losses.found(what, REMEDY)
        _keep_aside(directory)
    return found is not None and found.readable and not found.damaged and not what


def _loss(directory: Path, found: mark.Found | None) -> str:
    """What is missing, in words; "" for nothing."""
    path = directory / FILE_NAME
    state = _state(path)
    if state:
        if found is None and not _has_bytes(directory / WAL_NAME):
            return ""  # A new log.
        held = missing(found, {}) if found is not None else []
        return f"the log {path} {state}, and what lies beside it says that there was one.{_listed(held)}"
    connection = connect(directory, query_only=True)
    try:
        identity = identity_of(connection)
        if found is None:
            if identity is not None and topics(connection):
                say(LOG, "mark missing", level=logging.WARNING, directory=str(directory), expected=mark.FILE_NAME,
                    meaning="whether records are missing cannot be said; it is made anew")  # fmt: skip
            return ""
        if not found.readable or found.damaged:
            say(LOG, "mark damaged", level=logging.WARNING, directory=str(directory), slots=found.damaged or "all",
                meaning="less can be said about missing records; it is made anew")  # fmt: skip
        if found.readable and identity is not None and identity != found.identity:
            return (
                f"the log {path} is not the one that {directory / mark.FILE_NAME} belongs to: expected log "
                f"{found.identity.hex()}, got {identity.hex()}.{_listed(missing(found, {}))}"
            )
        lost = missing(found, _ends(connection, directory))
    except sqlite3.Error as error:
        raise explain(error, directory) from error
    except UNREADABLE as error:
        raise unreadable(directory, error) from error
    finally:
        connection.close()
    return f"acknowledged records are missing from the log {path}.{_listed(lost)}" if lost else ""


def missing(found: mark.Found, ends: dict[tuple[str, int], tuple[int, int]]) -> list[Missing]:
    """What the mark holds beyond these (end, last time)."""
    lost = []
    for held in found.held:
        end, last_ms = ends.get((held.topic, held.partition), (0, 0))
        if end < held.end:
            lost.append(Missing(held.topic, held.partition, end, held.end, held.at_ms, last_ms))
    return lost


def missing_from(directory: Path) -> list[Missing]:
    """For ``lanes verify``, also beside a server that writes: the mark is read first, the log only grows."""
    found = mark.read(directory)
    if found is None or _state(directory / FILE_NAME):
        return [] if found is None else missing(found, {})
    connection = connect(directory, query_only=True)
    try:
        return missing(found, _ends(connection, directory))
    finally:
        connection.close()


def _ends(connection: sqlite3.Connection, directory: Path) -> dict[tuple[str, int], tuple[int, int]]:
    found = {}
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        return {}  # Not even its tables are there.
    connection.execute("BEGIN")
    try:
        for spec in topics(connection):
            for place in places(connection, directory, spec):
                name = mark.clipped(place.topic).decode(errors="replace")
                found[name, place.number] = bounds(connection, place)[1], last_time(connection, place)
    finally:
        connection.execute("COMMIT")
    return found


def _listed(lost: list[Missing]) -> str:
    if not lost:
        return ""
    shown = "; ".join(one.text for one in lost[:NAMED_MAX])
    more = f"; and of {len(lost) - NAMED_MAX} more partitions" if len(lost) > NAMED_MAX else ""
    return f" Missing: {shown}{more}."


def _state(path: Path) -> str:
    if not path.exists():
        return "is missing"
    return "" if _has_bytes(path) else "is empty"


def _has_bytes(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _keep_aside(directory: Path) -> None:
    """Copy what the next write takes away; a WAL that no log.db belongs to is moved."""
    now = datetime.fromtimestamp(time.time(), UTC)
    aside = directory / f"lost-{now:%Y%m%dT%H%M%S.%fZ}"
    aside.mkdir()
    without_file = bool(_state(directory / FILE_NAME))
    for name in (WAL_NAME, mark.FILE_NAME):
        if (directory / name).exists():
            (shutil.move if without_file else shutil.copy2)(directory / name, aside / name)
    sync_directory(aside)
    sync_directory(directory)
    say(LOG, "files kept aside", level=logging.WARNING, directory=str(aside))
