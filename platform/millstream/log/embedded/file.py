"""The embedded log's file: its schema, its connections, its lock, and the reads that need nothing else.

One SQLite database in WAL mode, ``<directory>/log.db``. A partition has a small number; its offset *o* has
the **position** ``number << 44 | o``, the primary key of both tables of records, so that an append touches the
end of one B-tree and a reader scans it in order.

    batch    streams: one row per append, named by its first offset
    latest   compacted topics: one row per record still kept. It is a log too: a transaction's rows lie behind the
             partition's ``end_offset``, invisible, until that number moves; superseded rows are swept afterwards,
             ``swept_to`` says how far, so that a crash in between only leaves some of that work for the next start

    identity one row, made with the file: 16 random bytes by which the mark beside it, the group's note and the lanes'
             stores know that it is this log and no other

A stream's end is the end of its last row, or ``end_offset`` if trimming left none. The rule kept here: a read
sees one snapshot, checks every checksum, and names the place when one is wrong.
"""

from __future__ import annotations

import secrets
import sqlite3
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from millstream.disk import sync_directory
from millstream.errors import (
    ConfigError,
    Corruption,
    DiskFull,
    LogUnavailable,
    OffsetOutOfRange,
    OperatorError,
)
from millstream.log.embedded.packing import checksum, unpack
from millstream.log.port import Record, TopicKind, TopicSpec

OFFSET_BITS = 44
SPAN = 1 << OFFSET_BITS
PARTITIONS_MAX = 1 << 18
FORMAT = 1
BUSY_TIMEOUT_MS = 5_000
CHECKED_AT_OPEN_BATCHES = 4
FILE_NAME = "log.db"
IDENTITY_BYTES = 16

_SCHEMA = """
CREATE TABLE topic (
    name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, kind TEXT NOT NULL, retention_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE topic_partition (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, number INTEGER NOT NULL,
    start_offset INTEGER NOT NULL DEFAULT 0, end_offset INTEGER NOT NULL DEFAULT 0, swept_to INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, number)
);
CREATE TABLE batch (
    position INTEGER PRIMARY KEY, count INTEGER NOT NULL, at_ms INTEGER NOT NULL, crc INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE latest (
    position INTEGER PRIMARY KEY, partition_id INTEGER NOT NULL, key BLOB NOT NULL, at_ms INTEGER NOT NULL,
    crc INTEGER NOT NULL, payload BLOB
);
CREATE INDEX latest_by_key ON latest (partition_id, key);
CREATE INDEX latest_tombstones ON latest (at_ms) WHERE payload IS NULL;
CREATE TABLE inbox_position (
    member_group TEXT NOT NULL, lane INTEGER NOT NULL, next_offset INTEGER NOT NULL, PRIMARY KEY (member_group, lane)
) WITHOUT ROWID;
"""
_IDENTITY = "CREATE TABLE IF NOT EXISTS identity (id BLOB NOT NULL);"  # Files of before 0.9 get it at their next start.


@dataclass(frozen=True, slots=True)
class Place:
    """A partition as the file knows it."""

    directory: Path
    id: int
    topic: str
    number: int
    kind: TopicKind

    @property
    def base(self) -> int:
        """The position of offset 0."""
        return self.id << OFFSET_BITS

    def corrupt(self, offset: int, found: str) -> Corruption:
        """The error that names the place."""
        return Corruption(
            f"corrupt record in {self.directory / FILE_NAME}: topic {self.topic!r} partition {self.number} "
            f"offset {offset}: {found}. Nothing was changed. Run `millstream lanes verify` to see how far the damage "
            "goes, and restore the directory from a copy."
        )

    def out_of_range(self, position: int, start: int, end: int) -> OffsetOutOfRange:
        """The error of a reader that has fallen off."""
        return OffsetOutOfRange(
            f"topic {self.topic!r} partition {self.number}: offset {position} was asked for, but the log holds "
            f"{start} to {end}. Begin again from the compacted topics, or at offset {start}.",
            start=start,
            end=end,
        )


@dataclass(frozen=True, slots=True)
class Window:
    """What a reader asks for. ``end`` is the offset it may not pass (what was acknowledged so far)."""

    position: int
    end: int
    max_records: int
    max_bytes: int


def connect(directory: Path, *, durability: str = "fsync", query_only: bool = False) -> sqlite3.Connection:
    """One more connection to the file. Usable from any thread, by one at a time.

    With ``query_only`` the file is opened for reading: the last connection that may write takes the WAL away when it
    closes, and a damaged one with it.
    """
    where = f"{(directory / FILE_NAME).absolute().as_uri()}?mode={'ro' if query_only else 'rwc'}"
    connection = sqlite3.connect(
        where, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000
    )
    if query_only:
        return connection
    connection.execute("PRAGMA page_size = 4096")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # Takes hold only before the first table is made.
    connection.execute("PRAGMA journal_mode = WAL")
    # NORMAL syncs nothing at a commit: what was written survives the process, not the power.
    connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'fsync' else 'NORMAL'}")
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # The writer thread decides when.
    connection.execute("PRAGMA secure_delete = OFF")  # Some distributions wipe deleted pages: twice the writing.
    connection.execute("PRAGMA cache_size = -16384")
    return connection


def prepare(connection: sqlite3.Connection, directory: Path) -> bytes:
    """Make the tables of a new file; refuse one written by a newer version. The log's identity."""
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > FORMAT:
        raise ConfigError(
            f"{directory / FILE_NAME} has format {found}, this version reads up to {FORMAT}. "
            "Use the newer version, or another data directory."
        )
    identity = identity_of(connection)
    if identity is None:
        identity = secrets.token_bytes(IDENTITY_BYTES)
        schema = "" if found == FORMAT else f"{_SCHEMA}PRAGMA user_version = {FORMAT};"
        made = f"INSERT INTO identity SELECT x'{identity.hex()}' WHERE NOT EXISTS (SELECT 1 FROM identity);"
        connection.executescript(f"BEGIN;{schema}{_IDENTITY}{made}COMMIT;")
        sync_directory(directory)  # The new files' names must survive a power cut too.
    return identity


def identity_of(connection: sqlite3.Connection) -> bytes | None:
    """The log's identity; None where the file has none yet."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'identity'").fetchone() is None:
        return None
    row = connection.execute("SELECT id FROM identity").fetchone()
    return None if row is None else bytes(row[0])


def explain(error: sqlite3.Error, directory: Path) -> OperatorError:
    """What an SQLite error means for the operator. DiskFull and LogUnavailable may pass; the others stay."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    path = directory / FILE_NAME
    if code == sqlite3.SQLITE_FULL:
        return DiskFull(
            f"no room on the disk of {path}: nothing was written ({error}). Free some space; it goes on then."
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Corruption(
            f"{path} is damaged: {error}. Run `millstream lanes verify` to see where, and restore the directory "
            "from a copy."
        )
    return LogUnavailable(f"the log in {path} cannot be used now: {error}. Nothing was written; try again.")


UNREADABLE = (UnicodeDecodeError, TypeError, ValueError, struct.error)
"""How names that are no text, and numbers that are none, show themselves."""


def unreadable(directory: Path, error: Exception) -> Corruption:
    """Something in the file is not of its kind any more."""
    return Corruption(
        f"{directory / FILE_NAME} is damaged: it holds something else than was written ({error}). Run "
        "`millstream lanes verify` to see where, and restore the directory from a copy."
    )


def is_fatal(error: sqlite3.Error) -> bool:
    """True for failed reads, writes and syncs of the disk (lanes.md rule 17): the page may be gone, never retry."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_IOERR and code not in _NO_PAGE


def is_uncertain(error: sqlite3.Error) -> bool:
    """True where a commit may be in the WAL although it failed: the index of the WAL could not be kept behind it."""
    return getattr(error, "sqlite_errorcode", 0) in _NO_PAGE


_NO_PAGE = frozenset(
    (
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMMAP,
        sqlite3.SQLITE_IOERR_SHMLOCK,
        sqlite3.SQLITE_IOERR_NOMEM,
    )
)
"""SQLite calls them errors of the disk; they are of no page of it, but of memory, and of the WAL's index beside it,
which has no room or no descriptor. They pass."""


def topics(connection: sqlite3.Connection) -> list[TopicSpec]:
    """All topics of the file."""
    rows = connection.execute("SELECT name, partitions, kind, retention_ms FROM topic ORDER BY name")
    return [TopicSpec(name, partitions, TopicKind(kind), retention_ms) for name, partitions, kind, retention_ms in rows]


def places(connection: sqlite3.Connection, directory: Path, spec: TopicSpec) -> list[Place]:
    """The partitions of a topic, by number."""
    rows = connection.execute("SELECT id, number FROM topic_partition WHERE topic = ? ORDER BY number", (spec.name,))
    return [Place(directory, number_in_file, spec.name, number, spec.kind) for number_in_file, number in rows]


def bounds(connection: sqlite3.Connection, place: Place) -> tuple[int, int]:
    """(start, end) of a partition as the connection sees it."""
    start, end = connection.execute(
        "SELECT start_offset, end_offset FROM topic_partition WHERE id = ?", (place.id,)
    ).fetchone()
    if place.kind is TopicKind.STREAM:
        last = connection.execute(
            "SELECT position, count FROM batch WHERE position >= ? AND position < ? ORDER BY position DESC LIMIT 1",
            (place.base, place.base + SPAN),
        ).fetchone()
        if last is not None:
            end = max(end, last[0] - place.base + last[1])
    return start, end


def read(connection: sqlite3.Connection, place: Place, window: Window) -> tuple[list[Record], int]:
    """The records of a window and the position behind them, from one snapshot.

    Raises OffsetOutOfRange when the window's beginning is gone, Corruption when a row is damaged or missing.
    """
    connection.execute("BEGIN")
    try:
        start, end = bounds(connection, place)
        if window.position < start:
            raise place.out_of_range(window.position, start, end)
        if place.kind is TopicKind.COMPACTED:
            return _read_latest(connection, place, window)
        return _read_batches(connection, place, window)
    finally:
        connection.execute("COMMIT")


def _read_batches(connection: sqlite3.Connection, place: Place, window: Window) -> tuple[list[Record], int]:
    base, position = place.base, window.position
    first = connection.execute(
        "SELECT max(position) FROM batch WHERE position >= ? AND position <= ?", (base, base + position)
    ).fetchone()[0]
    rows = connection.execute(
        "SELECT position, count, at_ms, crc, payload FROM batch WHERE position >= ? AND position < ? ORDER BY position",
        (base + position if first is None else first, base + window.end),
    )
    records: list[Record] = []
    size = 0
    for row_position, count, at_ms, crc, payload in rows:
        offset = row_position - base
        batch = checked_batch(place, (row_position, count, at_ms, crc, payload))
        if offset > position or offset + count <= position:
            raise place.corrupt(
                position, f"expected offset {position}, got a batch of offsets {offset} to {offset + count - 1}"
            )
        for record in batch[position - offset :]:
            records.append(record)
            size += len(record.value or b"")
            if len(records) >= window.max_records or size >= window.max_bytes:
                return records, record.offset + 1
        position = offset + count
    if not records and position < window.end:
        raise place.corrupt(position, f"expected a record, got none although the end is {window.end}")
    return records, position


def checked_batch(place: Place, row: tuple[int, int, int, int, bytes]) -> list[Record]:
    """The records of a row of ``batch``, or Corruption."""
    position, count, at_ms, crc, payload = row
    offset = position - place.base
    _compare(place, offset, crc, lambda: checksum(position, count, at_ms, payload))
    records = unpack(payload, offset, at_ms)
    if len(records) != count:
        raise place.corrupt(offset, f"expected {count} records, got {len(records)}")
    return records


def _compare(place: Place, offset: int, crc: object, compute: Callable[[], int]) -> None:
    """Raise Corruption where a row's checksum is not that of its columns, of which any may be damaged."""
    try:
        got = compute()
    except (TypeError, struct.error) as error:
        raise place.corrupt(offset, f"expected numbers and bytes, got something else ({error})") from error
    if got != crc:
        expected = f"{crc:08x}" if isinstance(crc, int) else "a number"
        raise place.corrupt(offset, f"expected checksum {expected}, got {got:08x}")


def _read_latest(connection: sqlite3.Connection, place: Place, window: Window) -> tuple[list[Record], int]:
    rows = connection.execute(
        "SELECT position, key, at_ms, crc, payload FROM latest WHERE position >= ? AND position < ? ORDER BY position",
        (place.base + window.position, place.base + window.end),
    )
    records: list[Record] = []
    size = 0
    for row in rows:
        record = checked_latest(place, row)
        records.append(record)
        size += len(record.value or b"")
        if len(records) >= window.max_records or size >= window.max_bytes:
            return records, record.offset + 1
    return records, window.end  # Nothing more below the end but holes.


def checked_latest(place: Place, row: tuple[int, bytes, int, int, bytes | None]) -> Record:
    """The record of a row of ``latest``, or Corruption."""
    position, key, at_ms, crc, payload = row
    offset = position - place.base
    _compare(place, offset, crc, lambda: latest_checksum(position, key, at_ms, payload))
    if payload is None:
        return Record(offset, at_ms, None, key)
    inner = unpack(payload, offset, at_ms)[0]
    return Record(offset, at_ms, inner.value, key, inner.headers)


def latest_checksum(position: int, key: bytes, at_ms: int, payload: bytes | None) -> int:
    """The checksum of a row of ``latest``: a tombstone and an empty value differ."""
    return checksum(position, -1 if payload is None else len(payload), at_ms, key + (payload or b""))


def offset_at(connection: sqlite3.Connection, place: Place, at_ms: int) -> int:
    """The first offset appended at ``at_ms`` or later. Append times never fall, so halving finds it."""
    start, end = bounds(connection, place)
    low, high = start, end
    while low < high:
        middle = (low + high) // 2
        found = _time_near(connection, place, middle)
        if found is None:
            high = middle  # Only holes from here on.
        elif found[1] >= at_ms:
            high = max(start, min(middle, found[0]))
        else:
            low = found[2]
    return min(low, end)


def _time_near(connection: sqlite3.Connection, place: Place, offset: int) -> tuple[int, int, int] | None:
    """(first offset, time, offset behind it) of the row that holds ``offset``, or of the next one, if any."""
    base = place.base
    if place.kind is TopicKind.COMPACTED:
        row = connection.execute(
            "SELECT position, at_ms FROM latest WHERE position >= ? AND position < ? ORDER BY position LIMIT 1",
            (base + offset, base + SPAN),
        ).fetchone()
        return None if row is None else (row[0] - base, row[1], row[0] - base + 1)
    row = connection.execute(
        "SELECT position, at_ms, count FROM batch WHERE position >= ? AND position <= ? ORDER BY position DESC LIMIT 1",
        (base, base + offset),
    ).fetchone()
    return None if row is None else (row[0] - base, row[1], row[0] - base + row[2])


def last_time(connection: sqlite3.Connection, place: Place) -> int:
    """The append time of the partition's last row, 0 if there is none. New appends are never earlier."""
    table = "latest" if place.kind is TopicKind.COMPACTED else "batch"
    row = connection.execute(
        f"SELECT at_ms FROM {table} WHERE position >= ? AND position < ? ORDER BY position DESC LIMIT 1",
        (place.base, place.base + SPAN),
    ).fetchone()
    return 0 if row is None else int(row[0])


def check_tail(connection: sqlite3.Connection, place: Place) -> None:
    """Check the last batches of a stream: what a crash or a failing disk hits first. Raises Corruption."""
    if place.kind is TopicKind.COMPACTED:
        return
    rows = connection.execute(
        "SELECT position, count, at_ms, crc, payload FROM batch WHERE position >= ? AND position < ?"
        " ORDER BY position DESC LIMIT ?",
        (place.base, place.base + SPAN, CHECKED_AT_OPEN_BATCHES),
    )
    for row in rows:
        checked_batch(place, row)
