"""The options of a function in a registration, by their names on the wire, and the flow control that they mean.

Each class is one option as both SDKs send it; msgspec refuses other types and names the place. What an option may be
in numbers is said by the rules of ``model/gates/declared.py``, the same as for functions in Python.

    concurrency    a number, {limit, key, scope}, a list of those (each counts steps), or {fn: …, step: …} of those:
                   ``fn`` counts runs. A limit of 0 is none

Add an option: a class here, a field of ``Function`` in ``app.py``, a line in ``flow_of``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from millstream.errors import FunctionError
from millstream.model import limits
from millstream.model.function import CancelTrigger
from millstream.model.gates.declared import (
    BatchRule,
    ConcurrencyRule,
    DebounceRule,
    FlowSpec,
    RateLimitRule,
    SingletonRule,
    ThrottleRule,
)
from millstream.model.text.durations import to_ms

BATCH_TIMEOUT_DEFAULT: Final = "60s"
SINGLETON_MODES: Final = ("skip", "cancel")


class Concurrency(msgspec.Struct):
    """One limit of what may execute at once."""

    limit: int = 0
    key: str | None = None
    scope: str | None = None


class ConcurrencyPer(msgspec.Struct):
    """Limits of open runs, and of executing steps."""

    fn: Any = None
    step: Any = None


class Throttle(msgspec.Struct):
    """Starts that queue."""

    limit: int
    period: str
    burst: int | None = None
    key: str | None = None


class RateLimit(msgspec.Struct):
    """Starts that are skipped."""

    limit: int
    period: str
    key: str | None = None


class Debounce(msgspec.Struct):
    """The last of several events."""

    period: str
    key: str | None = None
    timeout: str | None = None


class Batch(msgspec.Struct, rename={"max_size": "maxSize", "expression": "if"}):
    """Many events for one run."""

    max_size: int
    timeout: str | None = None
    key: str | None = None
    expression: str | None = None


class Singleton(msgspec.Struct):
    """One open run."""

    mode: str
    key: str | None = None


class Priority(msgspec.Struct):
    """Who goes before others."""

    run: str | None = None


class Cancel(msgspec.Struct, rename={"expression": "if"}):
    """An event that cancels."""

    event: str
    expression: str | None = None
    timeout: str | None = None


class Timeouts(msgspec.Struct):
    """When a run is cancelled."""

    start: str | None = None
    finish: str | None = None


class Options(msgspec.Struct, rename={"batch": "batchEvents", "rate_limit": "rateLimit"}):
    """All options of a function but its triggers and its steps; null is as good as left out."""

    concurrency: Any = None
    throttle: Throttle | None = None
    rate_limit: RateLimit | None = None
    debounce: Debounce | None = None
    batch: Batch | None = None
    singleton: Singleton | None = None
    priority: Priority | None = None
    idempotency: str | None = None
    cancel: list[Cancel] | None = None
    timeouts: Timeouts | None = None


def flow_of(given: Options) -> FlowSpec | None:
    """The flow control; None where there is none. Raises FunctionError naming what is wrong."""
    spec = FlowSpec(
        concurrency=_concurrency(given.concurrency),
        throttle=_throttle(given.throttle) if given.throttle else None,
        rate_limit=_rate_limit(given.rate_limit) if given.rate_limit else None,
        debounce=_debounce(given.debounce) if given.debounce else None,
        batch=_batch(given.batch) if given.batch else None,
        singleton=_singleton(given.singleton) if given.singleton else None,
        priority=(given.priority and given.priority.run) or "",
        idempotency=given.idempotency or "",
    )
    return None if spec == FlowSpec() else spec


def _throttle(one: Throttle) -> ThrottleRule:
    return ThrottleRule(one.limit, to_ms(one.period, "throttle's period"), one.burst or 1, one.key or "")


def _rate_limit(one: RateLimit) -> RateLimitRule:
    return RateLimitRule(one.limit, to_ms(one.period, "rateLimit's period"), one.key or "")


def _debounce(one: Debounce) -> DebounceRule:
    timeout_ms = length_ms(one.timeout, "debounce's timeout")
    return DebounceRule(to_ms(one.period, "debounce's period"), one.key or "", timeout_ms)


def _batch(one: Batch) -> BatchRule:
    timeout_ms = to_ms(one.timeout or BATCH_TIMEOUT_DEFAULT, "batchEvents' timeout")
    return BatchRule(one.max_size, timeout_ms, one.key or "", one.expression or "")


def _singleton(one: Singleton) -> SingletonRule:
    if one.mode not in SINGLETON_MODES:
        raise FunctionError(f"singleton's mode must be one of {', '.join(SINGLETON_MODES)}, got {one.mode!r:.80}.")
    return SingletonRule(one.mode, one.key or "")


def cancels_of(given: Options) -> tuple[CancelTrigger, ...]:
    """The events that cancel runs. Raises FunctionError."""
    return tuple(
        CancelTrigger(
            one.event, expression=one.expression or "", timeout_ms=length_ms(one.timeout, "timeout of cancelOn")
        )
        for one in given.cancel or ()
    )


def timeouts_of(given: Options) -> tuple[int, int]:
    """The milliseconds of start and finish, 0 for none. Raises FunctionError."""
    timeouts = given.timeouts or Timeouts()
    return (
        length_ms(timeouts.start, "timeouts.start", limits.WAIT_MS_MAX),
        length_ms(timeouts.finish, "timeouts.finish", limits.WAIT_MS_MAX),
    )


def length_ms(text: str | None, what: str, most_ms: int = 0) -> int:
    """The milliseconds of a length that may be left out: 0 then. Raises FunctionError for 0, which would be none."""
    if not text:
        return 0
    ms = to_ms(text, what)
    if ms < 1 or (most_ms and ms > most_ms):
        raise FunctionError(f"{what} must be above 0{' and at most 366 days' if most_ms else ''}, got {text!r:.80}.")
    return ms


def _concurrency(given: Any) -> tuple[ConcurrencyRule, ...]:
    """The rules; of two that count the same, the lower limit, which is the one that holds."""
    if isinstance(given, dict) and ("fn" in given or "step" in given):
        by_what = convert(given, ConcurrencyPer)
        rules = [*_rules(by_what.fn, "run"), *_rules(by_what.step, "step")]
    else:
        rules = _rules(given, "step")
    lowest: dict[tuple[str, str, str], ConcurrencyRule] = {}
    for rule in rules:
        same = (rule.key, rule.scope, rule.per)
        lowest[same] = min(rule, lowest.get(same, rule), key=lambda one: one.limit)
    return tuple(lowest.values()) if len(rules) <= limits.CONCURRENCY_RULES_MAX else tuple(rules)


def _rules(given: Any, per: str) -> list[ConcurrencyRule]:
    """The rules of one form of it; a limit of 0 is none."""
    several = given if isinstance(given, list) else [] if given is None else [given]
    read = [
        Concurrency(convert(one, int)) if isinstance(one, int | float) else convert(one, Concurrency) for one in several
    ]
    return [ConcurrencyRule(one.limit, one.key or "", one.scope or "fn", per) for one in read if one.limit]


def convert(value: Any, kind: Any) -> Any:
    """The value as this type. Raises FunctionError with the place that is another."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as wrong:
        raise FunctionError(f"concurrency: {wrong}.") from wrong
