"""Is everything said about a trigger that would never fire?"""

from __future__ import annotations

import pytest

from millstream.core.triggers.problems import trigger_problems, trigger_warnings
from millstream.model.function import CronTrigger, EventTrigger, TopicTrigger, patterns


@pytest.mark.parametrize("pattern", ["*", "order*", "*.created", "order/*/paid", "order/re*", "a*/b/*", "**", "a/**"])
def test_a_wildcard_that_can_never_match_is_named(pattern: str) -> None:
    (problem,) = trigger_problems(EventTrigger(pattern))
    assert repr(pattern) in problem and "order/*" in problem


@pytest.mark.parametrize("pattern", ["order/paid", "order/*", "order/item.*", "a.*", "inngest/function.failed"])
def test_a_pattern_that_can_match_is_none(pattern: str) -> None:
    assert not list(trigger_problems(EventTrigger(pattern)))
    assert pattern in patterns(pattern.replace("*", "x"))


@pytest.mark.parametrize(
    ("expression", "field"),
    [
        ("event.dat.amount > 100", "event.dat"),
        ("event.data.a == 1 || event['kye'] == 'a'", "event.kye"),
        ("event.timestamp > 1", "event.timestamp"),
        ("has(event.payload.x)", "event.payload"),
        ("event.data.items.exists(i, i == event.amount)", "event.amount"),
    ],
)
def test_a_field_that_no_event_has_is_a_warning(expression: str, field: str) -> None:
    for trigger in (EventTrigger("x", expression), TopicTrigger("x", expression)):
        (warning,) = trigger_warnings(trigger)
        assert f"{field}, which no event has" in warning
        assert not list(trigger_problems(trigger))


@pytest.mark.parametrize(
    "expression",
    ["event.key == 'k' && has(event.meta.kafka)", "event.data.items.exists(event, event.x == 1)", "event.ts > 0"],
)
def test_fields_that_events_have_are_nothing_to_warn_of(expression: str) -> None:
    assert not list(trigger_problems(EventTrigger("x", expression)))
    assert not list(trigger_warnings(EventTrigger("x", expression)))


def test_broken_crons_and_expressions_are_named() -> None:
    assert list(trigger_problems(CronTrigger("61 * * * *")))
    broken = EventTrigger("x", "event.dat.x = 1")
    assert list(trigger_problems(broken)) and not list(trigger_warnings(broken))
    assert not list(trigger_warnings(CronTrigger("61 * * * *")))
