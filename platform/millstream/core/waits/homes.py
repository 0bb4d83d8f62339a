"""The home of a place: who waits there, and how an event that comes meets them.

    AwaitEvent ─> a kept event fits: EventCame        none does: WaiterAdded
    TakeEvent  ─> EventKept; each waiter it fits: WaiterGone, EventCame
    ForgetWait ─> WaiterGone; and, where it is asked, NothingCame

A decision looks at a limited number of waiters, or of kept events. What is left goes on with a timer that is due at
once (MATCH of an event, LOOK of a waiter), so that one event for a million waits holds up nobody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.handles import Handler, Handles
from millstream.core.messages import MessageKind
from millstream.core.tables import Tables, WaiterKey
from millstream.core.triggers.readable import readable
from millstream.core.waits import coverage
from millstream.core.waits.kept import MATCHING, count, counter, crowded, kept_from_ms
from millstream.core.waits.places import holds
from millstream.errors import BadRequest
from millstream.model import limits
from millstream.model.commands import AwaitEvent, EventCame, FireTimer, ForgetWait, NothingCame, TakeEvent
from millstream.model.effects import Effect
from millstream.model.event import Envelope
from millstream.model.facts import (
    CommandRefused,
    EventKept,
    Fact,
    MatchingPaused,
    Post,
    WaiterAdded,
    WaiterGone,
    WaiterLooked,
)
from millstream.model.ids import lane_of
from millstream.model.rows import TimerRow, WaiterRow
from millstream.model.waits.awaited import event_mark, home_of_place, is_marked

MATCH: Final = "match"
LOOK: Final = "look"
LOOKED_AT_ONCE_MAX: Final = 500
PAGE_ROWS: Final = LOOKED_AT_ONCE_MAX + 1
"""The waiters of a decision, and one that tells whether there are more."""

# --- a wait begins --------------------------------------------------------------------------------


def await_event(tables: Tables, command: AwaitEvent, now_ms: int) -> list[Fact]:
    """A step waits here: it may be that its event has come already."""
    key = (command.place, command.run, command.step, command.index)
    if tables.waiters.get(key) is not None:
        return []
    waiter = WaiterRow(
        *key, command.event, command.path, command.since_ms, command.expression, command.given, command.excluded, 0
    )
    found, (looked_ms, looked_id) = _look(tables, waiter)
    if found is not None:
        return [_came(tables, key, found)]
    if not command.path:
        row = tables.coverage.get((command.event, ""))
        if row is not None and row.waiters >= limits.UNMATCHED_WAITS_MAX:
            return [Post(_lane(tables, command.run), _refusal(command))]
    facts, seek = coverage.need(tables, command.event, command.path, command.since_ms)
    added = WaiterAdded(
        *key, command.event, command.path, command.since_ms, command.expression, command.given, command.excluded, seek,
        looked_ms, looked_id,
    )  # fmt: skip
    return [*facts, added]


def _refusal(command: AwaitEvent) -> NothingCame:
    reason = (
        f"step {command.step!r} cannot wait for {command.event!r}: at most {limits.UNMATCHED_WAITS_MAX} waits for one "
        "event name may ask for no equal value, and so many do. Give it match=, or an if_ with async.data.x == "
        "event.data.x: such waits are found by their value, however many there are."
    )
    return NothingCame(command.run, command.step, command.index, False, reason)


def _look(tables: Tables, waiter: WaiterRow) -> tuple[Envelope | None, tuple[int, str]]:
    """The first kept event that the waiter takes; else how far it has looked (an empty id: through all)."""
    place = waiter.place
    start = (place, waiter.looked_ms, waiter.looked_id + "\x00") if waiter.looked_id else (place, waiter.since_ms, "")
    page = tables.kept_at.within(place, start, limit=LOOKED_AT_ONCE_MAX)
    for (_, received_at_ms, internal_id), _ in page:
        kept = tables.kept.get((received_at_ms, internal_id))
        if kept is not None and _fits(waiter, kept.event, None):
            return kept.event, (0, "")
    if len(page) < LOOKED_AT_ONCE_MAX:
        return None, (0, "")
    _, looked_ms, looked_id = page[-1][0]
    return None, (looked_ms, looked_id)


def look_on(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """A waiter looks on."""
    place, index, run = command.id.split("/", 2)
    key = (place, run, command.step, int(index))
    waiter = tables.waiters.get(key)
    assert waiter is not None, "a waiter's timer goes with it"
    found, cursor = _look(tables, waiter)
    if found is not None:
        return [WaiterGone(*key), _came(tables, key, found)]
    if kept_from_ms(tables) <= waiter.looked_ms:
        return [WaiterLooked(*key, *cursor)]
    # Some were let go of that it had yet to look at: it waits anew, and what it has not seen is read again.
    facts, seek = coverage.need(tables, waiter.event, waiter.path, waiter.looked_ms)
    anew = WaiterAdded(
        *key, waiter.event, waiter.path, waiter.since_ms, waiter.expression, waiter.given, waiter.excluded, seek,
        *cursor,
    )  # fmt: skip
    return [WaiterGone(*key), *facts, anew]


def _fits(waiter: WaiterRow, event: Envelope, value: Mapping[str, object] | None) -> bool:
    """Whether the waiter takes the event; ``value``: the event as expressions see it, where it is known."""
    if event.received_at_ms < waiter.since_ms or is_marked(waiter.excluded, event_mark(event)):
        return False
    return not waiter.expression or holds(waiter.expression, waiter.given, value or readable(event))


def _came(tables: Tables, key: WaiterKey, event: Envelope) -> Post:
    _, run, step, index = key
    return Post(_lane(tables, run), EventCame(run, step, index, event))


def _lane(tables: Tables, run: str) -> int:
    return lane_of(run, tables.place.lanes)


# --- a wait ends ----------------------------------------------------------------------------------


def forget(tables: Tables, command: ForgetWait, now_ms: int) -> list[Fact]:
    """A step waits here no more; or asks whether nothing has come, and waits on where something still may."""
    key = (command.place, command.run, command.step, command.index)
    waiter = tables.waiters.get(key)
    facts: list[Fact] = []
    is_early = False
    if waiter is not None:
        if command.is_answered:
            found, is_early = _on_its_way(tables, waiter)
            if found is not None:
                return [WaiterGone(*key), _came(tables, key, found)]
            is_early = is_early or bool(waiter.looked_id) or not coverage.is_covered(tables, waiter)
        if not is_early:
            facts.append(WaiterGone(*key))
    if command.is_answered:
        facts.append(Post(_lane(tables, command.run), NothingCame(command.run, command.step, command.index, is_early)))
    return facts


def _on_its_way(tables: Tables, waiter: WaiterRow) -> tuple[Envelope | None, bool]:
    """An event that is here, meets one waiter after another, and fits this one; and whether there may be more to see.

    The timer with which it goes on may be late: the lane has much to do, or its last owner's clock was ahead.
    """
    if not counter(tables, MATCHING):
        return None, False
    page = tables.kept_at.within(waiter.place, (waiter.place, waiter.since_ms, ""), limit=LOOKED_AT_ONCE_MAX)
    for (_, received_at_ms, internal_id), _ in page:
        kept = tables.kept.get((received_at_ms, internal_id))
        if kept is not None and kept.behind and _fits(waiter, kept.event, None):
            return kept.event, False
    return None, len(page) == LOOKED_AT_ONCE_MAX


# --- an event comes -------------------------------------------------------------------------------


def take_event(tables: Tables, command: TakeEvent, now_ms: int) -> list[Fact]:
    """An event comes to its places: those who wait there take it, and it is kept for those who come later."""
    event = command.event
    held = tables.kept.get((event.received_at_ms, event.internal_id))
    places = tuple(place for place in command.places if held is None or place not in held.places)
    if not places:
        return []  # It was read twice: live, and by a scan.
    if held is not None and held.behind:
        return [EventKept(event, places)]  # It meets those who wait there as it goes on.
    met, behind = _meet(tables, event, places, "")
    if behind:
        paused = MatchingPaused(event.received_at_ms, event.internal_id, behind)
        return [EventKept(event, places), *met, paused]
    if event.received_at_ms < kept_from_ms(tables):
        return met  # Those as old were let go of before.
    if held is None and (dropped := crowded(tables, now_ms)):
        return [*dropped, EventKept(event, places), *met]
    return [EventKept(event, places), *met]


def match_on(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """An event meets the waiters that are left."""
    received, _, internal_id = command.id.partition("/")
    kept = tables.kept.get((int(received), internal_id))
    assert kept is not None, "an event is kept until it has met all who wait for it"
    met, behind = _meet(tables, kept.event, kept.places, kept.behind)
    return [*met, MatchingPaused(kept.received_at_ms, kept.internal_id, behind)]


def _meet(tables: Tables, event: Envelope, places: Sequence[str], behind: str) -> tuple[list[Fact], str]:
    """The waiters that take the event, from the one behind ``behind`` on; and where to go on, empty: nowhere."""
    facts: list[Fact] = []
    value: Mapping[str, object] | None = None
    for looked, waiter in enumerate(_waiters(tables, places, behind)):
        if looked == LOOKED_AT_ONCE_MAX:
            return facts, behind
        behind = f"{waiter.place}/{waiter.index}/{waiter.run}/{waiter.step}"
        if waiter.expression and value is None:
            try:
                value = readable(event)
            except BadRequest:
                return facts, ""  # No JSON: its producer went past the door.
        if _fits(waiter, event, value):
            key = (waiter.place, waiter.run, waiter.step, waiter.index)
            facts += (WaiterGone(*key), _came(tables, key, event))
    return facts, ""


def refuse_match(tables: Tables, command: FireTimer, reason: str, now_ms: int) -> list[Fact]:
    """What remains of an event that raised while it went on: it meets nobody more."""
    received, _, internal_id = command.id.partition("/")
    return [CommandRefused("FireTimer", internal_id, reason), MatchingPaused(int(received), internal_id, "")]


def refuse_look(tables: Tables, command: FireTimer, reason: str, now_ms: int) -> list[Fact]:
    """What remains of a waiter that raised while it looked on: it takes what comes."""
    place, index, run = command.id.split("/", 2)
    looked = WaiterLooked(place, run, command.step, int(index), 0, "")
    return [CommandRefused("FireTimer", run, reason), looked]


def _waiters(tables: Tables, places: Sequence[str], behind: str) -> Iterator[WaiterRow]:
    """Those who wait at these places, in order, from the one behind ``behind`` on."""
    at: WaiterKey | None = None
    if behind:
        place, number, run, step = behind.split("/", 3)
        at = (place, run, step, int(number) + 1)
        places = places[places.index(place) :] if place in places else ()
    for place in places:
        while page := tables.waiters.within(place, at, limit=PAGE_ROWS):
            for _, waiter in page:
                yield waiter
            if len(page) < PAGE_ROWS:
                break
            at = (place, waiter.run, waiter.step, waiter.index + 1)
        at = None


AWAIT_EVENT = MessageKind(
    message=AwaitEvent, decide=await_event, home=lambda t, m: home_of_place(m.place, t.place.lanes), answers=False
)
FORGET_WAIT = MessageKind(
    message=ForgetWait, decide=forget, home=lambda t, m: home_of_place(m.place, t.place.lanes), answers=False
)
TAKE_EVENT = MessageKind(
    message=TakeEvent, decide=take_event, home=lambda t, m: home_of_place(m.places[0], t.place.lanes), answers=False
)


# --- fold -----------------------------------------------------------------------------------------


def waiter_added(tables: Tables, f: WaiterAdded, at_ms: int) -> Sequence[Effect]:
    """A step waits here."""
    key = (f.place, f.run, f.step, f.index)
    waiter = WaiterRow(*key, f.event, f.path, f.since_ms, f.expression, f.given, f.excluded, f.seek)
    coverage.count_waiters(tables, f.event, f.path, 1, at_ms)
    if not f.looked_id:
        tables.waiters.add(key, waiter)
        return ()
    tables.waiters.add(key, replace(waiter, looked_ms=f.looked_ms, looked_id=f.looked_id, timer_ms=at_ms))
    return (timers.arm(tables, at_ms, LOOK, *look_timer(waiter)),)


def look_timer(waiter: WaiterRow) -> tuple[str, str]:
    """Id and step of a waiter's timer."""
    return f"{waiter.place}/{waiter.index}/{waiter.run}", waiter.step


def is_timed(tables: Tables, timer: TimerRow) -> bool:
    """Whether a waiter or event goes on with this timer."""
    if timer.kind == MATCH:
        received, _, internal_id = timer.id.partition("/")
        kept = tables.kept.get((int(received), internal_id))
        return kept is not None and bool(kept.behind) and kept.timer_ms == timer.at_ms
    place, index, run = timer.id.split("/", 2)
    waiter = tables.waiters.get((place, run, timer.step, int(index)))
    return waiter is not None and bool(waiter.looked_id) and waiter.timer_ms == timer.at_ms


def waiter_looked(tables: Tables, f: WaiterLooked, at_ms: int) -> Sequence[Effect]:
    """It has looked further."""
    key = (f.place, f.run, f.step, f.index)
    waiter = tables.waiters.get(key)
    assert waiter is not None, f"{key} looks for an event, and does not wait"
    effects: list[Effect] = [timers.disarm(tables, waiter.timer_ms, LOOK, *look_timer(waiter))]
    timer_ms = 0
    if f.looked_id:
        timer_ms = at_ms
        effects.append(timers.arm(tables, at_ms, LOOK, *look_timer(waiter)))
    tables.waiters.put(key, replace(waiter, looked_ms=f.looked_ms, looked_id=f.looked_id, timer_ms=timer_ms))
    return effects


def waiter_gone(tables: Tables, f: WaiterGone, at_ms: int) -> Sequence[Effect]:
    """It waits no more."""
    key = (f.place, f.run, f.step, f.index)
    waiter = tables.waiters.get(key)
    assert waiter is not None, f"{key} goes, and does not wait"
    tables.waiters.delete(key)
    coverage.count_waiters(tables, waiter.event, waiter.path, -1, at_ms)
    if not waiter.looked_id:
        return ()
    return (timers.disarm(tables, waiter.timer_ms, LOOK, *look_timer(waiter)),)


def matching_paused(tables: Tables, f: MatchingPaused, at_ms: int) -> Sequence[Effect]:
    """An event has met some of those who wait for it, or all."""
    key = (f.received_at_ms, f.internal_id)
    kept = tables.kept.get(key)
    assert kept is not None, f"{key} meets those who wait, and is not kept"
    id = f"{f.received_at_ms}/{f.internal_id}"
    effects: list[Effect] = []
    if kept.behind:
        effects.append(timers.disarm(tables, kept.timer_ms, MATCH, id, ""))
    if f.behind:
        effects.append(timers.arm(tables, at_ms, MATCH, id, ""))
    count(tables, MATCHING, bool(f.behind) - bool(kept.behind))
    tables.kept.put(key, replace(kept, behind=f.behind, timer_ms=at_ms if f.behind else 0))
    return effects


HANDLES = Handles(
    timers={
        MATCH: Handler(match_on, refuse_match, starts_work=False),
        LOOK: Handler(look_on, refuse_look, starts_work=False),
    },
    facts={
        WaiterAdded: waiter_added,
        WaiterLooked: waiter_looked,
        WaiterGone: waiter_gone,
        MatchingPaused: matching_paused,
    },
)
