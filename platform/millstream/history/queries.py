"""The questions the index answers: read only, from any process, each from one snapshot.

Listings are newest first and paged by a cursor, the ``n`` of the last row shown. Filters that an index serves (status,
function) cost a page; the others (app, event name, time) look at rows in order until the page is full, and look at no
more than ROWS_SCANNED_MAX: then the page is short and its cursor leads on. So it does where the values of a page are
large: of one longer than ``limits.VALUE_BYTES_SHOWN_MAX`` a listing has the beginning only (``cuts.py``).

One connection, not for two threads at once. Raises LogUnavailable where there is no index file yet, or no more: one
that is damaged is condemned, and read again once its writer has made another (``damage.py``).
"""

from __future__ import annotations

import heapq
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from millstream.errors import LogUnavailable
from millstream.history import announced, cancellations, cuts, results, scans, trail
from millstream.history.cancellations import CancellationSeen
from millstream.history.damage import HistoryDamaged, RowDamaged, condemn, explain
from millstream.history.fold import STATUSES
from millstream.history.index import COUNTER_BITS, FORMAT
from millstream.history.queues import QueuesSeen, queues_of
from millstream.history.scans import ScanSeen
from millstream.history.seen import EventSeen, NoticeSeen, Page, RunFilter, RunInFull, RunSeen
from millstream.history.snapshot import Snapshot, chunks_of
from millstream.model import limits
from millstream.model.event import Envelope

PAGE_ROWS_MAX: Final = 200
ROWS_SCANNED_MAX: Final = 20_000
RUNS_OF_EVENT_MAX: Final = 1_000
PAIRS_MERGED_MAX: Final = 64
TRAILS_READ_MAX: Final = 2_000
"""The same where what a run does is asked for, which is read from its trail."""
TRAIL_BYTES_SHOWN_MAX: Final = 64 * 1024
_NEWEST: Final = 1 << 62


_RESULT_WHOLE: Final = limits.RUN_RESULT_BYTES_MAX * 2
_EVENT: Final = (
    "SELECT n, internal_id, id, name, ts_ms, received_ms, topic, partition, position, key, v, user, meta, data"
    " FROM event"
)
_FURTHER: Final = "SELECT event FROM run_event WHERE n = ? ORDER BY place"
Fits = Callable[[RunSeen], bool]


class Queries:
    """Answers from an index file. Opens it at the first question."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._opened = (0, 0)  # The file's device and number.

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def position(self, topic: str, partition: int) -> int:
        """The next offset of a topic partition to be folded; 0 where nothing is."""
        rows = self._ask("SELECT position FROM position WHERE topic = ? AND partition = ?", (topic, partition))
        return int(rows[0][0]) if rows else 0

    def positions(self) -> dict[tuple[str, int], int]:
        """The next offset to be folded, of every topic partition."""
        rows = self._ask("SELECT topic, partition, position FROM position")
        return {(topic, partition): int(position) for topic, partition, position in rows}

    def results(self, runs: Sequence[str], question: str = results.IN_FULL) -> list[results.ResultSeen]:
        """How these runs have ended, or that they have not; those that are not there are left out."""
        return [results.result_seen(row) for run in runs for row in self._ask(question, (run,))]

    def scans(self) -> list[ScanSeen]:
        """The partitions of scans, the newest scans first; at most ``scans.SCANS_SHOWN_MAX``."""
        return [ScanSeen(*row) for row in self._ask(scans.QUESTION)]

    def cancellations(self, below: str, limit: int) -> list[CancellationSeen]:
        """So many cancellations whose ids are below this one, the newest first, summed up over their lanes."""
        return [CancellationSeen(*row) for row in self._ask(cancellations.QUESTION, (below, limit))]

    def queues(self, function: str) -> QueuesSeen:
        """What stands at the gates of a function."""
        with self._snapshot() as db:
            return queues_of(db, function)

    def tally(self) -> dict[str, int]:
        """Counts since the index was made: started, completed, failed, cancelled, events."""
        names = ("started", "completed", "failed", "cancelled", "events")
        found = dict(self._ask("SELECT name, value FROM tally"))
        return {name: int(found.get(name, 0)) for name in names}

    def runs(self, wanted: RunFilter, page: Page) -> tuple[list[RunSeen], int]:
        """A page of runs, newest first, and the cursor of the next one (0: none)."""
        limit = max(1, min(page.limit, PAGE_ROWS_MAX))
        shown = limits.VALUE_BYTES_SHOWN_MAX
        if wanted.event:
            fits = partial(_fits, wanted=wanted)
            found, cursor = self.runs_of_event(wanted.event, page, shown, fits)
            return (found, cursor) if found else self.runs_of_sent_id(wanted.event, page, shown, fits)
        upper = page.cursor or _NEWEST
        if wanted.to_ms:
            upper = min(upper, wanted.to_ms << COUNTER_BITS)
        bounds = (wanted.from_ms << COUNTER_BITS, upper)
        scanned_max = TRAILS_READ_MAX if wanted.states else ROWS_SCANNED_MAX
        rows, scanned, last = [], 0, 0
        try:
            for n in self._numbers(wanted, bounds):
                scanned, last = scanned + 1, n
                if not wanted.states or self._has_state(n, wanted):
                    rows.append(n)
                if len(rows) > limit or scanned >= scanned_max:
                    break
        except sqlite3.Error as error:
            raise self._failed(error) from error
        cursor = rows[limit - 1] if len(rows) > limit else (last if scanned >= scanned_max else 0)
        found, more = self._page(rows, limit, shown)
        return found, more or cursor

    def _has_state(self, n: int, wanted: RunFilter) -> bool:
        """Whether a run has one of the statuses, or does what is asked for: that is read from its trail."""
        run = self._run_at(n, 0)
        if run is None or run.status in wanted.statuses:
            return run is not None
        return self._with_states([run])[0].state in wanted.states

    def run(self, run: str) -> RunInFull | None:
        """A run with its steps and attempts: of its longest values the beginnings (``cuts.py``)."""
        full = self.whole(run)
        if full is None:
            return None
        seen, steps = full.run, full.steps
        long = cuts.longest([len(seen.result), *(len(step.output) for step in steps)], limits.RUN_BYTES_SHOWN_MAX)
        if 0 in long:
            seen = replace(seen, result=seen.result[: cuts.BEGINNING_BYTES], result_bytes=len(seen.result))
        for place in long - {0}:
            cuts.shorten(steps[place - 1])
        return replace(full, run=seen, errors_cut=cuts.bound_errors(steps))

    def whole(self, run: str) -> RunInFull | None:
        """A run with all that it holds: as many bytes as a run may have."""
        with self._snapshot() as db:
            row = db.execute(f"{cuts.runs_question(_RESULT_WHOLE)} WHERE r.run = ?", (run,)).fetchone()
            if row is None:
                return None
            seen = _run(row)
            packed = chunks_of(db, seen.n, seen.run)
            further = [e for (e,) in db.execute(_FURTHER, (seen.n,))]
        steps = trail.read(packed)
        return RunInFull(_with_state(seen, steps), (seen.event, *further), steps, gates=tuple(trail.gates(packed)))

    def output(self, run: str, step: str = "") -> bytes:
        """The whole output of a run, or of a step of it; empty where there is none."""
        full = self.whole(run)
        if full is None:
            return b""
        if not step:
            return full.run.error or full.run.result
        return next((found.output for found in full.steps if found.step == step), b"")

    def screen(self, wanted: RunFilter, page: Page) -> tuple[list[RunInFull], int]:
        """A page of runs with their steps, and the cursor of the next one: of a run whose trail is longer than
        TRAIL_BYTES_SHOWN_MAX the steps are left out (``run`` gives them)."""
        runs, cursor = self.runs(wanted, page)
        with self._snapshot() as db:
            return [self._shown(db, run) for run in runs], cursor

    def payloads(self, events: Iterable[str], bytes_max: int) -> dict[str, bytes]:
        """The beginnings of events' data, by internal id; nothing of those that are not kept."""
        question = "SELECT substr(data, 1, ?) FROM event WHERE internal_id = ? LIMIT 1"
        found = {event: self._ask(question, (bytes_max, event)) for event in set(events)}
        return {event: bytes(rows[0][0]) for event, rows in found.items() if rows}

    def _shown(self, db: sqlite3.Connection, run: RunSeen) -> RunInFull:
        size = db.execute(
            "SELECT length(trail) + (SELECT coalesce(sum(length(entries)), 0) FROM trail WHERE trail.run = run.run)"
            " FROM run WHERE n = ?",
            (run.n,),
        ).fetchone()[0]
        packed: list[bytes] = []
        if size <= TRAIL_BYTES_SHOWN_MAX:
            packed = chunks_of(db, run.n, run.run)
        steps = trail.read(packed)
        shown = _with_state(run, steps)
        complete, gates = size <= TRAIL_BYTES_SHOWN_MAX, tuple(trail.gates(packed))
        return RunInFull(shown, (run.event,), steps, complete=complete, gates=gates)

    def _with_states(self, runs: list[RunSeen]) -> list[RunSeen]:
        """The runs, those under way with what they do; where a trail is too long, they are Running."""
        with self._snapshot() as db:
            return [self._shown(db, run).run if run.status == trail.RUNNING else run for run in runs]

    def runs_of_event(
        self, event: str, page: Page, shown_max: int = _RESULT_WHOLE, fits: Fits | None = None
    ) -> tuple[list[RunSeen], int]:
        """A page of the runs that an event (by internal id) is a trigger of, newest first; the next one's cursor."""
        question = "SELECT n FROM run WHERE event = ?1 UNION SELECT n FROM run_event WHERE event = ?1"
        return self._of_event(question, event, page, (shown_max, fits))

    def runs_of_sent_id(
        self, id: str, page: Page, shown_max: int = _RESULT_WHOLE, fits: Fits | None = None
    ) -> tuple[list[RunSeen], int]:
        """A page of the runs of every event that carries this sender's id, newest first; the next one's cursor.

        A post that is repeated because its answer got lost is another event with the same id, and starts nothing.
        """
        same = "SELECT internal_id FROM event WHERE id = ?1"
        question = f"SELECT n FROM run WHERE event IN ({same}) UNION SELECT n FROM run_event WHERE event IN ({same})"
        return self._of_event(question, id, page, (shown_max, fits))

    def _of_event(
        self, question: str, event: str, page: Page, shown: tuple[int, Fits | None]
    ) -> tuple[list[RunSeen], int]:
        rows = self._ask(
            f"SELECT n FROM ({question}) WHERE n < ?2 ORDER BY n DESC LIMIT {RUNS_OF_EVENT_MAX}",
            (event, page.cursor or _NEWEST),
        )
        return self._page([n for (n,) in rows], max(1, min(page.limit, RUNS_OF_EVENT_MAX)), *shown)

    def _page(
        self, numbers: Iterable[int], limit: int, shown_max: int, fits: Fits | None = None
    ) -> tuple[list[RunSeen], int]:
        """The runs of these numbers, as many as a page may hold; the last one's number where more follow, else 0."""
        found: list[RunSeen] = []
        size = 0
        for n in numbers:
            run = self._run_at(n, shown_max)
            if run is None or (fits is not None and not fits(self._with_states([run])[0])):
                continue
            size += len(run.result) + len(run.error)
            if len(found) >= limit or (found and size > limits.PAGE_BYTES_MAX):
                return self._with_states(found), found[-1].n
            found.append(run)
        return self._with_states(found), 0

    def _run_at(self, n: int, shown_max: int) -> RunSeen | None:
        """None: it was forgotten since its number was read."""
        rows = self._ask(f"{cuts.runs_question(shown_max)} WHERE r.n = ?", (n,))
        return _run(rows[0]) if rows else None

    def events(self, *, name: str = "", received_after_ms: int = 0, page: Page) -> tuple[list[EventSeen], int]:
        """A page of events, newest first, and the cursor of the next one (0: none)."""
        limit = max(1, min(page.limit, PAGE_ROWS_MAX))
        where = "name = ? AND n < ? AND n >= ?" if name else "n < ? AND n >= ?"
        bounds = (page.cursor or _NEWEST, received_after_ms << COUNTER_BITS)
        found: list[EventSeen] = []
        size = 0
        with self._snapshot() as db:
            listed = db.execute(
                f"{cuts.EVENTS_QUESTION} WHERE {where} ORDER BY n DESC LIMIT ?",
                (*((name,) if name else ()), *bounds, limit + 1),
            )
            made = (_shortened(_made_event(each)) for each in announced.newest(db, name, bounds, limit + 1))
            for event in heapq.merge(map(_event, listed), made, key=lambda event: event.n, reverse=True):
                size += len(event.data) + len(event.user) + len(event.meta)
                if len(found) >= limit or (found and size > limits.PAGE_BYTES_MAX):
                    return found, found[-1].n
                found.append(event)
        return found, 0

    def event(self, event: str) -> EventSeen | None:
        """The newest event with this internal id, or with this client's id."""
        for column in ("internal_id", "id"):
            rows = self._ask(f"{_EVENT} WHERE {column} = ? ORDER BY n DESC LIMIT 1", (event,))
            if rows:
                return _event(rows[0])
        with self._snapshot() as db:
            made = announced.by_id(db, event)
        return None if made is None else _made_event(made)

    def envelopes(self, events: Iterable[str]) -> list[Envelope]:
        """The events of these internal ids, in this order; those that are not kept are left out."""
        with self._snapshot() as db:
            return [found for event in events if (found := announced.envelope(db, event)) is not None]

    def notices(self, *subjects: str) -> list[NoticeSeen]:
        """Why an event (internal id, or its record as ``topic/partition@offset``) or run has no more to show, oldest
        first, a page at most."""
        marks = ",".join("?" * len(subjects))
        rows = self._ask(
            f"SELECT kind, n, function, reason FROM notice WHERE subject IN ({marks}) ORDER BY n LIMIT ?",
            (*subjects, PAGE_ROWS_MAX),
        )
        return [NoticeSeen(kind, n >> COUNTER_BITS, function, reason) for kind, n, function, reason in rows]

    def _numbers(self, wanted: RunFilter, bounds: tuple[int, int]) -> Iterable[int]:
        """The numbers of fitting runs, newest first, lazily."""
        db = self._open()
        named = wanted.statuses
        if wanted.states and trail.RUNNING not in named:
            named = (*named, trail.RUNNING)
        statuses = [STATUSES.index(s) for s in named] or list(range(len(STATUSES)))
        where, values = "n >= ? AND n < ?", list(bounds)
        extra, more = ("", [])
        if wanted.event_name:
            extra, more = " AND event_name = ?", [wanted.event_name]
        tail = f" AND {where}{extra} ORDER BY n DESC LIMIT {ROWS_SCANNED_MAX}"
        if wanted.function or wanted.app:
            functions = self._functions(wanted)
            pairs = [(f, s) for f in functions for s in statuses]
            if len(pairs) <= PAIRS_MERGED_MAX:
                head = "SELECT n FROM run WHERE function = ? AND status = ?"
                return _merged(db.execute(head + tail, (*pair, *values, *more)) for pair in pairs)
            marks = ",".join(map(str, functions))
            states = ",".join(map(str, statuses))
            head = f"SELECT n FROM run NOT INDEXED WHERE function IN ({marks}) AND status IN ({states})"
            return (n for (n,) in db.execute(head + tail, (*values, *more)))
        if not named:
            return (n for (n,) in db.execute("SELECT n FROM run NOT INDEXED WHERE 1" + tail, (*values, *more)))
        head = "SELECT n FROM run WHERE status = ?"
        return _merged(db.execute(head + tail, (status, *values, *more)) for status in statuses)

    def _functions(self, wanted: RunFilter) -> list[int]:
        where = [f"{column} = ?" for column in ("slug", "app") if (wanted.function if column == "slug" else wanted.app)]
        values = [value for value in (wanted.function, wanted.app) if value]
        rows = self._ask(f"SELECT id FROM function WHERE {' AND '.join(where)}", tuple(values))
        return [number for (number,) in rows]

    def _snapshot(self) -> Snapshot:
        return Snapshot(self._open(), self._failed)

    def _ask(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self._open().execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def unreadable(self, error: Exception) -> LogUnavailable:
        """What the rows hold cannot be decoded: the index is given up. The error to raise."""
        return self._failed(error)

    def _failed(self, error: Exception) -> LogUnavailable:
        """A damaged index is given up: its writer makes another, which is opened when it is there."""
        self.close()
        found = explain(error, self._path)
        if not isinstance(found, HistoryDamaged):
            return found if isinstance(found, LogUnavailable) else LogUnavailable(str(found))
        condemn(self._path)
        return LogUnavailable(f"{found} Ask again in a while.")

    def _open(self) -> sqlite3.Connection:
        try:
            there = os.stat(self._path)
        except OSError as error:
            raise self._not_there(error) from error
        if self._db is not None and (there.st_dev, there.st_ino) == self._opened:
            return self._db
        self.close()  # Another file has taken its name: the one before was moved aside.
        db = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
        try:
            found = db.execute("PRAGMA user_version").fetchone()[0]
            if found == FORMAT:
                db.execute("SELECT 1 FROM position LIMIT 1").fetchall()
        except sqlite3.Error as error:
            db.close()
            raise self._failed(error) from error
        if found != FORMAT:
            db.close()
            raise self._not_there(f"its format is {found}, not {FORMAT}")
        self._db, self._opened = db, (there.st_dev, there.st_ino)
        return db

    def _not_there(self, error: object) -> LogUnavailable:
        return LogUnavailable(
            f"the history index {self._path} is not there yet: {error}. It is made when the history starts."
        )


def _merged(cursors: Iterable[Iterable[tuple[int]]]) -> Iterable[int]:
    return (n for (n,) in heapq.merge(*cursors, reverse=True))


def _fits(run: RunSeen, wanted: RunFilter) -> bool:
    return (
        (not (wanted.statuses or wanted.states) or run.status in wanted.statuses or run.state in wanted.states)
        and (not wanted.function or run.function == wanted.function)
        and (not wanted.app or run.app == wanted.app)
        and (not wanted.event_name or run.event_name == wanted.event_name)
        and run.queued_ms >= wanted.from_ms
        and (not wanted.to_ms or run.queued_ms < wanted.to_ms)
    )


def _run(row: tuple[Any, ...]) -> RunSeen:
    n, run, function, app, name, number, *rest = row
    if not (isinstance(number, int) and 0 <= number < len(STATUSES)):
        raise RowDamaged(f"run {run} has status {number!r}: expected one of 0 to {len(STATUSES) - 1}")
    status = STATUSES[number]
    values: tuple[Any, ...] = (n, run, function, app, name, status, n >> COUNTER_BITS, *rest, status)
    return RunSeen(*values)


def _with_state(run: RunSeen, steps: list[trail.StepSeen]) -> RunSeen:
    """The run with what it does; the steps of one that is over are over, too."""
    if run.status != trail.RUNNING:
        if run.ended_ms:
            trail.close(steps, run.status, run.ended_ms)
        return run
    reason = next((reason for step in steps if (reason := trail.reason_of(step))), "")
    return replace(run, state=trail.state_of(steps), reason=reason)


def _event(row: tuple[Any, ...]) -> EventSeen:
    n, internal_id, given, *rest = row
    return EventSeen(n, internal_id, internal_id if given is None else given, *rest)


def _made_event(numbered: announced.Numbered) -> EventSeen:
    """An event that no lane wrote: it lies in no topic."""
    n, e = numbered
    place = ("", 0, 0)
    return EventSeen(
        n, e.internal_id, e.id, e.name, e.ts_ms, e.received_at_ms, *place, e.key, e.v, e.user, e.meta, e.data
    )


def _shortened(event: EventSeen) -> EventSeen:
    size = len(event.data) + len(event.user) + len(event.meta)
    if size <= limits.VALUE_BYTES_SHOWN_MAX:
        return event
    return replace(event, data=event.data[: cuts.BEGINNING_BYTES], user=b"", meta=b"", cut_bytes=size)
