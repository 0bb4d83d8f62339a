"""Crons: armed where their function's home is, fired once however many times were missed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from millstream.core import timers
from millstream.core.handles import Handler, Handles
from millstream.core.origin import OWN_EVENT
from millstream.core.starting import start
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue, crons_of
from millstream.core.triggers.cron import Cron, parse_cron
from millstream.errors import FunctionError
from millstream.model.commands import FireTimer
from millstream.model.effects import Effect
from millstream.model.event import SCHEDULED_TIMER, Envelope
from millstream.model.facts import CommandRefused, CronArmed, CronDisarmed, CronTicked, Fact, FunctionSkipped
from millstream.model.function import AppSpec, CronTrigger, FunctionSpec
from millstream.model.ids import hash16, home_of, ulid
from millstream.model.rows import CronRow

MISSED_COUNTED_MAX: Final = 1_000


def changed(tables: Tables, before: AppSpec | None, after: AppSpec | None, now_ms: int) -> list[Fact]:
    """What an app's new version means for the crons whose home is this lane: those that went, those that came."""
    old, new = _crons_here(tables, before), _crons_here(tables, after)
    facts: list[Fact] = [CronDisarmed(function, text) for function, text in old if (function, text) not in new]
    for function, text in new:
        if (function, text) in old and tables.crons.get((function, text)) is not None:
            continue
        try:
            facts.append(CronArmed(function, text, parse_cron(text).next_after(now_ms)))
        except FunctionError as error:
            facts.append(FunctionSkipped("", function, str(error)))
    return facts


def _crons_here(tables: Tables, spec: AppSpec | None) -> dict[tuple[str, str], None]:
    """The (function, cron) pairs of an app whose home is this lane, in order."""
    if spec is None:
        return {}
    place = tables.place
    return {
        (function.slug, text): None
        for function in spec.functions
        if home_of(function.slug, place.lanes) == place.lane
        for text in crons_of(function)
    }


def fire(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """A cron's time has come: one run for the last time that has passed, and the next one armed."""
    function, text = command.id, command.step
    row = tables.crons.get((function, text))
    if row is None or row.at_ms != command.at_ms:
        return []
    cron = parse_cron(text)
    at_ms, missed = _last_passed(cron, command.at_ms, now_ms)
    facts: list[Fact] = [CronTicked(function, text, at_ms, missed, cron.next_after(max(now_ms, at_ms)))]
    spec = catalogue(tables).functions.get(function)
    if spec is not None:
        event = tick_event(function, text, at_ms, now_ms)
        due_ms = at_ms + _jitter_ms(spec, text, at_ms)
        facts += start(tables, event, (function,), OWN_EVENT, at_ms=due_ms if due_ms > now_ms else 0)
    return facts


def _jitter_ms(function: FunctionSpec, text: str, at_ms: int) -> int:
    """How long after its tick a run begins: the same for the same tick, so that the decision can be made again."""
    most_ms = max((t.jitter_ms for t in function.triggers if isinstance(t, CronTrigger) and t.cron == text), default=0)
    return int.from_bytes(hash16("jitter", function.slug, text, str(at_ms))[:8]) % most_ms if most_ms else 0


def tick_event(function: str, cron: str, at_ms: int, now_ms: int) -> Envelope:
    """The event a cron's run starts on; the same tick always makes the same one."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    data = json.dumps({"cron": cron, "fireAt": at, "scheduledAt": at}, separators=(",", ":")).encode()
    internal_id = ulid(at_ms, hash16(function, cron, str(at_ms))[:10])
    return Envelope(internal_id, str(at_ms), False, SCHEDULED_TIMER, data, at_ms, now_ms)


def _last_passed(cron: Cron, first_ms: int, now_ms: int) -> tuple[int, int]:
    """The last time at or before now, and how many from ``first_ms`` on were passed over (counted up to a limit)."""
    at_ms, missed = first_ms, 0
    while missed < MISSED_COUNTED_MAX:
        following = cron.next_after(at_ms)
        if following > now_ms:
            return at_ms, missed
        at_ms, missed = following, missed + 1
    # Very many: find the last one by looking back over ever longer stretches.
    for back_ms in (60_000, 3_600_000, 86_400_000, 32 * 86_400_000):
        candidate = cron.next_after(now_ms - back_ms)
        if candidate <= now_ms:
            while (following := cron.next_after(candidate)) <= now_ms:
                candidate = following
            return candidate, missed
    return at_ms, missed


def refuse_timer(tables: Tables, command: FireTimer, reason: str, now_ms: int) -> list[Fact]:
    """What remains of a cron that raised: it fires no more."""
    return [CommandRefused("FireTimer", command.id, reason), CronDisarmed(command.id, command.step)]


# --- fold -----------------------------------------------------------------------------------------


def cron_armed(tables: Tables, f: CronArmed, at_ms: int) -> Sequence[Effect]:
    """A cron fires next at a time."""
    effects = list(cron_disarmed(tables, CronDisarmed(f.function, f.cron), at_ms))
    tables.crons.put((f.function, f.cron), CronRow(f.function, f.cron, f.at_ms))
    effects.append(timers.arm(tables, f.at_ms, timers.CRON, f.function, f.cron))
    return effects


def cron_disarmed(tables: Tables, f: CronDisarmed, at_ms: int) -> Sequence[Effect]:
    """A cron fires no more."""
    row = tables.crons.get((f.function, f.cron))
    if row is None:
        return ()
    tables.crons.delete((f.function, f.cron))
    return (timers.disarm(tables, row.at_ms, timers.CRON, f.function, f.cron),)


def cron_ticked(tables: Tables, f: CronTicked, at_ms: int) -> Sequence[Effect]:
    """A cron has fired, and fires again."""
    return cron_armed(tables, CronArmed(f.function, f.cron, f.next_at_ms), at_ms)


HANDLES = Handles(
    timers={timers.CRON: Handler(fire, refuse_timer)},
    facts={CronArmed: cron_armed, CronDisarmed: cron_disarmed, CronTicked: cron_ticked},
)
