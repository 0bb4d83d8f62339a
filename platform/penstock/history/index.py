"""The history's index: one SQLite file, one writer, any number of readers in other processes.

    run       a row a run: how it stands, its result or error, and the trail of its first batch
    trail     what happened to a run in later batches, packed (history/trail.py), in order of ``id``
    event     a row an event received; ``id`` only where it is not the internal one
    notice    why an event started nothing, why a command was refused
    function  slugs by number, with their app
    position  how far each topic partition is folded; moves in the same transaction as the rows
    tally     counts since the file was made

``n`` is (milliseconds << 20 | a counter): time order, unique, and the cursor of every listing, so that each index
need only name what is filtered by. The file is a cache of the log in all but age: it is synced when SQLite
checkpoints, a power cut takes back rows together with their positions, and they are folded again.

Retention deletes in bounded chunks and keeps runs that are still open; SQLite uses the freed pages again.
Add a column: raise FORMAT; an index of another format is thrown away and folded afresh.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec

from penstock.errors import DiskFull, LogUnavailable
from penstock.history import trail
from penstock.history.fold import CANCELLED, COMPLETED, FAILED, Changes, EventChange, RunChange

FORMAT: Final = 1
COUNTER_BITS: Final = 20
DELETED_PER_CHUNK_MAX: Final = 2_000
EVENTS_KEPT_LONGER_MS: Final = 30_000
WALK_AGAIN_AFTER_MS: Final = 600_000
FREE_PAGES_KEPT: Final = 2_000
WAL_PAGES_MAX: Final = 4_000
WAL_BYTES_KEPT: Final = 32 << 20

_SCHEMA: Final = """
CREATE TABLE run (
    n INTEGER PRIMARY KEY, run TEXT NOT NULL, function INTEGER NOT NULL, status INTEGER NOT NULL,
    started_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL, event TEXT NOT NULL, event_name TEXT NOT NULL,
    cause TEXT NOT NULL, error BLOB NOT NULL, result BLOB NOT NULL, trail BLOB NOT NULL
);
CREATE UNIQUE INDEX run_by_id ON run (run);
CREATE INDEX run_by_status ON run (status);
CREATE INDEX run_by_function ON run (function, status);
CREATE INDEX run_by_event ON run (event);
CREATE TABLE run_event (event TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (event, n)) WITHOUT ROWID;
CREATE TABLE trail (id INTEGER PRIMARY KEY, run TEXT NOT NULL, entries BLOB NOT NULL);
CREATE INDEX trail_by_run ON trail (run);
CREATE TABLE event (
    n INTEGER PRIMARY KEY, internal_id TEXT NOT NULL, id TEXT, name TEXT NOT NULL, ts_ms INTEGER NOT NULL,
    received_ms INTEGER NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL,
    key TEXT NOT NULL, v TEXT NOT NULL, user BLOB NOT NULL, meta BLOB NOT NULL, data BLOB NOT NULL
);
CREATE INDEX event_by_internal_id ON event (internal_id);
CREATE INDEX event_by_id ON event (id) WHERE id IS NOT NULL;
CREATE INDEX event_by_name ON event (name);
CREATE TABLE notice (
    n INTEGER PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, function TEXT NOT NULL, reason TEXT NOT NULL
);
CREATE INDEX notice_by_subject ON notice (subject);
CREATE TABLE function (
    id INTEGER PRIMARY KEY, slug TEXT NOT NULL UNIQUE, app TEXT NOT NULL DEFAULT '', name TEXT NOT NULL DEFAULT ''
);
CREATE TABLE position (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL,
    owner BLOB NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE tally (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


class Folded(msgspec.Struct, frozen=True, gc=False):
    """How far a topic partition is folded: the next offset, and for a journal whose records count (Validity)."""

    topic: str
    partition: int
    position: int
    owner: bytes = b""
    seq: int = -1


class Index:
    """The writer of an index file. One per file; not for several threads at once.

    Raises DiskFull or LogUnavailable from ``apply`` and ``forget``; then nothing of the call is stored.
    """

    def __init__(self, path: Path) -> None:
        self._db = _open(path)
        self._functions: dict[str, int] = dict(self._db.execute("SELECT slug, id FROM function"))
        row = self._db.execute("SELECT value FROM tally WHERE name = 'counter'").fetchone()
        self._counter: int = row[0] if row else 0
        self._event_cursor = 0
        self._walk_again_ms = 0
        with self._transaction():  # Trails whose run was never seen: its start had been trimmed.
            self._db.execute("DELETE FROM trail WHERE NOT EXISTS (SELECT 1 FROM run WHERE run.run = trail.run)")

    def positions(self) -> list[Folded]:
        """How far every topic partition is folded."""
        rows = self._db.execute("SELECT topic, partition, position, owner, seq FROM position")
        return [Folded(*row) for row in rows]

    def apply(self, changes: Changes, positions: Sequence[Folded]) -> None:
        """Store a batch and its positions, together."""
        counter, functions = self._counter, dict(self._functions)
        try:
            with self._transaction():
                self._store_apps(changes)
                self._store_runs(list(changes.runs.values()))
                self._store_events(changes.events)
                self._store_rest(changes, positions)
        except BaseException:
            self._counter, self._functions = counter, functions
            raise

    def forget(self, before_ms: int) -> int:
        """Delete a chunk of what is older than ``before_ms``; how many rows went. Call until it answers 0."""
        before = before_ms << COUNTER_BITS
        with self._transaction():
            gone = self._forget_runs(before, before_ms) + self._forget_events(before_ms - EVENTS_KEPT_LONGER_MS)
            gone += self._db.execute(
                "DELETE FROM notice WHERE n IN (SELECT n FROM notice WHERE n < ? LIMIT ?)",
                (before, DELETED_PER_CHUNK_MAX),
            ).rowcount
        if self._db.execute("PRAGMA freelist_count").fetchone()[0] > FREE_PAGES_KEPT:
            self._db.execute(f"PRAGMA incremental_vacuum({DELETED_PER_CHUNK_MAX})").fetchall()
        return gone

    def clear(self) -> None:
        """Forget everything: the log behind it is another one."""
        with self._transaction():
            for table in ("run", "run_event", "trail", "event", "notice", "position", "tally"):
                self._db.execute(f"DELETE FROM {table}")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            kind = DiskFull if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL else LogUnavailable
            raise kind(f"the history index was not written: {error}. Nothing is lost; it is folded again.") from error
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _number(self, at_ms: int) -> int:
        self._counter += 1
        return at_ms << COUNTER_BITS | self._counter & ((1 << COUNTER_BITS) - 1)

    def _store_apps(self, changes: Changes) -> None:
        named = [(fn.slug, app.id, fn.name) for app in changes.apps.values() for fn in app.functions]
        self._db.executemany(
            "INSERT INTO function (slug, app, name) VALUES (?, ?, ?)"
            " ON CONFLICT (slug) DO UPDATE SET app = excluded.app, name = excluded.name",
            named,
        )
        new = {slug for slug, _, _ in named}.union(c.function for c in changes.runs.values() if c.new)
        for slug in sorted(new - self._functions.keys()):
            self._db.execute("INSERT INTO function (slug) VALUES (?) ON CONFLICT DO NOTHING", (slug,))
            row = self._db.execute("SELECT id FROM function WHERE slug = ?", (slug,)).fetchone()
            self._functions[slug] = row[0]

    def _store_runs(self, runs: list[RunChange]) -> None:
        rows, further, known, trails = [], [], [], []
        for c in runs:
            if c.new:
                n = self._number(c.queued_ms)
                packed = trail.pack(c.entries) if c.entries else b""
                first = c.events[0] if c.events else ""
                row = (n, c.run, self._functions[c.function], c.status, c.started_ms, c.ended_ms, first)
                rows.append((*row, c.event_name, c.cause, c.error, c.result, packed))
                if len(c.events) > 1:
                    further += [(event, n) for event in c.events[1:]]
                continue
            if c.status >= 0:
                known.append((c.status, c.started_ms, c.ended_ms, c.error, c.result, c.run))
            if c.entries:
                trails.append((c.run, trail.pack(c.entries)))
        # A run may be there already when a journal is folded again from further back: the first fold stands.
        self._db.executemany("INSERT OR IGNORE INTO run VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", rows)
        self._db.executemany("INSERT OR IGNORE INTO run_event VALUES (?,?)", further)
        self._db.executemany(
            "UPDATE run SET status = ?, started_ms = max(started_ms, ?), ended_ms = ?, error = ?, result = ?"
            " WHERE run = ?",
            known,
        )
        self._db.executemany("INSERT INTO trail (run, entries) VALUES (?,?)", trails)

    def _store_events(self, events: list[EventChange]) -> None:
        rows = []
        for c in events:
            e = c.event
            given = e.id if e.id != e.internal_id else None
            place = (self._number(e.received_at_ms), e.internal_id, given, e.name, e.ts_ms, e.received_at_ms)
            rows.append((*place, c.topic, c.partition, c.offset, e.key, e.v, e.user, e.meta, e.data))
        self._db.executemany("INSERT INTO event VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)

    def _store_rest(self, changes: Changes, positions: Sequence[Folded]) -> None:
        notices = [(self._number(x.at_ms), x.kind, x.subject, x.function, x.reason) for x in changes.notices]
        self._db.executemany("INSERT INTO notice VALUES (?,?,?,?,?)", notices)
        tally = {
            "started": sum(1 for c in changes.runs.values() if c.new),
            "completed": changes.ended[COMPLETED],
            "failed": changes.ended[FAILED],
            "cancelled": changes.ended[CANCELLED],
            "events": len(changes.events),
        }
        self._db.executemany(
            "INSERT INTO tally VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            [item for item in tally.items() if item[1]],
        )
        self._db.execute("INSERT OR REPLACE INTO tally VALUES ('counter', ?)", (self._counter,))
        self._db.executemany(
            "INSERT OR REPLACE INTO position VALUES (?,?,?,?,?)",
            [(p.topic, p.partition, p.position, p.owner, p.seq) for p in positions],
        )

    def _forget_runs(self, before: int, before_ms: int) -> int:
        over = self._db.execute(
            "SELECT n, run FROM run WHERE status IN (?, ?, ?) AND n < ? AND ended_ms < ? LIMIT ?",
            (COMPLETED, FAILED, CANCELLED, before, before_ms, DELETED_PER_CHUNK_MAX),
        ).fetchall()
        self._db.executemany("DELETE FROM run WHERE n = ?", [(n,) for n, _ in over])
        self._db.executemany("DELETE FROM trail WHERE run = ?", [(run,) for _, run in over])
        return len(over)

    def _forget_events(self, before_ms: int) -> int:
        """One chunk of a walk over the old events. Those of runs still listed stay, for the walk ten minutes later.

        They are left alone a little longer than runs, so that nearly every one goes at its first visit.
        """
        if before_ms >= self._walk_again_ms:
            self._event_cursor, self._walk_again_ms = 0, before_ms + WALK_AGAIN_AFTER_MS
        old = self._db.execute(
            "SELECT n, internal_id FROM event WHERE n > ? AND n < ? ORDER BY n LIMIT ?",
            (self._event_cursor, max(before_ms, 0) << COUNTER_BITS, DELETED_PER_CHUNK_MAX),
        ).fetchall()
        if old:
            self._event_cursor = old[-1][0]
        gone = 0
        for n, event in old:
            gone += self._db.execute(
                "DELETE FROM event WHERE n = ? AND NOT EXISTS (SELECT 1 FROM run WHERE event = ?)"
                " AND NOT EXISTS (SELECT 1 FROM run_event JOIN run USING (n) WHERE run_event.event = ?)",
                (n, event, event),
            ).rowcount
        self._db.executemany(
            "DELETE FROM run_event WHERE event = ? AND NOT EXISTS (SELECT 1 FROM run WHERE run.n = run_event.n)",
            [(event,) for _, event in old],
        )
        # A full chunk of events that all stay is progress too: there may be more behind it.
        return max(gone, 1) if len(old) == DELETED_PER_CHUNK_MAX else gone


def prepare(path: Path) -> None:
    """Make the file if need be, so that readers can open it before the writer runs."""
    _open(path).close()


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        found = db.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError:
        found = -1  # Damaged: it is only a cache.
    if found not in (0, FORMAT):
        db.close()
        for file in chain([path], (path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            file.unlink(missing_ok=True)
        return _open(path)
    if found == 0:
        db.execute("PRAGMA page_size = 8192")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX}")
    db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
    db.execute("PRAGMA secure_delete = OFF")
    db.execute("PRAGMA cache_size = -16384")
    if found == 0:
        with contextlib.suppress(sqlite3.OperationalError):  # Another process was faster.
            db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {FORMAT};COMMIT;")
        if db.in_transaction:
            db.execute("ROLLBACK")
    return db
