"""The places of a run's gates: which gate, of whose, for which value of its key; and so its home.

    3fa2/throttle/9c1d07a2/shop-fulfil/seu      digits of the home, gate, rule, whose, value of the key

Keys are evaluated once, when the event is read. A key that is missing, null or cannot be evaluated is null, a value
like any other: all events without a value share one place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

from millstream.core.triggers.equality import OWN, value_text
from millstream.core.triggers.expressions import compile_expression
from millstream.model import limits
from millstream.model.function import FunctionSpec
from millstream.model.gates.declared import FlowSpec

RULES_KEPT_MAX: Final = 4_096
KEY_CHARS_SHOWN: Final = 120
"""A longer value is known by its hash."""
ALL: Final = ""
"""The value where there is no key."""
NULL: Final = value_text(None)
"""The value of a key that gives nothing."""
SHOWN: Final = {"order": "ordered_by", "runs": "concurrency", "steps": "concurrency"}
"""The option that declares a gate, where its name is another."""


class Place(NamedTuple):
    """A place taken apart. ``rule`` says which of a function's rules it belongs to; ``rest`` whose it is, and the
    value."""

    gate: str
    rule: str
    rest: str


def parts_of(place: str) -> Place:
    """The parts of a place."""
    _, gate, rule, rest = place.split("/", 3)
    return Place(gate, rule, rest)


def gate_and_key(place: str) -> tuple[str, str]:
    """What people are told of a place: the option that declares its gate, and the value of the key as JSON.

    The value is empty where the function's runs share one place, and ``#`` with a hash where it is long.
    """
    gate, _, rest = parts_of(place)
    _, _, value = rest.partition("/")
    return SHOWN.get(gate, gate), "" if value == ALL else json.dumps(value[1:]) if value.startswith("s") else value


def whose(place: str) -> str:
    """Whose the place is: the id of a function, or a scope."""
    name, _, _ = parts_of(place).rest.partition("/")
    return name.replace("%2F", "/").replace("%25", "%")


def place_of(gate: str, rule: str, whose: str, value: str) -> str:
    """The place of a gate for one value of its key."""
    if len(value) > KEY_CHARS_SHOWN:
        value = f"#{blake2b(value.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"
    whose = whose.replace("%", "%25").replace("/", "%2F")
    text = f"{gate}/{rule}/{whose}/{value}"
    return f"{blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=2).hexdigest()}/{text}"


@lru_cache(maxsize=RULES_KEPT_MAX)
def rule_id(*parts: object) -> str:
    """What tells the rules of one gate apart: a rule whose key or scope is another is another rule."""
    return blake2b("\x00".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


class Keyed(Protocol):
    """A rule with a key."""

    @property
    def key(self) -> str: ...


def by_key(
    gate: str, rule_of: Callable[[FlowSpec], Keyed | None]
) -> Callable[[FunctionSpec, Mapping[str, object]], tuple[str, ...]]:
    """``places`` of a gate with one rule: the place of its key; none where a function has no such rule."""

    def places(function: FunctionSpec, event: Mapping[str, object]) -> tuple[str, ...]:
        rule = rule_of(function.flow) if function.flow is not None else None
        if rule is None:
            return ()
        return (place_of(gate, rule_id(rule.key), function.slug, key_text(rule.key, event)),)

    return places


def value_of(expression: str, event: Mapping[str, object]) -> object:
    """What an expression gives for an event; None where it gives nothing: it is a user's, and may fail on any event."""
    try:
        return compile_expression(expression, is_condition=False).evaluate({OWN: event}).value
    except Exception:
        return None


def key_text(expression: str, event: Mapping[str, object]) -> str:
    """The value of a key as text: the same exactly for values that CEL holds for equal."""
    return value_text(value_of(expression, event)) if expression else ALL


def score_of(expression: str, event: Mapping[str, object], queued_at_ms: int) -> int:
    """The rank in queues: the time, less the seconds of the priority. One that is no number is none."""
    seconds = value_of(expression, event) if expression else 0
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds != seconds:
        seconds = 0
    most = limits.PRIORITY_S_MAX
    return max(queued_at_ms - int(max(-most, min(seconds, most)) * 1_000), 0)
