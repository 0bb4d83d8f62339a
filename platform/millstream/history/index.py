"""The history's index: one SQLite file, one writer, any number of readers in other processes.

    run       a row a run: how it stands, its result or error, and the trail of its first batch
    trail     what happened to a run in later batches, packed (history/trail.py), in order of ``id``
    recalled  what the last checkpoint that was merged knows of a run's steps, packed too
    event     a row an event received; ``id`` only where it is not the internal one; run_event: those behind a first
    announced the ends of runs that show as events, though no lane wrote one: the event is made when it is asked for
    scan      a row a partition of a scan (history/scans.py); cancellation: a row a lane (history/cancellations.py)
    standing  who stands at a gate (history/queues.py)
    notice    why an event started nothing, why a command was refused
    function  slugs by number, with their app
    position  how far each topic partition is folded; moves in the same transaction as the rows
    doubted   open runs that a checkpoint does not know: gone once the journal up to it has not ended them either
    tally     counts since the file was made

``n`` is (milliseconds << 20 | a counter): time order, unique, and the cursor of every listing, so that each index
need only name what is filtered by. The file is a cache of the log in all but age: it is synced when SQLite
checkpoints, a power cut takes back rows together with their positions, and they are folded again.

Every error of the file is explained in ``damage.py``: it passes, or the index is damaged and made anew.

Retention deletes in bounded chunks and keeps runs that are still open; SQLite uses the freed pages again.
Add a column: raise FORMAT; an index of another format is thrown away and folded afresh.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

from millstream.errors import LogUnavailable
from millstream.files import private_database, private_directory
from millstream.history import cancellations, queues, scans, trail
from millstream.history.damage import HistoryDamaged, condemn, explain, is_condemned
from millstream.history.fold import (
    ANNOUNCEMENTS,
    CANCELLED,
    COMPLETED,
    FAILED,
    QUEUED,
    RUNNING,
    Changes,
    EventChange,
    RunChange,
)
from millstream.model.announcement import handled_function
from millstream.model.event import FUNCTION_FAILED

_log = logging.getLogger(__name__)

FORMAT: Final = 9
COUNTER_BITS: Final = 20
DELETED_PER_CHUNK_MAX: Final = 2_000
OPEN_RUNS_PER_PAGE: Final = 10_000
EVENTS_KEPT_LONGER_MS: Final = 30_000
WALK_AGAIN_AFTER_MS: Final = 600_000
FREE_PAGES_KEPT: Final = 2_000
WAL_PAGES_MAX: Final = 4_000
WAL_BYTES_KEPT: Final = 32 << 20

_SCHEMA: Final = """
CREATE TABLE run (
    n INTEGER PRIMARY KEY, run TEXT NOT NULL, function INTEGER NOT NULL, status INTEGER NOT NULL,
    started_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL, event TEXT NOT NULL, event_name TEXT NOT NULL,
    cause TEXT NOT NULL, error BLOB NOT NULL, result BLOB NOT NULL, trail BLOB NOT NULL,
    no_retry INTEGER NOT NULL
);
CREATE UNIQUE INDEX run_by_id ON run (run);
CREATE INDEX run_by_status ON run (status);
CREATE INDEX run_by_function ON run (function, status);
CREATE INDEX run_by_event ON run (event);
CREATE TABLE run_event (event TEXT NOT NULL, n INTEGER NOT NULL, place INTEGER NOT NULL, PRIMARY KEY (event, n))
WITHOUT ROWID;
CREATE INDEX run_event_by_run ON run_event (n, place);
CREATE TABLE trail (id INTEGER PRIMARY KEY, run TEXT NOT NULL, entries BLOB NOT NULL);
CREATE INDEX trail_by_run ON trail (run);
CREATE TABLE recalled (run TEXT PRIMARY KEY, entries BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE event (
    n INTEGER PRIMARY KEY, internal_id TEXT NOT NULL, id TEXT, name TEXT NOT NULL, ts_ms INTEGER NOT NULL,
    received_ms INTEGER NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL,
    key TEXT NOT NULL, v TEXT NOT NULL, user BLOB NOT NULL, meta BLOB NOT NULL, data BLOB NOT NULL
);
CREATE INDEX event_by_internal_id ON event (internal_id);
CREATE INDEX event_by_id ON event (id) WHERE id IS NOT NULL;
CREATE INDEX event_by_name ON event (name);
CREATE TABLE announced (n INTEGER PRIMARY KEY, run TEXT NOT NULL, kind INTEGER NOT NULL);
CREATE INDEX announced_rare ON announced (kind) WHERE kind > 0;
CREATE TABLE doubted (run TEXT PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL, upto INTEGER NOT NULL)
WITHOUT ROWID;
CREATE TABLE notice (
    n INTEGER PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, function TEXT NOT NULL, reason TEXT NOT NULL
);
CREATE INDEX notice_by_subject ON notice (subject);
CREATE TABLE function (
    id INTEGER PRIMARY KEY, slug TEXT NOT NULL UNIQUE, app TEXT NOT NULL DEFAULT '', name TEXT NOT NULL DEFAULT ''
);
CREATE TABLE position (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL,
    owner BLOB NOT NULL, seq INTEGER NOT NULL, crc INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE tally (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


_STORE_RUN: Final = (
    "INSERT INTO run VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
    # Known from a checkpoint already; what that knows of its steps lies in ``recalled``.
    " ON CONFLICT (run) DO UPDATE SET status = excluded.status, started_ms = excluded.started_ms,"
    " ended_ms = excluded.ended_ms, error = excluded.error, result = excluded.result, trail = excluded.trail,"
    " no_retry = excluded.no_retry"
)
_MERGE_RUN: Final = (
    "INSERT INTO run VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
    f" ON CONFLICT (run) DO UPDATE SET status = excluded.status WHERE run.status < {COMPLETED}"
)
_STORE_FURTHER: Final = "INSERT OR IGNORE INTO run_event SELECT ?, n, ? FROM run WHERE run = ?"
_AS_FAILED: Final = ANNOUNCEMENTS.index(FUNCTION_FAILED)


class Folded(msgspec.Struct, frozen=True, gc=False):
    """How far a topic partition is folded: the next offset, and for a journal whose records count (Validity)."""

    topic: str
    partition: int
    position: int
    owner: bytes = b""
    seq: int = -1


class Index:
    """The writer of an index file. One per file; not for several threads at once.

    Raises DiskFull or LogUnavailable where the file cannot be used now, HistoryDamaged where it is not what was
    written; then nothing of the call is stored.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = _open(path)
        self._event_cursor = 0
        self._walk_again_ms = 0
        try:
            with self._transaction():
                self._functions: dict[str, int] = dict(self._db.execute("SELECT slug, id FROM function"))
                row = self._db.execute("SELECT value FROM tally WHERE name = 'counter'").fetchone()
                self._counter: int = row[0] if row else 0
                # Trails whose run was never seen: its start had been trimmed.
                self._db.execute("DELETE FROM trail WHERE NOT EXISTS (SELECT 1 FROM run WHERE run.run = trail.run)")
        except BaseException:
            self.close()
            raise

    def positions(self) -> list[Folded]:
        """How far every topic partition is folded."""
        try:
            rows = self._db.execute("SELECT topic, partition, position, owner, seq, crc FROM position").fetchall()
        except sqlite3.Error as error:
            raise explain(error, self._path) from error
        for *at, crc in rows:
            if _crc(at) != crc:  # Where another place would show too little, or all of it twice, without a word.
                raise explain(ValueError(f"position {at[:3]} has checksum {_crc(at)}, not {crc}"), self._path)
        return [Folded(*at) for *at, _ in rows]

    def apply(self, changes: Changes, positions: Sequence[Folded]) -> None:
        """Store a batch and its positions, together."""
        counter, functions = self._counter, dict(self._functions)
        try:
            with self._transaction():
                self._store_apps(changes)
                self._store_runs(list(changes.runs.values()))
                self._store_events(changes.events)
                self._store_announced(changes)
                self._store_rest(changes, positions)
        except BaseException:
            self._counter, self._functions = counter, functions
            raise

    def merge(self, changes: Changes) -> None:
        """Store what a checkpoint knows of open runs, beside what is known of them already."""
        with self._transaction():
            self._store_apps(changes)
            runs = list(changes.runs.values())
            rows = [
                (
                    *(self._number(c.queued_ms), c.run, self._functions[c.function], c.status, c.started_ms, 0),
                    *(c.events[0] if c.events else "", c.event_name, c.cause, b"", b"", b"", 0),
                )
                for c in runs
            ]
            self._db.executemany(_MERGE_RUN, rows)
            self._db.executemany(_STORE_FURTHER, [row for c in runs for row in c.further_events()])
            trails = [(c.run, trail.pack(c.entries)) for c in runs if c.entries]
            self._db.executemany("INSERT OR REPLACE INTO recalled VALUES (?,?)", trails)
            self._store_events([c for c in changes.events if not self._has_event(c.event.internal_id)])
            changes.queues.store(self._db)
            self._db.execute("INSERT OR REPLACE INTO tally VALUES ('counter', ?)", (self._counter,))

    def _has_event(self, internal_id: str) -> bool:
        found = self._db.execute("SELECT 1 FROM event WHERE internal_id = ? LIMIT 1", (internal_id,)).fetchone()
        return found is not None

    def open_runs(self) -> Iterator[str]:
        """Every run that has not ended, as far as the index knows."""
        for status in (QUEUED, RUNNING):
            at = 0
            while page := self._page_of_runs(status, at):
                yield from (run for _, run in page)
                at = page[-1][0]

    def _page_of_runs(self, status: int, at: int) -> list[tuple[int, str]]:
        question = "SELECT n, run FROM run WHERE status = ? AND n > ? ORDER BY n LIMIT ?"
        try:
            return self._db.execute(question, (status, at, OPEN_RUNS_PER_PAGE)).fetchall()
        except sqlite3.Error as error:
            raise explain(error, self._path) from error

    def go_on_from(self, at: Folded, doubted: Sequence[str], *, upto: int) -> None:
        """Go on from another place of a journal. ``doubted`` are open runs that go once it is folded past ``upto``."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO doubted VALUES (?,?,?,?)",
                [(run, at.topic, at.partition, upto) for run in doubted],
            )
            self._store_positions([at])

    def forget(self, before_ms: int) -> int:
        """Delete a chunk of what is older than ``before_ms``; how many rows went. Call until it answers 0.

        Raises HistoryDamaged where a reader has found damage, too.
        """
        if is_condemned(self._path):
            raise HistoryDamaged(f"the history index {self._path} was condemned by who read it; it is made anew")
        before = before_ms << COUNTER_BITS
        with self._transaction():
            gone = self._forget_runs(before, before_ms) + self._forget_events(before_ms - EVENTS_KEPT_LONGER_MS)
            gone += self._forget_doubted() + scans.forget(self._db, before_ms, DELETED_PER_CHUNK_MAX)
            gone += cancellations.forget(self._db, before_ms, DELETED_PER_CHUNK_MAX)
            for table in ("notice", "announced"):
                gone += self._db.execute(
                    f"DELETE FROM {table} WHERE n IN (SELECT n FROM {table} WHERE n < ? LIMIT ?)",
                    (before, DELETED_PER_CHUNK_MAX),
                ).rowcount
        try:
            if self._db.execute("PRAGMA freelist_count").fetchone()[0] > FREE_PAGES_KEPT:
                self._db.execute(f"PRAGMA incremental_vacuum({DELETED_PER_CHUNK_MAX})").fetchall()
        except sqlite3.Error as error:
            raise explain(error, self._path) from error
        return gone

    def clear(self) -> None:
        """Forget everything: the log behind it is another one."""
        with self._transaction():
            for table in (
                "run",
                "run_event",
                "trail",
                "recalled",
                "event",
                "announced",
                "doubted",
                "notice",
                "scan",
                "cancellation",
                "standing",
                "position",
                "tally",
            ):
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
            raise explain(error, self._path) from error
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # Said already: of a damaged file not even this can be had.
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
                rows.append((*row, c.event_name, c.cause, c.error, c.result, packed, c.no_retry))
                further += c.further_events()
                continue
            if c.status >= 0:
                known.append((c.status, c.started_ms, c.ended_ms, c.error, c.result, c.no_retry, c.run))
            if c.entries:
                trails.append((c.run, trail.pack(c.entries)))
        self._db.executemany(_STORE_RUN, rows)
        self._db.executemany(_STORE_FURTHER, further)
        self._db.executemany(
            "UPDATE run SET status = ?, started_ms = max(started_ms, ?), ended_ms = ?, error = ?, result = ?,"
            " no_retry = ? WHERE run = ?",
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

    def _store_announced(self, changes: Changes) -> None:
        rows = []
        for one in changes.announced:
            if one.kind == _AS_FAILED and handled_function(one.function) in self._functions:
                continue  # A failure handler's own end is not announced as failed.
            rows.append((self._number(one.at_ms), one.run, one.kind))
        self._db.executemany("INSERT INTO announced VALUES (?,?,?)", rows)

    def _store_rest(self, changes: Changes, positions: Sequence[Folded]) -> None:
        notices = [(self._number(x.at_ms), x.kind, x.subject, x.function, x.reason) for x in changes.notices]
        scans.store(self._db, changes.scans)
        cancellations.store(self._db, changes.cancellations)
        changes.queues.store(self._db)
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
        self._store_positions(positions)

    def _store_positions(self, positions: Sequence[Folded]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO position VALUES (?,?,?,?,?,?)",
            [(*at, _crc(at)) for at in ((p.topic, p.partition, p.position, p.owner, p.seq) for p in positions)],
        )

    def _forget_runs(self, before: int, before_ms: int) -> int:
        over = self._db.execute(
            "SELECT n, run FROM run WHERE status IN (?, ?, ?) AND n < ? AND ended_ms < ? LIMIT ?",
            (COMPLETED, FAILED, CANCELLED, before, before_ms, DELETED_PER_CHUNK_MAX),
        ).fetchall()
        self._db.executemany("DELETE FROM run WHERE n = ?", [(n,) for n, _ in over])
        self._forget_trails([run for _, run in over])
        return len(over)

    def _forget_trails(self, runs: Sequence[str]) -> None:
        for table in ("trail", "recalled"):
            self._db.executemany(f"DELETE FROM {table} WHERE run = ?", [(run,) for run in runs])

    def _forget_doubted(self) -> int:
        due = self._db.execute(
            "SELECT run FROM doubted d JOIN position p USING (topic, partition) WHERE p.position > d.upto LIMIT ?",
            (DELETED_PER_CHUNK_MAX,),
        ).fetchall()
        for (run,) in due:
            if self._db.execute("DELETE FROM run WHERE run = ? AND status < ?", (run, COMPLETED)).rowcount:
                self._forget_trails([run])
            self._db.execute("DELETE FROM doubted WHERE run = ?", (run,))
        return len(due)

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


def _crc(at: Sequence[object]) -> int:
    return crc32(repr(tuple(at)).encode())


def prepare(path: Path) -> None:
    """Make the file if need be, so that readers can open it before the writer runs.

    Never fails: what is damaged the writer moves aside, what passes it tries again.
    """
    try:
        _open(path).close()
    except HistoryDamaged as damaged:
        condemn(path)
        _log.warning("history index damaged, left to its writer: %s", damaged)
    except LogUnavailable as passing:
        _log.warning("history index not made now: %s", passing)


def _open(path: Path) -> sqlite3.Connection:
    """Raises HistoryDamaged, or DiskFull and LogUnavailable for what passes."""
    if is_condemned(path):
        raise HistoryDamaged(f"the history index {path} was condemned; it is made anew")
    db = None
    try:
        private_directory(path.parent)
        private_database(path)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found in (0, FORMAT):
            _set_up(db, new=found == 0)
            return db
        db.close()
        _log.warning("history index of another format thrown away index=%s format=%s expected=%d", path, found, FORMAT)
        for file in chain([path], (path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            file.unlink(missing_ok=True)
    except (sqlite3.Error, OSError) as error:
        if db is not None:
            db.close()
        raise explain(error, path) from error
    return _open(path)


def _set_up(db: sqlite3.Connection, *, new: bool) -> None:
    if new:
        db.execute("PRAGMA page_size = 8192")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX}")
    db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
    db.execute("PRAGMA secure_delete = OFF")
    db.execute("PRAGMA cache_size = -16384")
    if not new:
        return
    try:
        db.executescript(
            f"BEGIN IMMEDIATE;{_SCHEMA}{scans.SCHEMA}{cancellations.SCHEMA}{queues.SCHEMA}"
            f"PRAGMA user_version = {FORMAT};COMMIT;"
        )
    except sqlite3.OperationalError:
        if db.in_transaction:
            db.execute("ROLLBACK")
        if db.execute("PRAGMA user_version").fetchone()[0] != FORMAT:  # Else another process was faster.
            raise
