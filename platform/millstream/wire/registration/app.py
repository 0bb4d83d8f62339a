"""The registration of an app, as an SDK posts it or answers a sync with it, read as an ``AppSpec``.

    POST /fn/register         {"appName" or "appname", "url", "sdk", "framework", "appVersion", "functions": […]}
    the answer to a PUT       {"app_id", "url", "sdk" or "sdk_language" and "sdk_version", …, "functions": […]}

Keys are taken in any case, unknown ones are passed over, null is as good as left out. A function is called at
``steps.step.runtime.url``, which has its id and ``step`` as query parameters; what is left of it is the app's endpoint,
the same for all of them. Failure handlers arrive as ordinary functions.

Whether expressions and crons are such is not looked at here (``core/declared.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from millstream.errors import BadRequest, ConfigError, FunctionError
from millstream.model import limits
from millstream.model.address import http_url
from millstream.model.function import AppSpec, CronTrigger, EventTrigger, FunctionSpec, Remote, Trigger
from millstream.model.text.durations import to_ms
from millstream.model.text.storable import is_storable
from millstream.wire.app_urls import base_url
from millstream.wire.json_limits import read_json
from millstream.wire.registration.options import Options, cancels_of, flow_of, timeouts_of

RESERVED: Final = "millstream:"
_VERSION: Final = re.compile(r"js:v(\d+)\.(\d+)\.(\d+)")
_BLOCKED_FROM: Final = (3, 22, 0)
_BLOCKED_TO: Final = (3, 53, 1)


class InvalidFunctions(BadRequest):
    """At least one function of a registration cannot be had; ``problems`` has a sentence for each of them."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("At least one function is invalid: " + " ".join(problems))
        self.problems = tuple(problems)


class AnyTrigger(msgspec.Struct):
    """A trigger: an event, or a cron."""

    event: str | None = None
    expression: str | None = None
    cron: str | None = None
    jitter: str | None = None


class Retries(msgspec.Struct):
    """Attempts after the first."""

    attempts: int | None = None


class Runtime(msgspec.Struct):
    """How a step is reached."""

    url: str
    type: str = "http"


class Step(msgspec.Struct):
    """The one step that every function has."""

    runtime: Runtime
    retries: Retries | None = None


class Function(msgspec.Struct):
    """A function but for its ``Options``, which stand beside these."""

    id: str
    name: str | None = None
    triggers: list[AnyTrigger] | None = None
    steps: dict[str, Step] | None = None


def app_of(body: bytes) -> AppSpec:
    """The app in a registration.

    Raises InvalidFunctions with every function that cannot be, BadRequest for what is no registration or is refused
    as a whole.
    """
    given, problem = read_json(body)
    if problem or not isinstance(given, dict):
        why = f"it {problem}" if problem else "it is no object"
        raise BadRequest(f"Invalid request: expected the JSON of a registration, got {body[:80]!r}: {why}")
    return app_in(given)


def app_in(given: Mapping[str, Any]) -> AppSpec:
    """The app in a registration that was read as JSON; raises as ``app_of``."""
    fields = {key.lower(): value for key, value in given.items()}
    name = _name(fields)
    sdk = _sdk(fields)
    _refuse_blocked(sdk)
    url = _url(fields.get("url"), f"Invalid request: the url of app {name!r}")
    functions = fields.get("functions")
    if functions is None:
        functions = []
    if not isinstance(functions, list):
        raise BadRequest(f"Invalid request: functions must be a list, got {str(functions)!r:.80}.")
    endpoint, specs = _functions(functions, url)
    remote = Remote(url, sdk, _text(fields, "framework"))
    try:
        return AppSpec(name, specs, endpoint, _text(fields, "appversion"), remote)
    except FunctionError as refused:
        raise InvalidFunctions([str(refused)]) from refused


def _functions(given: list[Any], url: str) -> tuple[str, tuple[FunctionSpec, ...]]:
    """Where they are called, and the functions; one that is there twice in the same words counts once."""
    specs: dict[FunctionSpec, None] = {}
    endpoints: dict[str, str] = {}
    problems = []
    for one in given:
        try:
            endpoint, spec = _function(one)
            specs[spec] = None
            endpoints.setdefault(endpoint, spec.slug)
        except (FunctionError, ConfigError) as refused:
            problems.append(str(refused))
    if len(endpoints) > 1:
        first, second, *_ = endpoints
        problems.append(
            f"functions {endpoints[first]!r} and {endpoints[second]!r} are called at {first} and {second}: expected "
            "one address for all functions of an app. Give each address an app id of its own."
        )
    if problems:
        raise InvalidFunctions(problems)
    return next(iter(endpoints), url), tuple(specs)


def _function(given: Any) -> tuple[str, FunctionSpec]:
    """Where a function is called, and what it is. Raises FunctionError, ConfigError."""
    try:
        function = msgspec.convert(given, Function)
        options = msgspec.convert(given, Options)
    except msgspec.ValidationError as wrong:
        slug = given.get("id") if isinstance(given, dict) else None
        raise FunctionError(f"function {str(slug)!r:.255} refused: {wrong}.") from wrong
    slug = function.id
    if not is_storable(slug) or not 1 <= len(slug) <= limits.FUNCTION_ID_CHARS_MAX:
        raise FunctionError(
            f"function {slug!r:.255} refused: app id and function id together must have 1 to "
            f"{limits.FUNCTION_ID_CHARS_MAX} characters, got {len(slug)}."
        )
    step = _step(slug, function)
    try:
        start_ms, finish_ms = timeouts_of(options)
        parts = {
            "triggers": _triggers(function.triggers or ()),
            "retries": _retries(step.retries),
            "cancel_on": cancels_of(options),
            "flow": flow_of(options),
        }
    except FunctionError as refused:
        raise FunctionError(f"function {slug!r} refused: {refused}") from refused
    spec = FunctionSpec(slug, function.name or slug, start_ms=start_ms, finish_ms=finish_ms, **parts)  # type: ignore[arg-type]
    return _url(step.runtime.url, f"the url of function {slug!r}"), spec


def _step(slug: str, function: Function) -> Step:
    steps = list((function.steps or {}).values())
    if len(steps) != 1:
        raise FunctionError(f"function {slug!r} refused: expected one entry in steps, got {len(steps)}.")
    if steps[0].runtime.type != "http":
        raise FunctionError(
            f"function {slug!r} refused: expected a runtime of type http, got {steps[0].runtime.type!r:.20}: functions "
            "over a connection of their own cannot be had yet. Serve them over HTTP."
        )
    return steps[0]


def _triggers(given: list[AnyTrigger] | tuple[()]) -> tuple[Trigger, ...]:
    triggers: list[Trigger] = []
    for one in given:
        if one.cron is not None:
            if not 1 <= len(one.cron) <= limits.CRON_CHARS_MAX:
                raise FunctionError(f"a cron has 1 to {limits.CRON_CHARS_MAX} characters, got {len(one.cron)}.")
            if any(isinstance(t, CronTrigger) and t.cron == one.cron for t in triggers):
                raise FunctionError(f"the cron {one.cron!r} is there twice. Remove one.")
            triggers.append(CronTrigger(one.cron, to_ms(one.jitter, "jitter") if one.jitter else 0))
        elif one.event is not None:
            if len(one.expression or "") > limits.EXPRESSION_CHARS_MAX:
                raise FunctionError(
                    f"an expression may have {limits.EXPRESSION_CHARS_MAX} characters, got {len(one.expression or '')}."
                )
            trigger = EventTrigger(one.event, one.expression or "")
            if trigger not in triggers:
                triggers.append(trigger)
        else:
            raise FunctionError("a trigger has an event or a cron, got neither.")
    return tuple(triggers)


def _retries(given: Retries | None) -> int:
    if given is None or given.attempts is None:
        return limits.RETRIES_DEFAULT
    if not 0 <= given.attempts <= limits.SDK_RETRIES_MAX:
        raise FunctionError(f"retries must be 0 to {limits.SDK_RETRIES_MAX}, got {given.attempts}.")
    return given.attempts


def _name(fields: Mapping[str, Any]) -> str:
    name = fields.get("appname") or fields.get("app_id")
    is_one = is_storable(name) and 1 <= len(str(name)) <= limits.FUNCTION_ID_CHARS_MAX
    if not is_one or str(name).startswith(RESERVED):
        raise BadRequest(
            f"Invalid request: appName must be text of 1 to {limits.FUNCTION_ID_CHARS_MAX} characters that does not "
            f"begin with {RESERVED!r}, got {str(name)!r:.80}. Give the Inngest client an id."
        )
    return str(name)


def _sdk(fields: Mapping[str, Any]) -> str:
    language, version = _text(fields, "sdk_language"), _text(fields, "sdk_version")
    said = _text(fields, "sdk") or (f"{language}:v{version.removeprefix('v')}" if language else "")
    return said.removeprefix("inngest-")


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    return value[: limits.FUNCTION_ID_CHARS_MAX] if isinstance(value, str) and is_storable(value) else ""


def _refuse_blocked(sdk: str) -> None:
    found = _VERSION.match(sdk)
    if found is not None and _BLOCKED_FROM <= tuple(int(part) for part in found.groups()) <= _BLOCKED_TO:
        raise BadRequest(
            f"the SDK {sdk} was refused: versions 3.22.0 to 3.53.1 let anybody read secrets of the app "
            "(CVE-2026-42047). Install inngest@3.54.0 or later."
        )


def _url(given: object, what: str) -> str:
    """The address without the protocol's own query parameters. Raises BadRequest, or ConfigError of a function's."""
    if not isinstance(given, str):
        raise BadRequest(f"{what} must be text, got {str(given)!r:.80}.")
    try:
        http_url(given, what)
    except ConfigError as refused:
        raise BadRequest(str(refused)) from refused
    return base_url(given)
