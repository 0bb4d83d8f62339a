"""Gates that count starts: so many in any window of a time, and no more (``rate_limit.py``, ``idempotency.py``).

    AdmitStart ──room──> StartCounted, onward        no room ─> skipped, with the time when there is some again
    a timer ─> StartsForgotten: the row holds what still counts, and goes with the last of it

The row holds an entry for each start that counts, oldest first: time, number, mark of the run. A start that comes again
(its request was repeated) is known by its mark: it passes, and counts once.

Above RATE_LIMIT_EXACT_MAX the window is divided into PARTS, with one entry for all starts of a part. They are counted
as if each had come at the part's end: never more than the limit pass, and some by a part's length later than they
might. They have no marks, so one that comes again counts again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Final, NamedTuple

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.flow.kinds import AdmitGate
from millstream.core.flow.places import NULL, key_text, parts_of, place_of, rule_id
from millstream.core.flow.verdicts import flow_of, onward, run_of, skipped
from millstream.core.handles import Handler, Handles
from millstream.core.tables import Tables
from millstream.model import limits
from millstream.model.commands import FireTimer
from millstream.model.effects import Effect
from millstream.model.facts import CommandRefused, Fact, StartCounted, StartsForgotten
from millstream.model.function import FunctionSpec
from millstream.model.gates.declared import FlowSpec
from millstream.model.gates.messages import AdmitStart
from millstream.model.gates.rows import StartsRow
from millstream.model.rows import TimerRow

PARTS: Final = 200
LOOK_AGAIN_MS: Final = 60_000
_ENTRY: Final = Struct(">QI8s")
_MARK_AT: Final = 12
_OF_SEVERAL: Final = bytes(8)
"""The mark of an entry for several starts."""


class Bound(NamedTuple):
    """At most ``limit`` starts in any window of ``period_ms``, of those with one value of ``key``."""

    key: str
    limit: int
    period_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountingGate:
    """One gate that counts starts. Its ``name`` is also the kind of its timers.

    ``bound``       what a function's flow says of it; None: it has no such gate.
    ``counts_null`` whether a key that gives null is a value like any other; else the gate is passed by.
    ``reason``      (bound, the row, when there is room again) -> why a start is skipped.
    """

    name: str
    bound: Callable[[FlowSpec], Bound | None]
    reason: Callable[[Bound, StartsRow, int], str]
    counts_null: bool = True

    @property
    def gate(self) -> AdmitGate:
        """As the table of gates has it."""
        return AdmitGate(name=self.name, places=self.places, decide=self.decide)

    @property
    def timer(self) -> Mapping[str, Handler]:
        """What follows when its timer fires."""
        return {self.name: Handler(self.look, refuse_look)}

    def places(self, function: FunctionSpec, event: Mapping[str, object]) -> tuple[str, ...]:
        """The place of its key."""
        bound = self.bound(function.flow) if function.flow is not None else None
        if bound is None:
            return ()
        value = key_text(bound.key, event)
        if value == NULL and not self.counts_null:
            return ()
        return (place_of(self.name, rule_id(bound.key), function.slug, value),)

    def decide(self, tables: Tables, start: AdmitStart, place: str, now_ms: int) -> list[Fact]:
        """Whether one more may start now."""
        bound = self._bound(tables, start.function, place)
        if bound is None:
            return [onward(tables, start)]
        run, row = run_of(tables, start), tables.starts.get(place) or StartsRow(place, start.function)
        room = _room(row, bound, now_ms)
        if start.request and _is_known(row, run, room.forgotten):  # Only requests are repeated.
            return [onward(tables, start)]
        if room.at_ms > now_ms:
            return skipped(tables, start, self.reason(bound, row, room.at_ms))
        is_alone, at_ms = bound.limit <= limits.RATE_LIMIT_EXACT_MAX, now_ms
        if not is_alone:
            part_ms = -(-bound.period_ms // PARTS)
            at_ms = (now_ms // part_ms + 1) * part_ms - 1
        timer_ms = row.timer_ms or at_ms + bound.period_ms
        return [
            StartCounted(place, start.function, run, at_ms, is_alone, room.forgotten, timer_ms),
            onward(tables, start),
        ]

    def look(self, tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
        """The time has come to drop entries that are too old."""
        row = tables.starts.get(command.id)
        assert row is not None, "the timer of counted starts goes with them"
        bound, entries = self._bound(tables, row.function, row.place), len(row.starts) // _ENTRY.size
        forgotten = _room(row, bound, now_ms).forgotten if bound is not None else entries
        if bound is None or forgotten == entries:
            return [StartsForgotten(row.place, entries, 0)]
        last_ms: int = _ENTRY.unpack_from(row.starts, len(row.starts) - _ENTRY.size)[0]
        return [StartsForgotten(row.place, forgotten, max(last_ms + bound.period_ms, now_ms + 1))]

    def _bound(self, tables: Tables, function: str, place: str) -> Bound | None:
        """What is deployed now: None where the gate is gone, or has another key."""
        bound = self.bound(flow_of(tables, function))
        return bound if bound is not None and rule_id(bound.key) == parts_of(place).rule else None


class _Room(NamedTuple):
    """``at_ms``: when one more may start. ``forgotten``: so many entries, from the oldest, count no more."""

    at_ms: int
    forgotten: int


def _room(row: StartsRow, bound: Bound, now_ms: int) -> _Room:
    # The oldest starts go first: those that are too old, and then as many as must be gone for one more.
    too_many, room_ms, forgotten = row.counted - bound.limit + 1, now_ms, 0
    for at_ms, count, _ in _ENTRY.iter_unpack(row.starts):
        out_ms = at_ms + bound.period_ms
        if out_ms <= now_ms and room_ms == now_ms:
            forgotten += 1
        elif too_many <= 0:
            break
        else:
            room_ms = max(room_ms, out_ms)
        too_many -= count
    return _Room(room_ms, forgotten)


def _mark(run: str) -> bytes:
    return blake2b(run.encode(), digest_size=8).digest()


def _is_known(row: StartsRow, run: str, forgotten: int) -> bool:
    mark, at = _mark(run), forgotten * _ENTRY.size
    while (at := row.starts.find(mark, at)) >= 0:
        if at % _ENTRY.size == _MARK_AT:
            return True
        at += 1
    return False


def refuse_look(tables: Tables, command: FireTimer, reason: str, now_ms: int) -> list[Fact]:
    """What remains of a look that raised: another one, later."""
    return [CommandRefused("FireTimer", command.id, reason), StartsForgotten(command.id, 0, now_ms + LOOK_AGAIN_MS)]


# --- fold -----------------------------------------------------------------------------------------


def start_counted(tables: Tables, f: StartCounted, at_ms: int) -> Sequence[Effect]:
    """One more counts."""
    row = _without(tables.starts.get(f.place) or StartsRow(f.place, f.function), f.forgotten)
    starts, count, mark = row.starts, 1, _mark(f.run) if f.is_alone else _OF_SEVERAL
    if not f.is_alone and starts:
        last_ms, last_count, last_mark = _ENTRY.unpack_from(starts, len(starts) - _ENTRY.size)
        if (last_ms, last_mark) == (f.at_ms, _OF_SEVERAL):
            starts, count = starts[: -_ENTRY.size], last_count + 1
    starts += _ENTRY.pack(f.at_ms, count, mark)
    row = replace(row, function=f.function, starts=starts, counted=row.counted + 1, run=f.run)
    return _put(tables, row, f.timer_ms)


def starts_forgotten(tables: Tables, f: StartsForgotten, at_ms: int) -> Sequence[Effect]:
    """Old ones count no more."""
    row = tables.starts.get(f.place)
    assert row is not None, f"starts forgotten at {f.place}, where none count"
    return _put(tables, _without(row, f.entries), f.timer_ms)


def _without(row: StartsRow, entries: int) -> StartsRow:
    if not entries:
        return row
    gone, left = row.starts[: entries * _ENTRY.size], row.starts[entries * _ENTRY.size :]
    return replace(row, starts=left, counted=row.counted - sum(count for _, count, _ in _ENTRY.iter_unpack(gone)))


def _put(tables: Tables, row: StartsRow, timer_ms: int) -> list[Effect]:
    effects: list[Effect] = []
    if row.timer_ms != timer_ms:
        kind = parts_of(row.place).gate
        if row.timer_ms:
            effects.append(timers.disarm(tables, row.timer_ms, kind, row.place, ""))
        if timer_ms:
            effects.append(timers.arm(tables, timer_ms, kind, row.place, ""))
        row = replace(row, timer_ms=timer_ms)
    if timer_ms:
        tables.starts.put(row.place, row)
    else:
        tables.starts.delete(row.place)
    return effects


def is_timed(tables: Tables, timer: TimerRow) -> bool:
    """Whether counted starts are looked at by this timer."""
    row = tables.starts.get(timer.id)
    return row is not None and row.timer_ms == timer.at_ms and parts_of(row.place).gate == timer.kind


HANDLES = Handles(facts={StartCounted: start_counted, StartsForgotten: starts_forgotten})
