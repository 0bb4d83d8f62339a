"""``concurrency`` and ``ordered_by``: so many at once. Who comes when there is no room queues until somebody leaves.

order   ``ordered_by``: one run at a time, in order of arrival
runs    ``per="run"``: a run counts from its start to its end
steps   ``per="step"``: a body or step counts while an executor has it
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from millstream.core.flow.kinds import QueueGate, Room
from millstream.core.flow.places import key_text, place_of, rule_id
from millstream.model.function import FunctionSpec
from millstream.model.gates.declared import ConcurrencyRule, FlowSpec
from millstream.model.gates.rows import GateRow

NAMES: Final = {"run": "runs", "step": "steps"}


def places(per: str, function: FunctionSpec, event: Mapping[str, object]) -> tuple[str, ...]:
    """The places of its rules, each once, in the order in which they are passed.

    It is one for all functions, so that no two runs wait for each other. What few share comes before what many share:
    who waits for the wider limit then holds nothing that keeps others from it.
    """
    if function.flow is None:
        return ()
    rules = sorted((rule for rule in function.flow.concurrency if rule.per == per), key=_width)
    of = (
        place_of(NAMES[per], _id(rule), function.slug if rule.scope == "fn" else rule.scope, key_text(rule.key, event))
        for rule in rules
    )
    return tuple(dict.fromkeys(of))


def _width(rule: ConcurrencyRule) -> tuple[int, str]:
    return {"fn": 0 if rule.key else 1, "env": 2, "account": 3}[rule.scope], rule.key


def _id(rule: ConcurrencyRule) -> str:
    """Functions share a rule of a wider scope where its key is the same."""
    return rule_id(rule.scope, rule.key)


def room(per: str, flow: FlowSpec, rule: str, gate: GateRow, now_ms: int) -> Room:
    """Whether one more may be counted."""
    limits = [one.limit for one in flow.concurrency if one.per == per and _id(one) == rule]
    return Room(not limits or gate.held < min(limits))


def places_in_order(function: FunctionSpec, event: Mapping[str, object]) -> tuple[str, ...]:
    """The place of its key."""
    if function.flow is None or not function.flow.ordered_by:
        return ()
    key = function.flow.ordered_by
    return (place_of("order", rule_id(key), function.slug, key_text(key, event)),)


def room_in_order(flow: FlowSpec, rule: str, gate: GateRow, now_ms: int) -> Room:
    """Whether the run before is over."""
    return Room(gate.held < 1 or not flow.ordered_by or rule_id(flow.ordered_by) != rule)


IN_ORDER: Final = QueueGate(name="order", places=places_in_order, room=room_in_order, by_rank=False)
PER_RUN: Final = QueueGate(name=NAMES["run"], places=partial(places, "run"), room=partial(room, "run"))
PER_STEP: Final = QueueGate(
    name=NAMES["step"], places=partial(places, "step"), room=partial(room, "step"), is_slot=True
)
