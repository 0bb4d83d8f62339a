"""Overrides: an operator's numbers in place of those that a function declares, without a deploy, until they are reset.

An override belongs to one *gate* of a function, named by what a deploy must keep for it to count: the option, its key,
and of concurrency the scope and ``per``. It changes numbers only. A gate that is declared no more makes it moot; it
counts again when the gate comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from millstream.errors import FunctionError
from millstream.model.function import FunctionSpec
from millstream.model.gates.declared import ConcurrencyRule, FlowSpec, RateLimitRule, ThrottleRule

CONCURRENCY: Final = "concurrency"
THROTTLE: Final = "throttle"
RATE_LIMIT: Final = "rate_limit"
OPTIONS: Final = (CONCURRENCY, THROTTLE, RATE_LIMIT)
"""The options whose numbers can be overridden."""
CHANGES_KEPT_MAX: Final = 20
"""So many changes of a function's overrides are remembered, the latest first."""

Rule = ConcurrencyRule | ThrottleRule | RateLimitRule


class Gate(NamedTuple):
    """What tells one gate of a function from its others. ``scope`` and ``per``: of concurrency."""

    option: str
    key: str = ""
    scope: str = ""
    per: str = ""


class Override(msgspec.Struct, frozen=True, omit_defaults=True):
    """Numbers for one gate; 0: as declared. ``at_ms``, ``request`` and ``by``: since when, and by what."""

    option: str
    limit: int
    period_ms: int = 0
    burst: int = 0
    key: str = ""
    scope: str = ""
    per: str = ""
    at_ms: int = 0
    request: str = ""
    by: str = ""

    @property
    def gate(self) -> Gate:
        """The gate whose numbers these are."""
        return Gate(self.option, self.key, self.scope, self.per)


class LimitsChange(msgspec.Struct, frozen=True):
    """One request of an operator. ``asked`` is its JSON; ``by`` is what it said of itself, ``client`` its address."""

    at_ms: int
    request: str
    asked: str
    by: str = ""
    client: str = ""


class FunctionLimits(msgspec.Struct, frozen=True):
    """What an operator wants of a function, with the latest requests that led to it."""

    function: str
    overrides: tuple[Override, ...] = ()
    changes: tuple[LimitsChange, ...] = ()


class SeeLimits(msgspec.Struct, frozen=True):
    """The functions topic says: a function's overrides are these now. ``offset`` is the record's there."""

    function: str
    overrides: tuple[Override, ...]
    offset: int


class LimitsRow(msgspec.Struct, frozen=True, gc=False):
    """The overrides of a function as this lane knows them, as JSON."""

    function: str
    overrides: bytes
    offset: int


def gates_of(flow: FlowSpec | None) -> Iterator[tuple[Gate, Rule]]:
    """The gates that are declared and whose numbers can be overridden."""
    if flow is None:
        return
    for rule in flow.concurrency:
        yield Gate(CONCURRENCY, rule.key, rule.scope, rule.per), rule
    if flow.throttle is not None:
        yield Gate(THROTTLE, flow.throttle.key), flow.throttle
    if flow.rate_limit is not None:
        yield Gate(RATE_LIMIT, flow.rate_limit.key), flow.rate_limit


def applied(function: FunctionSpec, overrides: Sequence[Override]) -> FunctionSpec:
    """The function with these numbers. Raises FunctionError where they cannot be, or make no sense together."""
    flow = function.flow
    by_gate = {override.gate: override for override in overrides}
    changed = {gate: _with(rule, by_gate[gate]) for gate, rule in gates_of(flow) if gate in by_gate}
    if flow is None or not changed:
        return function
    rules = [changed.get(gate, rule) for gate, rule in gates_of(flow)]
    concurrency = tuple(rule for rule in rules if isinstance(rule, ConcurrencyRule))
    throttle = next((rule for rule in rules if isinstance(rule, ThrottleRule)), None)
    rate_limit = next((rule for rule in rules if isinstance(rule, RateLimitRule)), None)
    return replace(function, flow=replace(flow, concurrency=concurrency, throttle=throttle, rate_limit=rate_limit))


def in_force(function: FunctionSpec, overrides: Sequence[Override]) -> FunctionSpec:
    """The function with these numbers; as declared where a deploy has made them senseless."""
    try:
        return applied(function, overrides)
    except FunctionError:
        return function


def _with(rule: Rule, override: Override) -> Rule:
    numbers = {"limit": override.limit, "period_ms": override.period_ms, "burst": override.burst}
    return replace(rule, **{name: number for name, number in numbers.items() if number})


def encode_overrides(overrides: Sequence[Override]) -> bytes:
    """As rows and facts have them; equal overrides give equal bytes."""
    return msgspec.json.encode(list(overrides))


_DECODER: Final = msgspec.json.Decoder(tuple[Override, ...])


def decode_overrides(data: bytes) -> tuple[Override, ...]:
    """The overrides of ``encode_overrides``'s bytes. Raises FunctionError when they are something else."""
    try:
        return _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise FunctionError(f"limits refused: expected the JSON of overrides, got {data[:200]!r}: {error}") from error
