"""Look at every row of an embedded log: what `millstream lanes verify` does to the file.

The log may be in use meanwhile; rows are read in short snapshots so that nothing is held up. What is found is
reported, never repaired: which copy is right is for a person to say.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from millstream.errors import ConfigError, Corruption
from millstream.log.embedded.evidence import missing_from
from millstream.log.embedded.file import (
    FILE_NAME,
    SPAN,
    UNREADABLE,
    Place,
    bounds,
    checked_batch,
    checked_latest,
    connect,
    places,
    topics,
)
from millstream.log.port import TopicKind

ROWS_PER_SNAPSHOT = 256
FINDINGS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was written. ``offset`` is -1 when the file as a whole is meant."""

    topic: str
    partition: int
    offset: int
    problem: str


def verify(directory: Path | str) -> list[Finding]:
    """Check the file's structure, every checksum, no gap in a stream, and its mark. At most FINDINGS_MAX findings.

    Reads everything: about 1 GB/s from memory, else as fast as the disk. Blocks; call it in a thread.
    """
    path = Path(directory)
    findings: list[Finding] = []
    if not (path / FILE_NAME).exists():
        findings += _missing(path)
        if not findings:
            raise ConfigError(f"there is no log in {path}. Name the data directory with --data.")
        return findings
    try:
        connection = connect(path, query_only=True)
    except sqlite3.Error as error:
        return [Finding("", -1, -1, f"the file cannot be opened: {error}")]
    try:
        for finding in chain(_missing(path), _findings(connection, path)):
            findings.append(finding)
            if len(findings) == FINDINGS_MAX:
                break
    except (sqlite3.Error, *UNREADABLE) as error:
        findings.append(Finding("", -1, -1, f"the file cannot be read any further: {error}"))
    finally:
        connection.close()
    return findings


def _missing(directory: Path) -> Iterator[Finding]:
    for lost in missing_from(directory):
        yield Finding(lost.topic, lost.partition, lost.first, f"acknowledged records are missing: {lost.text}")


def _findings(connection: sqlite3.Connection, directory: Path) -> Iterator[Finding]:
    for spec in topics(connection):
        for place in places(connection, directory, spec):
            stream = place.kind is TopicKind.STREAM
            yield from _stream_findings(connection, place) if stream else _compacted_findings(connection, place)
    for (line,) in connection.execute("PRAGMA quick_check(100)").fetchall():
        if line != "ok":
            yield Finding("", -1, -1, f"structure: {line}")


def _stream_findings(connection: sqlite3.Connection, place: Place) -> Iterator[Finding]:
    expected = -1
    at = place.base
    while True:
        rows = connection.execute(
            "SELECT position, count, at_ms, crc, payload FROM batch WHERE position >= ? AND position < ?"
            " ORDER BY position LIMIT ?",
            (at, place.base + SPAN, ROWS_PER_SNAPSHOT),
        ).fetchall()
        start, end = bounds(connection, place)
        for row in rows:
            first = row[0] - place.base
            if first < expected:
                yield Finding(
                    place.topic, place.number, first, f"expected offset {expected}, got {first}: two batches overlap"
                )
            elif first > max(expected, start):  # Below the start a trim may just be removing rows.
                missing = max(expected, start)
                yield Finding(
                    place.topic, place.number, missing, f"expected offset {missing}, got {first}: records are missing"
                )
            try:
                checked_batch(place, row)
            except Corruption as error:
                yield Finding(place.topic, place.number, first, str(error))
            expected = first + row[1]
        if len(rows) < ROWS_PER_SNAPSHOT:
            if expected == -1 and start != end:
                yield Finding(place.topic, place.number, start, f"expected records {start} to {end}, got none")
            return
        at = rows[-1][0] + 1


def _compacted_findings(connection: sqlite3.Connection, place: Place) -> Iterator[Finding]:
    at = place.base
    while True:
        rows = connection.execute(
            "SELECT position, key, at_ms, crc, payload FROM latest WHERE position >= ? AND position < ?"
            " ORDER BY position LIMIT ?",
            (at, place.base + SPAN, ROWS_PER_SNAPSHOT),
        ).fetchall()
        for row in rows:
            try:
                checked_latest(place, row)
            except Corruption as error:
                yield Finding(place.topic, place.number, row[0] - place.base, str(error))
        if len(rows) < ROWS_PER_SNAPSHOT:
            return
        at = rows[-1][0] + 1
