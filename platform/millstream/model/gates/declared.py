"""Flow control of a function: who may start, who must queue, who is dropped; as it is registered.

    rate_limit, idempotency, debounce, batch, singleton    whether an event starts a run at all, and with which others
    throttle, ordered_by, concurrency                      when a run that exists may go on

Every key is CEL over ``event``; without one all runs of the function share one limit. Lengths are milliseconds.

Each rule refuses values that it cannot have; ``senseless`` names what cannot be had together (``TOGETHER``, where a
combination is added). Whether an expression is CEL is checked where an app is loaded: the model has no CEL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from millstream.errors import FunctionError
from millstream.model import limits
from millstream.model.text.durations import duration_text
from millstream.model.text.storable import is_storable, shown

SCOPES: Final = ("fn", "env", "account")
PER: Final = ("step", "run")
SINGLETON_MODES: Final = ("skip", "cancel", "latest")


class ConcurrencyRule(msgspec.Struct, frozen=True, gc=False):
    """At most ``limit`` at once of those with one key.

    ``scope``  ``fn``: of this function; ``env``, ``account``: of all functions whose rule has the same key's value.
    ``per``    ``step``: what executes now is counted; ``run``: open runs are, from start to end.
    """

    limit: int
    key: str = ""
    scope: str = "fn"
    per: str = "step"

    def __post_init__(self) -> None:
        _number("concurrency's limit", self.limit, 1, limits.FLOW_LIMIT_MAX)
        _expression("concurrency's key", self.key)
        _choice("concurrency's scope", self.scope, SCOPES)
        _choice("concurrency's per", self.per, PER)
        if self.scope != "fn" and not self.key:
            raise FunctionError(
                f"concurrency's scope {self.scope!r} needs a key: functions whose rules give the same value share the "
                "limit. Give one, such as key='event.data.customer'; for one limit of them all key=\"'crm'\"."
            )


class ThrottleRule(msgspec.Struct, frozen=True, gc=False):
    """``limit`` starts a ``period_ms``, evenly spread, ``burst`` of them at once; others queue."""

    limit: int
    period_ms: int
    burst: int = 1
    key: str = ""

    def __post_init__(self) -> None:
        _number("throttle's limit", self.limit, 1, limits.FLOW_LIMIT_MAX)
        _length("throttle's period", self.period_ms, limits.FLOW_PERIOD_MS_MIN, limits.THROTTLE_PERIOD_MS_MAX)
        _number("throttle's burst", self.burst, 1, limits.FLOW_LIMIT_MAX)
        _expression("throttle's key", self.key)


class RateLimitRule(msgspec.Struct, frozen=True, gc=False):
    """At most ``limit`` starts in any window of ``period_ms``; others are skipped."""

    limit: int
    period_ms: int
    key: str = ""

    def __post_init__(self) -> None:
        _number("rate_limit's limit", self.limit, 1, limits.FLOW_LIMIT_MAX)
        _length("rate_limit's period", self.period_ms, limits.FLOW_PERIOD_MS_MIN, limits.RATE_LIMIT_PERIOD_MS_MAX)
        _expression("rate_limit's key", self.key)


class DebounceRule(msgspec.Struct, frozen=True, gc=False):
    """The last of several events starts a run, ``period_ms`` after it, ``timeout_ms`` after the first; 0: no bound."""

    period_ms: int
    key: str = ""
    timeout_ms: int = 0

    def __post_init__(self) -> None:
        _length("debounce's period", self.period_ms, limits.FLOW_PERIOD_MS_MIN, limits.DEBOUNCE_PERIOD_MS_MAX)
        _expression("debounce's key", self.key)
        if self.timeout_ms:
            _length("debounce's timeout", self.timeout_ms, limits.FLOW_PERIOD_MS_MIN, limits.DEBOUNCE_TIMEOUT_MS_MAX)
            if self.timeout_ms < self.period_ms:
                raise FunctionError(
                    f"debounce's timeout must be at least its period of {duration_text(self.period_ms)}, got "
                    f"{duration_text(self.timeout_ms)}: no period would ever pass. Are the two swapped?"
                )


class BatchRule(msgspec.Struct, frozen=True, gc=False):
    """Up to ``max_size`` events start one run, ``timeout_ms`` after the first; one whose ``expression`` does not hold
    starts alone."""

    max_size: int
    timeout_ms: int
    key: str = ""
    expression: str = ""

    def __post_init__(self) -> None:
        _number("batch's max_size", self.max_size, limits.BATCH_SIZE_MIN, limits.BATCH_SIZE_MAX)
        _length("batch's timeout", self.timeout_ms, limits.FLOW_PERIOD_MS_MIN, limits.BATCH_TIMEOUT_MS_MAX)
        _expression("batch's key", self.key)
        _expression("batch's if_", self.expression)


class SingletonRule(msgspec.Struct, frozen=True, gc=False):
    """One open run; what becomes of an event that comes meanwhile says ``mode``.

    ``skip``    it starts nothing.
    ``cancel``  the run is cancelled, and the newest event starts one when it is over.
    ``latest``  the newest event starts one when the run is over.
    """

    mode: str
    key: str = ""

    def __post_init__(self) -> None:
        _choice("singleton's mode", self.mode, SINGLETON_MODES)
        _expression("singleton's key", self.key)


class FlowSpec(msgspec.Struct, frozen=True):
    """All flow control of a function. ``priority``, ``idempotency`` and ``ordered_by`` are CEL over ``event``."""

    concurrency: tuple[ConcurrencyRule, ...] = ()
    throttle: ThrottleRule | None = None
    rate_limit: RateLimitRule | None = None
    debounce: DebounceRule | None = None
    batch: BatchRule | None = None
    singleton: SingletonRule | None = None
    priority: str = ""
    idempotency: str = ""
    ordered_by: str = ""

    def __post_init__(self) -> None:
        if len(self.concurrency) > limits.CONCURRENCY_RULES_MAX:
            raise FunctionError(
                f"concurrency takes at most {limits.CONCURRENCY_RULES_MAX} rules, got {len(self.concurrency)}. "
                "Keep the two that protect something."
            )
        _expression("priority", self.priority)
        _expression("idempotency", self.idempotency)
        _expression("ordered_by", self.ordered_by)


# --- what cannot be had together ----------------------------------------------------------------------


class Together(NamedTuple):
    """Two options that a function cannot have together: their names, and why, with what to do.

    ``holds``      whether a function has them so; it is given True when events cancel its runs.
    ``is_unwise``  it works, though never as it was meant: refused where a function is declared in Python, and taken
                   from an app of another SDK, which runs so elsewhere.
    """

    one: str
    other: str
    holds: Callable[[FlowSpec, bool], bool]
    why: str
    is_unwise: bool = False


def senseless(flow: FlowSpec, *, has_cancel_on: bool) -> str:
    """Why no function can have what it declares together: the first of ``TOGETHER`` that holds; empty: none does."""
    held = (together for together in TOGETHER if not together.is_unwise and together.holds(flow, has_cancel_on))
    return next((together.why for together in held), "")


def unwise(flow: FlowSpec) -> str:
    """Why nobody should declare this, though it can be had; empty: there is no reason."""
    return next((together.why for together in TOGETHER if together.is_unwise and together.holds(flow, False)), "")


def _is_same_rule_twice(flow: FlowSpec, _: bool) -> bool:
    counted = [(rule.key, rule.scope, rule.per) for rule in flow.concurrency]
    return len(set(counted)) < len(counted)


def _is_unordered_batch(flow: FlowSpec, _: bool) -> bool:
    return flow.batch is not None and bool(flow.ordered_by) and flow.batch.key != flow.ordered_by


def _is_batch_overtaken(flow: FlowSpec, _: bool) -> bool:
    return flow.batch is not None and bool(flow.ordered_by) and bool(flow.batch.expression)


def _is_same_key_debounced(flow: FlowSpec, _: bool) -> bool:
    return flow.debounce is not None and bool(flow.idempotency) and flow.debounce.key == flow.idempotency


def _is_order_broken_by(rule: ThrottleRule | RateLimitRule | None, flow: FlowSpec) -> bool:
    return rule is not None and bool(flow.ordered_by) and rule.key not in ("", flow.ordered_by)


def _is_run_limit_above_singleton(flow: FlowSpec, _: bool) -> bool:
    single = flow.singleton
    if single is None:
        return False
    return any(rule.per == "run" and rule.scope == "fn" and single.key in ("", rule.key) for rule in flow.concurrency)


def _is_run_limit_above_order(flow: FlowSpec, _: bool) -> bool:
    return bool(flow.ordered_by) and any(
        rule.per == "run" and rule.scope == "fn" and (rule.key == flow.ordered_by or (rule.limit == 1 and not rule.key))
        for rule in flow.concurrency
    )


TOGETHER: Final[tuple[Together, ...]] = (
    Together(
        "batch", "cancel_on", lambda flow, cancels: flow.batch is not None and cancels,
        "batch and cancel_on cannot be had together: a run of many events has no one event that cancel_on could be "
        "compared with. Cancel it by its id, or let each event start a run of its own.",
    ),
    Together(
        "batch", "debounce", lambda flow, _: flow.batch is not None and flow.debounce is not None,
        "batch and debounce cannot be had together: batch collects all events, debounce drops all but the last. "
        "Choose one.",
    ),
    Together(
        "batch", "singleton", lambda flow, _: flow.batch is not None and flow.singleton is not None,
        "batch and singleton cannot be had together: singleton would drop whole batches. For one run at a time write "
        "concurrency=Concurrency(1, per='run'): the batches queue.",
    ),
    Together(
        "batch", "priority", lambda flow, _: flow.batch is not None and bool(flow.priority),
        "batch and priority cannot be had together: the events of a batch have priorities of their own, its run has "
        "one. Declare two functions, each with an if_ for its events.",
    ),
    Together(
        "batch", "idempotency", lambda flow, _: flow.batch is not None and bool(flow.idempotency),
        "batch and idempotency cannot be had together: idempotency drops an event by its value, a batch starts one "
        "run for many. Give the events ids: an event of a known id comes into no second batch.",
    ),
    Together(
        "batch", "rate_limit", lambda flow, _: flow.batch is not None and flow.rate_limit is not None,
        "batch and rate_limit cannot be had together: rate_limit would drop whole batches. Use throttle: they queue.",
    ),
    Together(
        "batch", "ordered_by", _is_unordered_batch,
        "batch and ordered_by must have the same key: a batch would hold events of many values of ordered_by. Give the "
        "batch the key of ordered_by.",
    ),
    Together(
        "batch", "ordered_by", _is_batch_overtaken,
        "batch with if_ and ordered_by cannot be had together: an event that starts alone would overtake those "
        "that are collected. Leave out if_ or ordered_by.",
    ),
    Together(
        "debounce", "ordered_by", lambda flow, _: flow.debounce is not None and bool(flow.ordered_by),
        "debounce and ordered_by cannot be had together: debounce drops all events but the last, ordered_by gives each "
        "a run, in order. For one run at a time of a key write concurrency=Concurrency(1, key=…, per='run').",
    ),
    Together(
        "debounce", "rate_limit", lambda flow, _: flow.debounce is not None and flow.rate_limit is not None,
        "debounce and rate_limit cannot be had together: rate_limit would drop the last event, which debounce is to "
        "keep. debounce already starts one run a period at most; for all keys together use throttle: the runs queue.",
        is_unwise=True,
    ),
    Together(
        "debounce", "idempotency", _is_same_key_debounced,
        "debounce and idempotency cannot have the same key: idempotency drops all events of a value but the first, so "
        "debounce never sees a second one. Leave out idempotency.",
        is_unwise=True,
    ),
    Together(
        "singleton", "ordered_by", lambda flow, _: flow.singleton is not None and bool(flow.ordered_by),
        "singleton and ordered_by cannot be had together: singleton keeps one run and drops or cancels for it, "
        "ordered_by gives each event a run, in order. Choose one.",
    ),
    Together(
        "idempotency", "ordered_by", lambda flow, _: bool(flow.idempotency) and bool(flow.ordered_by),
        "idempotency and ordered_by cannot be had together: events of one value of ordered_by would be looked up at "
        "several places, and overtake each other on the way. Give the events ids: one of a known id starts nothing.",
    ),
    Together(
        "priority", "ordered_by", lambda flow, _: bool(flow.priority) and bool(flow.ordered_by),
        "priority and ordered_by cannot be had together: priority lets a run overtake others, ordered_by forbids it. "
        "Choose one.",
    ),
    Together(
        "throttle", "ordered_by", lambda flow, _: _is_order_broken_by(flow.throttle, flow),
        "throttle with ordered_by must have no key or the same: runs of one value of ordered_by would wait in several "
        "queues, and overtake each other. Give throttle the key of ordered_by, or none.",
    ),
    Together(
        "rate_limit", "ordered_by", lambda flow, _: _is_order_broken_by(flow.rate_limit, flow),
        "rate_limit with ordered_by must have no key or the same: events of one value of ordered_by would be counted "
        "at several places, and overtake each other on the way. Give rate_limit the key of ordered_by, or none.",
    ),
    Together(
        "concurrency", "concurrency", _is_same_rule_twice,
        "concurrency has two rules of the same key, scope and per: only the lower limit would count. Keep that one.",
    ),
    Together(
        "concurrency", "singleton", _is_run_limit_above_singleton,
        "concurrency per='run' with singleton never counts: singleton lets one run of a key be open. Leave one out.",
        is_unwise=True,
    ),
    Together(
        "concurrency", "ordered_by", _is_run_limit_above_order,
        "concurrency per='run' with ordered_by never counts: ordered_by lets one run of a value be open, and one run "
        "at a time leaves nothing to order. Leave one out; for all runs in one order write ordered_by=\"'all'\".",
    ),
)  # fmt: skip
"""What cannot be had together. docs/flow-control.md has a line for each."""


# --- what each value must be --------------------------------------------------------------------------


def _number(what: str, got: int, least: int, most: int) -> None:
    if not least <= got <= most:
        raise FunctionError(f"{what} must be {least:,} to {most:,}, got {shown(got)}. For no limit leave it out.")


def _length(what: str, got_ms: int, least_ms: int, most_ms: int) -> None:
    if not least_ms <= got_ms <= most_ms:
        got = duration_text(got_ms) if got_ms >= 0 else f"{shown(got_ms)} ms"
        raise FunctionError(f"{what} must be {duration_text(least_ms)} to {duration_text(most_ms)}, got {got}.")


def _choice(what: str, got: str, choices: tuple[str, ...]) -> None:
    if got not in choices:
        raise FunctionError(f"{what} must be one of {', '.join(map(repr, choices))}, got {shown(got)}.")


def _expression(what: str, text: str) -> None:
    """Empty is none; whether it is CEL is checked elsewhere."""
    if not text:
        return
    if len(text) > limits.EXPRESSION_CHARS_MAX:
        raise FunctionError(
            f"{what} may have {limits.EXPRESSION_CHARS_MAX:,} characters, got {len(text):,}: {shown(text)}. "
            "Let the sender put the value into a field."
        )
    if not text.strip() or not is_storable(text):
        raise FunctionError(f"{what} must be CEL over event such as 'event.data.customer', got {shown(text)}.")


# --- what a run knows of its gates ------------------------------------------------------------------


class Slot(msgspec.Struct, frozen=True, gc=False):
    """How far a body or step has come on its way through the gates at which executing is counted.

    ``number``  the hand-out number under which it asks, the same at all of them.
    ``asked``, ``passed``  how many of ``RunFlow.slots`` it has asked and passed; it waits at one where they differ.
    """

    number: int
    asked: int = 0
    passed: int = 0


class RunFlow(msgspec.Struct, frozen=True, gc=False):
    """The gates of a run, by their places (``core/flow/places.py``), in the order in which it passes them.

    ``gates``  those it passes once, before it begins.
    ``slots``  those its body and each of its steps pass every time they are handed out.
    ``held``   those that count it as open without being asked by it; they are told its end.
    ``score_ms``  its rank in every queue: the lowest first.
    ``asked``, ``passed``  how many of ``gates`` it has asked and passed.
    ``slot``   where the body is on its way through ``slots``; None: it asks for none, and holds none.
    """

    gates: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    score_ms: int = 0
    asked: int = 0
    passed: int = 0
    slot: Slot | None = None
