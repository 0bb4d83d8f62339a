"""Who stands at a gate, in the history: a row for each run that waits or counts there, and each event that is kept.

A place of a gate has one home, so its rows follow the facts of one journal, in their order. Every fact says how its row
stands afterwards and none adds to a number: facts that come once more, behind a checkpoint's rows (``rebuild.py``),
lead to the same rows.

    GateQueued  QUEUED     GateOpened  HELD, or gone where the gate does not count     GateLeft  gone
    StartKept, BatchAdded, SingletonKept  KEPT, under the event's id     over, freed, another one kept  gone
    GateOpened of a throttle also says when its burst is free again: CLOCK, a row of the place itself
"""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

import msgspec

from millstream.core.flow import throttle
from millstream.core.flow.places import gate_and_key, parts_of
from millstream.model import facts as f
from millstream.model.gates.declared import FlowSpec
from millstream.model.gates.rows import GateRow
from millstream.model.waits.awaited import home_of_place

QUEUED: Final = 0
HELD: Final = 1
KEPT: Final = 2
CLOCK: Final = 3
PLACES_SHOWN_MAX: Final = 200

SCHEMA: Final = """
CREATE TABLE standing (
    place TEXT NOT NULL, run TEXT NOT NULL, step TEXT NOT NULL, function TEXT NOT NULL, state INTEGER NOT NULL,
    since_ms INTEGER NOT NULL, due_ms INTEGER NOT NULL, PRIMARY KEY (place, run, step)
) WITHOUT ROWID;
CREATE INDEX standing_by_function ON standing (function, place, state, since_ms, due_ms);
"""

QueueFact = (
    f.GateQueued
    | f.GateOpened
    | f.GateLeft
    | f.GateTimed
    | f.StartKept
    | f.StartReleased
    | f.BatchAdded
    | f.BatchOver
    | f.SingletonHeld
    | f.SingletonKept
    | f.SingletonFreed
)
FACTS: Final[tuple[type, ...]] = (
    f.GateQueued, f.GateOpened, f.GateLeft, f.GateTimed, f.StartKept, f.StartReleased, f.BatchAdded, f.BatchOver,
    f.SingletonHeld, f.SingletonKept, f.SingletonFreed,
)  # fmt: skip


class QueueSeen(msgspec.Struct, frozen=True, gc=False):
    """A function's part at one place of a gate. Times in Unix ms, 0 where there is none or it is not known.

    ``running``      runs, or steps, that count there.
    ``oldest_ms``    since when the one that has waited longest does; of what is kept, since the first event.
    ``kept``         events that are kept there, ``kept_event`` is one of them; they go on at ``due_ms``, 0: when
                     the open run is over.
    ``full_us``      a throttle: when all of its burst is free again; Unix microseconds.
    """

    place: str
    running: int
    queued: int
    kept: int
    oldest_ms: int
    due_ms: int
    kept_event: str
    full_us: int

    @property
    def gate(self) -> str:
        """The option that declares it."""
        return gate_and_key(self.place)[0]

    @property
    def key(self) -> str:
        """The value of the key (``places.gate_and_key``)."""
        return gate_and_key(self.place)[1]


class QueuesSeen(msgspec.Struct, frozen=True):
    """All that stands at the gates of a function: ``places`` of them, those with the longest queues in ``shown``."""

    places: int = 0
    running: int = 0
    queued: int = 0
    kept: int = 0
    shown: tuple[QueueSeen, ...] = ()


class Standing(NamedTuple):
    """Who stands at a place, and since when."""

    function: str
    state: int
    since_ms: int
    due_ms: int = 0


class _At:
    """What a batch makes of one place."""

    __slots__ = ("none_kept", "rows")

    def __init__(self) -> None:
        self.none_kept = False  # What the index has kept there goes first.
        self.rows: dict[tuple[str, str], Standing | None] = {}

    def keep_none(self) -> None:
        """What is kept here is so no more."""
        self.none_kept = True
        self.rows = {who: row for who, row in self.rows.items() if row is None or row.state != KEPT}


class QueueChanges:
    """What a batch makes of the places. ``afresh``: those of this lane (of so many) go first, all of them."""

    __slots__ = ("_places", "afresh")

    def __init__(self) -> None:
        self._places: dict[str, _At] = {}
        self.afresh: tuple[int, int] | None = None

    def put(self, place: str, who: tuple[str, str], row: Standing | None) -> None:
        """Somebody (run, step) stands there so; None: no more."""
        at = self._places.get(place)
        if at is None:
            at = self._places[place] = _At()
        at.rows[who] = row

    def take(self, fact: QueueFact, at_ms: int) -> None:
        """What a fact says."""
        place = fact.place
        match fact:
            case f.GateQueued():
                self.put(place, (fact.run, fact.step), Standing(fact.function, QUEUED, at_ms))
            case f.GateOpened():
                held = Standing(fact.function, HELD, at_ms) if fact.is_held else None
                self.put(place, (fact.run, fact.step), held)
                if fact.full_us:
                    self.put(place, PLACE, Standing(fact.function, CLOCK, 0, fact.full_us))
            case f.GateLeft():
                self.put(place, (fact.run, fact.step), None)
            case f.GateTimed():
                if not fact.at_ms:  # Nothing of the burst is taken any more.
                    self.put(place, PLACE, None)
            case f.BatchAdded():
                self.put(place, (fact.event, ""), Standing(fact.function, KEPT, at_ms, fact.due_ms))
            case f.StartKept():
                self._keep_none(place)
                kept = Standing(fact.start.function, KEPT, fact.first_ms, fact.due_ms)
                self.put(place, (fact.start.event.internal_id, ""), kept)
            case f.SingletonKept():
                self._keep_none(place)
                kept = Standing(fact.start.function, KEPT, at_ms)
                self.put(place, (fact.start.event.internal_id, ""), kept)
            case _:  # Over, freed, or held by a run with nothing kept.
                self._keep_none(place)

    def _keep_none(self, place: str) -> None:
        self._places.setdefault(place, _At()).keep_none()

    def store(self, db: sqlite3.Connection) -> None:
        """Make the rows of it."""
        if self.afresh is not None:
            lane, lanes = self.afresh
            known = [place for (place,) in db.execute("SELECT DISTINCT place FROM standing")]
            gone = [(place,) for place in known if home_of_place(place, lanes) == lane]
            db.executemany("DELETE FROM standing WHERE place = ?", gone)
        if not self._places:
            return
        emptied = [(place, KEPT) for place, at in self._places.items() if at.none_kept]
        db.executemany("DELETE FROM standing WHERE place = ? AND state = ?", emptied)
        rows = [(place, *who, row) for place, at in self._places.items() for who, row in at.rows.items()]
        db.executemany(
            "DELETE FROM standing WHERE place = ? AND run = ? AND step = ?",
            [(place, run, step) for place, run, step, row in rows if row is None],
        )
        db.executemany(
            "INSERT OR REPLACE INTO standing VALUES (?,?,?,?,?,?,?)",
            [(place, run, step, *row) for place, run, step, row in rows if row is not None],
        )


PLACE: Final = ("", "")
"""Who stands there: the place itself."""

_QUESTION: Final = (
    "WITH at AS ("
    f"SELECT place, sum(state = {HELD}) AS running, sum(state = {QUEUED}) AS queued, sum(state = {KEPT}) AS kept,"
    f" min(CASE WHEN state IN ({QUEUED}, {KEPT}) AND since_ms > 0 THEN since_ms END) AS oldest,"
    f" max(CASE WHEN state = {KEPT} THEN due_ms END) AS due, max(CASE WHEN state = {KEPT} THEN run END) AS event,"
    f" max(CASE WHEN state = {CLOCK} THEN due_ms END) AS full_us"
    " FROM standing WHERE function = ? GROUP BY place)"
    " SELECT place, running, queued, kept, coalesce(oldest, 0), coalesce(due, 0), coalesce(event, ''),"
    " coalesce(full_us, 0), count(*) OVER (), sum(running) OVER (), sum(queued) OVER (), sum(kept) OVER ()"
    f" FROM at ORDER BY queued DESC, kept DESC, running DESC, place LIMIT {PLACES_SHOWN_MAX}"
)


def queues_of(db: sqlite3.Connection, function: str) -> QueuesSeen:
    """What stands at the gates of a function. Looks at a row for each who does."""
    rows = db.execute(_QUESTION, (function,)).fetchall()
    if not rows:
        return QueuesSeen()
    places, running, queued, kept = rows[0][8:]
    return QueuesSeen(places, running, queued, kept, tuple(QueueSeen(*row[:8]) for row in rows))


def next_slot_ms(one: QueueSeen, flow: FlowSpec, now_ms: int) -> int:
    """When a throttle, as it is declared now, lets the next one pass; 0: at once, or when somebody leaves."""
    parts = parts_of(one.place)
    if parts.gate != throttle.NAME:
        return 0
    slot = throttle.room(flow, parts.rule, GateRow(one.place, full_us=one.full_us), now_ms)
    return 0 if slot.is_open else slot.timer_ms
