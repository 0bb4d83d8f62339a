"""Flow control of a function, as ``@app.function`` takes it: who may start, who must queue, who is dropped.

    RateLimit, Debounce, Batch, Singleton      whether an event starts a run, and with which others
    Throttle, Concurrency                      when a run that exists may go on

Each says what it is here; docs/flow-control.md says what it does, and what cannot be had together. Every ``key`` is CEL
over ``event``; without one all runs of the function share one limit. Add an option: a class here, a rule in
``model/gates/declared.py``, a line in ``flow_spec``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import msgspec

from millstream.errors import FunctionError
from millstream.model.gates.declared import (
    BatchRule,
    ConcurrencyRule,
    DebounceRule,
    FlowSpec,
    RateLimitRule,
    SingletonRule,
    ThrottleRule,
    unwise,
)
from millstream.model.text.durations import Duration, to_ms
from millstream.model.text.storable import shown, type_name

Option = TypeVar("Option")


class Concurrency(msgspec.Struct, frozen=True):
    """At most ``limit`` at once of those with one ``key``; others queue.

    ``scope``  ``"fn"``: of this function. ``"env"``, ``"account"``: of all functions whose rule has the same value of
               its key, which must be given.
    ``per``    ``"step"``: what executes is counted; a run that sleeps or waits is not. ``"run"``: open runs are, from
               start to end.
    """

    limit: int
    key: str = ""
    scope: str = "fn"
    per: str = "step"


class Throttle(msgspec.Struct, frozen=True):
    """At most ``limit`` starts a ``period``, evenly spread, ``burst`` of them at once; others queue."""

    limit: int
    period: Duration
    burst: int = 1
    key: str = ""


class RateLimit(msgspec.Struct, frozen=True):
    """At most ``limit`` starts in any window of ``period``; what is above it is dropped, and recorded as skipped."""

    limit: int
    period: Duration
    key: str = ""


class Debounce(msgspec.Struct, frozen=True):
    """The last of several events starts one run, when ``period`` has passed without another.

    ``timeout``  the longest that the run waits after the first of them. Default: as long as others come.
    """

    period: Duration
    key: str = ""
    timeout: Duration | None = None


class Batch(msgspec.Struct, frozen=True):
    """Up to ``max_size`` events start one run, at the latest ``timeout`` after the first: ``ctx.events``.

    ``if_``  CEL over ``event``: one for which it does not hold starts alone, at once.
    """

    max_size: int
    timeout: Duration
    key: str = ""
    if_: str = ""


class Singleton(msgspec.Struct, frozen=True):
    """One open run of a ``key``. ``mode`` says what becomes of an event that comes while it is open.

    ``"skip"``    it starts nothing.
    ``"cancel"``  the run is cancelled, and the newest event starts one when it is over.
    ``"latest"``  the newest event starts one when the run is over.
    """

    mode: str
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowOptions:
    """The flow control that ``@app.function`` was given; see there."""

    concurrency: object = ()
    throttle: object = None
    rate_limit: object = None
    debounce: object = None
    batch: object = None
    singleton: object = None
    priority: object = ""
    idempotency: object = ""
    ordered_by: object = ""


def flow_spec(slug: str, given: FlowOptions) -> FlowSpec | None:
    """The flow control as it is registered, None where nothing is declared. Raises FunctionError naming what is wrong.

    What Python allows and a rule does not is refused here, the rest by the rule.
    """
    try:
        spec = FlowSpec(
            concurrency=_concurrency_rules(given.concurrency),
            throttle=_throttle(given.throttle),
            rate_limit=_rate_limit(given.rate_limit),
            debounce=_debounce(given.debounce),
            batch=_batch(given.batch),
            singleton=_singleton(given.singleton),
            priority=_text("priority", given.priority),
            idempotency=_text("idempotency", given.idempotency),
            ordered_by=_text("ordered_by", given.ordered_by),
        )
        if why := unwise(spec):
            raise FunctionError(why)
    except FunctionError as error:
        raise FunctionError(f"function {slug!r} refused: {error}") from None
    return None if spec == FlowSpec() else spec


def _concurrency_rules(given: object) -> tuple[ConcurrencyRule, ...]:
    if given is None:
        return ()
    several = given if isinstance(given, list | tuple) else (given,)
    return tuple(_concurrency(one) for one in several)


def _concurrency(given: object) -> ConcurrencyRule:
    if isinstance(given, int):
        return ConcurrencyRule(_number("concurrency", given))
    if not isinstance(given, Concurrency):
        raise _wrong("concurrency takes a number or Concurrency(limit, key=, scope=, per=), or a list of two", given)
    return ConcurrencyRule(
        _number("concurrency's limit", given.limit),
        _text("concurrency's key", given.key),
        _text("concurrency's scope", given.scope),
        _text("concurrency's per", given.per),
    )


def _throttle(given: object) -> ThrottleRule | None:
    option = _option(given, Throttle, "throttle takes Throttle(limit, period, burst=, key=)")
    if option is None:
        return None
    return ThrottleRule(
        _number("throttle's limit", option.limit),
        to_ms(option.period, "throttle's period"),
        _number("throttle's burst", option.burst),
        _text("throttle's key", option.key),
    )


def _rate_limit(given: object) -> RateLimitRule | None:
    option = _option(given, RateLimit, "rate_limit takes RateLimit(limit, period, key=)")
    if option is None:
        return None
    return RateLimitRule(
        _number("rate_limit's limit", option.limit),
        to_ms(option.period, "rate_limit's period"),
        _text("rate_limit's key", option.key),
    )


def _debounce(given: object) -> DebounceRule | None:
    option = _option(given, Debounce, "debounce takes Debounce(period, key=, timeout=)")
    if option is None:
        return None
    timeout_ms = 0 if option.timeout is None else to_ms(option.timeout, "debounce's timeout")
    if option.timeout is not None and not timeout_ms:  # 0 is how the rule says that there is none.
        raise _wrong("debounce's timeout must be above 0, or left out", option.timeout)
    return DebounceRule(to_ms(option.period, "debounce's period"), _text("debounce's key", option.key), timeout_ms)


def _batch(given: object) -> BatchRule | None:
    option = _option(given, Batch, "batch takes Batch(max_size, timeout, key=, if_=)")
    if option is None:
        return None
    return BatchRule(
        _number("batch's max_size", option.max_size),
        to_ms(option.timeout, "batch's timeout"),
        _text("batch's key", option.key),
        _text("batch's if_", option.if_),
    )


def _singleton(given: object) -> SingletonRule | None:
    option = _option(given, Singleton, 'singleton takes Singleton("skip" or "cancel" or "latest", key=)')
    if option is None:
        return None
    return SingletonRule(_text("singleton's mode", option.mode), _text("singleton's key", option.key))


def _option(given: object, kind: type[Option], expected: str) -> Option | None:
    if given is None or isinstance(given, kind):
        return given
    raise _wrong(expected, given)


def _number(what: str, given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        raise _wrong(f"{what} must be a whole number", given)
    return int.__int__(given)


def _text(what: str, given: object) -> str:
    if not isinstance(given, str):
        raise _wrong(f"{what} must be text", given)
    return str.__str__(given)  # Of a StrEnum: the value.


def _wrong(expected: str, got: object) -> FunctionError:
    return FunctionError(f"{expected}, got {type_name(got)} {shown(got)}.")
