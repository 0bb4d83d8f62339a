"""Limits of functions: what is declared, and the numbers that an operator has set instead, without a deploy.

An override goes into the functions topic (``wire/limits_record.py``), where every lane takes it: it survives restarts
and deploys. A request changes the options that it names, and leaves the others; null resets one. The answer comes when
this door has read it back, so events sent after it are decided by the new numbers.

A request that is sent again with the same seed is known by its id among the latest changes, and changes nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from millstream.api.answers import answer, found, iso
from millstream.api.door.budget import read_body
from millstream.api.door.door import DOOR, Door
from millstream.api.door.keys import may_act
from millstream.api.door.seeds import seeded_id
from millstream.errors import BadRequest, Busy, Conflict, FunctionError, NotFound
from millstream.log.port import Produced
from millstream.model import limits
from millstream.model.function import FunctionSpec
from millstream.model.gates.overrides import (
    CHANGES_KEPT_MAX,
    CONCURRENCY,
    OPTIONS,
    RATE_LIMIT,
    THROTTLE,
    FunctionLimits,
    Gate,
    LimitsChange,
    Override,
    applied,
    gates_of,
    in_force,
)
from millstream.model.messages import group_topic
from millstream.model.text.durations import Duration, duration_text, to_ms
from millstream.model.text.storable import is_storable
from millstream.telemetry import say
from millstream.wire.json_limits import read_json
from millstream.wire.limits_record import limits_record

LOG: Final = logging.getLogger("millstream.api.limits")
BODY_BYTES_MAX: Final = 16 * 1024
BY_CHARS_MAX: Final = 200
READ_BACK_S: Final = 10.0
LOOK_S: Final = 0.01
SHAPE: Final = (
    'Send {"concurrency": 5} (with two rules: [5, 20]), {"throttle": {"limit": 10, "period": "1m", "burst": 1}} or '
    '{"rate_limit": {"limit": 100, "period": "1h"}}, null to reset one, and "by" to say who asks.'
)


class Rate(msgspec.Struct, forbid_unknown_fields=True):
    """Of throttle and rate_limit. What is left out is as declared."""

    limit: int
    period: str | int | float | None = None
    burst: int | None = None


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The body. Unknown fields are refused: a misspelt one would leave the limit that was meant as it is."""

    concurrency: int | list[int | None] | UnsetType | None = UNSET
    throttle: Rate | UnsetType | None = UNSET
    rate_limit: Rate | UnsetType | None = UNSET
    by: str = ""


_wanted: Final = msgspec.json.Decoder(Wanted)
RESET: Final = Wanted(concurrency=None, throttle=None, rate_limit=None)


async def put_limits(request: web.Request) -> web.Response:
    """``PUT /api/functions/{slug}/limits``: set or reset numbers of gates that the function declares."""
    door = request.app[DOOR]
    may_act(request)
    body = await read_body(request, door.budget, BODY_BYTES_MAX)
    try:
        wanted = _read(body)
    finally:
        door.budget.give_back(len(body))
    return await _changed(request, wanted)


async def delete_limits(request: web.Request) -> web.Response:
    """``DELETE /api/functions/{slug}/limits``: all is as declared again; also where it was already."""
    may_act(request)
    return await _changed(request, RESET)


async def get_limits(request: web.Request) -> web.Response:
    """``GET /api/functions/{slug}/limits``: what is declared, what is set instead, since when and by what."""
    door, slug = request.app[DOOR], request.match_info["slug"]
    function, held = _known(door, slug)
    return found(limits_shown(slug, function, held))


def limits_shown(slug: str, function: FunctionSpec | None, held: FunctionLimits) -> dict[str, Any]:
    """A function's limits for people: each gate, what is set for none that is declared (``moot``), and the changes."""
    effective = in_force(function, held.overrides) if function is not None else None
    declared = dict(gates_of(function.flow)) if function is not None else {}
    counting = dict(gates_of(effective.flow)) if effective is not None else {}
    by_gate = {override.gate: override for override in held.overrides}
    in_use = {gate for gate in by_gate if gate in declared and effective is not function}
    return {
        "function_id": slug,
        "limits": [
            {
                **_named(gate),
                "declared": _numbers(rule),
                "override": _numbers(counting[gate]) if gate in in_use else None,
                **_since(by_gate[gate] if gate in in_use else None),
            }
            for gate, rule in declared.items()
        ],
        "moot": [
            {**_named(gate), "override": _numbers(one), **_since(one)}
            for gate, one in by_gate.items()
            if gate not in in_use
        ],
        "changes": [
            {"at": iso(one.at_ms), "request": one.request, "asked": msgspec.Raw(one.asked.encode()), "by": one.by,
             "client": one.client}
            for one in held.changes
        ],
    }  # fmt: skip


def _named(gate: Gate) -> dict[str, str]:
    return {name: value for name, value in gate._asdict().items() if value or name == "option"}


def _numbers(rule: Any) -> dict[str, object]:
    shown: dict[str, object] = {"limit": rule.limit}
    if period_ms := getattr(rule, "period_ms", 0):
        shown["period"] = duration_text(period_ms)
    if burst := getattr(rule, "burst", 0):
        shown["burst"] = burst
    return shown


def _since(override: Override | None) -> dict[str, object]:
    if override is None:
        return {"since": None, "request": None, "by": None}
    return {"since": iso(override.at_ms), "request": override.request, "by": override.by or None}


def _known(door: Door, slug: str) -> tuple[FunctionSpec | None, FunctionLimits]:
    """The function, and what is set of it. Raises NotFound where there is neither."""
    function, held = door.catalogue.function(slug), door.catalogue.limits.get(slug)
    if function is None and held is None:
        known = ", ".join(sorted(fn.slug for app in door.catalogue.apps.values() for fn in app.functions)[:20])
        raise NotFound(f"function {slug[:255]!r} not found. Known functions: {known or 'none'}.")
    return function, held or FunctionLimits(slug)


def _read(body: bytes) -> Wanted:
    if problem := read_json(body)[1]:
        raise BadRequest(f"limits refused: the request body {problem}. {SHAPE}")
    try:
        wanted = _wanted.decode(body)
    except msgspec.MsgspecError as wrong:
        raise BadRequest(f"limits refused: {wrong}. {SHAPE}") from wrong
    if wanted.concurrency is UNSET and wanted.throttle is UNSET and wanted.rate_limit is UNSET:
        raise BadRequest(f"limits refused: no limit was named. {SHAPE}")
    if len(wanted.by) > BY_CHARS_MAX or not is_storable(wanted.by):
        raise BadRequest(
            f"limits refused: by must be text of {BY_CHARS_MAX} characters at most, got {wanted.by[:64]!r} "
            f"({len(wanted.by)})"
        )
    return wanted


async def _changed(request: web.Request, wanted: Wanted) -> web.Response:
    """Record what is wanted, and answer once this door has read it back."""
    door, slug = request.app[DOOR], request.match_info["slug"]
    asked = msgspec.json.encode({o: getattr(wanted, o) for o in OPTIONS if getattr(wanted, o) is not UNSET}).decode()
    id = seeded_id(request, f"{slug} {asked}", door.config.now_ms()) or door.requests.new_id()
    async with door.limits_lock:  # What is written is made of what was read.
        function, held = _known(door, slug)
        if not _has(held, id):
            change = LimitsChange(door.config.now_ms(), id, asked, wanted.by, request.remote or "")
            await _record(door, _with(slug, function, held, (wanted, change)))
            say(LOG, "limits set", function=slug, request=id, asked=asked, by=wanted.by, client=change.client)
            await _read_back(door, slug, id)
    function, held = _known(door, slug)
    return answer({"data": limits_shown(slug, function, held), "status": 200})


async def _record(door: Door, made: FunctionLimits) -> None:
    key, value = limits_record(made)
    writer = door.config.log.writer(group_topic(door.config.group, "functions"), 0)
    try:
        await writer.append([Produced(value, key)])
    finally:
        with suppress(Exception):
            await writer.close()


async def _read_back(door: Door, slug: str, id: str) -> None:
    ends_s = asyncio.get_running_loop().time() + READ_BACK_S
    while not _has(door.catalogue.limits.get(slug), id):
        if asyncio.get_running_loop().time() > ends_s:
            raise Busy(f"limits of {slug!r}: request {id} is written, but was not read back yet. Look again.")
        await asyncio.sleep(LOOK_S)


def _has(held: FunctionLimits | None, id: str) -> bool:
    return held is not None and any(change.request == id for change in held.changes)


# --- what is wanted, as overrides ---------------------------------------------------------------------


def _with(
    slug: str, function: FunctionSpec | None, held: FunctionLimits, request: tuple[Wanted, LimitsChange]
) -> FunctionLimits:
    """What is set of a function after a request. Raises Conflict, BadRequest."""
    wanted, change = request
    overrides = {override.gate: override for override in held.overrides}
    for option in OPTIONS:
        value = getattr(wanted, option)
        if value is UNSET:
            continue
        gates = [gate for gate, _ in gates_of(function.flow if function is not None else None) if gate.option == option]
        if value is None:
            overrides = {gate: one for gate, one in overrides.items() if gate.option != option}
        elif not gates:
            raise Conflict(_undeclared(slug, function, option))
        else:
            for gate, numbers in _asked(slug, gates, value):
                overrides.pop(gate, None)
                if numbers is not None:
                    overrides[gate] = replace(numbers, at_ms=change.at_ms, request=change.request, by=change.by)
    made = tuple(overrides.values())
    if function is not None:
        try:
            applied(function, made)
        except FunctionError as senseless:
            raise BadRequest(f"limits refused: {senseless}") from senseless
    return FunctionLimits(slug, made, (change, *held.changes)[:CHANGES_KEPT_MAX])


def _undeclared(slug: str, function: FunctionSpec | None, option: str) -> str:
    if function is None:
        return f"limits refused: function {slug!r} is not registered any more. Only a reset is possible (DELETE)."
    declared = ", ".join(dict.fromkeys(gate.option for gate, _ in gates_of(function.flow)))
    return (
        f"limits refused: function {slug!r} declares no {option}, and an override only changes numbers that are "
        f"declared. It declares: {declared or 'none that can be changed'}. Deploy it with {option}=…"
    )


def _asked(slug: str, gates: Sequence[Gate], value: object) -> Iterator[tuple[Gate, Override | None]]:
    """Each gate of an option with the numbers that are asked for it; None: as declared."""
    option = gates[0].option
    if option == CONCURRENCY:
        given = value if isinstance(value, list) else [value]
        if len(given) != len(gates):
            rules = "; ".join(_rule_text(gate) for gate in gates)
            raise BadRequest(
                f"limits refused: {slug!r} declares {len(gates)} concurrency rule(s) and {len(given)} number(s) came. "
                f"Send one for each, in this order, null for as declared: {rules}."
            )
        for gate, limit in zip(gates, given, strict=True):
            yield gate, _override(gate, limit) if limit is not None else None
        return
    assert isinstance(value, Rate) and option in (THROTTLE, RATE_LIMIT)
    if option == RATE_LIMIT and value.burst is not None:
        raise BadRequest("limits refused: rate_limit has no burst. Leave it out, or set throttle.")
    try:
        period_ms = _period_ms(value.period, f"{option}'s period")
    except FunctionError as wrong:
        raise BadRequest(f"limits refused: {wrong}") from wrong
    yield gates[0], _override(gates[0], value.limit, period_ms, value.burst)


def _period_ms(period: Duration | None, what: str) -> int:
    if period is None:
        return 0
    period_ms = to_ms(period, what)
    if not period_ms:  # 0 would mean: as declared.
        raise FunctionError(f"{what} must be at least {duration_text(limits.FLOW_PERIOD_MS_MIN)}, got 0s.")
    return period_ms


def _override(gate: Gate, limit: object, period_ms: int = 0, burst: int | None = None) -> Override:
    assert isinstance(limit, int)
    for what, number in (("limit", limit), ("burst", burst)):
        if number is not None and not 1 <= number <= limits.FLOW_LIMIT_MAX:
            raise BadRequest(
                f"limits refused: {gate.option}'s {what} must be 1 to {limits.FLOW_LIMIT_MAX:,}, got {number}. "
                "For the declared one send null; to stop a function undeploy it."
            )
    return Override(gate.option, limit, period_ms, burst or 0, gate.key, gate.scope, gate.per)


def _rule_text(gate: Gate) -> str:
    return f"key {gate.key or 'none'}, scope {gate.scope}, per {gate.per}"
