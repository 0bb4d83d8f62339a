"""Crons: armed where their function's home is, fired once however many times were missed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final

from millstream.core import topics
from millstream.core.catalogue import catalogue, crons_of
from millstream.core.cron import Cron, parse_cron
from millstream.core.events import accepted, started
from millstream.core.tables import Tables
from millstream.errors import FunctionError
from millstream.model.commands import FireTimer, SeeCatalogue
from millstream.model.event import SCHEDULED_TIMER, Envelope
from millstream.model.facts import CatalogueSeen, CronArmed, CronDisarmed, CronTicked, Fact, FunctionSkipped
from millstream.model.function import AppSpec, decode_app_spec, encode_app_spec
from millstream.model.ids import hash16, home_of, ulid

MISSED_COUNTED_MAX: Final = 1_000


def see_catalogue(tables: Tables, command: SeeCatalogue, now_ms: int) -> list[Fact]:
    """Take what the functions topic says of an app, with its crons that live here and its topics."""
    held = tables.apps.get(command.app_id)
    if held is not None and held.offset >= command.offset:
        return []
    spec = command.app
    facts: list[Fact] = [
        CatalogueSeen(command.app_id, encode_app_spec(spec) if spec is not None else b"", command.offset)
    ]
    before = _crons_here(tables, decode_app_spec(held.spec) if held is not None and held.spec else None)
    after = _crons_here(tables, spec)
    facts += [CronDisarmed(function, text) for function, text in before if (function, text) not in after]
    for function, text in after:
        if (function, text) in before and tables.crons.get((function, text)) is not None:
            continue
        try:
            facts.append(CronArmed(function, text, parse_cron(text).next_after(now_ms)))
        except FunctionError as error:
            facts.append(FunctionSkipped("", function, str(error)))
    return facts + topics.subscribed(tables, spec)


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
    if function in catalogue(tables).functions:
        event = tick_event(function, text, at_ms, now_ms)
        facts += [accepted(event, "", 0, 0, b""), started(tables, event, function, "", 0)]
    return facts


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
