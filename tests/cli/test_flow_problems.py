"""What is wrong with the expressions of flow control is said by ``check``, and by every server at its start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from millstream import App, Batch, Concurrency, Context, Debounce, RateLimit, Singleton, Throttle
from millstream.cli.support.problems import problems_of
from tests.cli.program import millstream, serving

LONG = "event.data." + "x" * 4_085
"""As long as an expression may be."""


def found(**options: Any) -> list[tuple[str, str]]:
    """The severity and the text of what is wrong with a function of these options."""
    app = App("shop")

    @app.function(on="order/placed", **options)
    async def mail(ctx: Context) -> None: ...

    return [(one["severity"], one["problem"]) for one in problems_of(app)]


@pytest.mark.parametrize(
    "key",
    [
        "event.data.customer", "event.data['the-key']", "event.data.a + '-' + event.data.b", "string(event.data.n)",
        "'all'", "5", "event.data.n > 5", "event.data.n * 2.5", "[event.data.a, event.data.b]", "event.key", "event.id",
        "has(event.data.customer) ? event.data.customer : 'none'", "event.data.a // a comment", LONG,
        "'always gives'",
    ],
)  # fmt: skip
def test_a_key_may_give_any_value(key: str) -> None:
    assert found(concurrency=Concurrency(5, key), idempotency=key) == []


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("event.data.", "is not valid at line 1, column"),
        ("event.data.a = 5", "Write == to compare."),
        ("async.data.customer", "is not valid"),
        ("customer", "Known names: event."),
        ("event.data.a) == dyn(event.data.b", "is not valid"),
        ("a, b", "is not valid"),
        ("'always gives' +", "is not valid"),
        ("event.data.\x00", "NUL"),
    ],
)
@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("concurrency's key", lambda key: {"concurrency": Concurrency(5, key, "env")}),
        ("throttle's key", lambda key: {"throttle": Throttle(5, 60, key=key)}),
        ("rate_limit's key", lambda key: {"rate_limit": RateLimit(5, 60, key)}),
        ("debounce's key", lambda key: {"debounce": Debounce(5, key)}),
        ("batch's key", lambda key: {"batch": Batch(5, 60, key)}),
        ("batch's if_", lambda key: {"batch": Batch(5, 60, if_=key)}),
        ("singleton's key", lambda key: {"singleton": Singleton("skip", key)}),
        ("idempotency", lambda key: {"idempotency": key}),
        ("ordered_by", lambda key: {"ordered_by": key}),
        ("priority", lambda key: {"priority": key, "concurrency": 5}),
    ],
)
def test_an_expression_that_is_none_is_a_problem_of_the_option_it_stands_in(
    name: str, option: Any, key: str, said: str
) -> None:
    ((severity, text),) = found(**option(key))
    assert severity == "problem"
    assert text.startswith(f"{name}: expression ")
    assert said in text


def test_a_condition_must_give_true_or_false_and_a_priority_a_number() -> None:
    assert found(batch=Batch(5, 60, if_="event.data.urgent")) == []
    assert found(priority="event.data.plan == 'pro' ? 60 : 0", concurrency=5) == []
    assert found(priority="event.data.rank", concurrency=5) == []
    assert found(priority="event.data.rank * -1.5", throttle=Throttle(1, 60)) == []
    ((_, text),) = found(batch=Batch(5, 60, if_="'yes'"))
    assert text.startswith("batch's if_: expression \"'yes'\" always gives string, expected true or false.")
    ((_, text),) = found(priority="'high'", concurrency=5)
    assert text == (
        "priority: expression \"'high'\" always gives string, expected seconds from -600 to 600 such as: "
        "event.data.plan == 'pro' ? 60 : 0."
    )


def test_a_field_that_no_event_has_is_a_warning() -> None:
    for options in (
        {"concurrency": Concurrency(5, "event.dat.customer")},
        {"ordered_by": "string(event.dat.customer)"},
        {"batch": Batch(5, 60, if_="event.dat.customer == 1")},
        {"priority": "event.dat.customer", "concurrency": 5},
    ):
        ((severity, text),) = found(**options)
        assert severity == "warning" and "reads event.dat, which no event has" in text


def test_a_priority_with_nothing_to_wait_for_is_a_warning() -> None:
    ((severity, text),) = found(priority="60")
    assert severity == "warning" and text.startswith("priority changes nothing: ")


APP = """
from millstream import App, Concurrency, Context
app = App("mailer")

@app.function(on="order/placed", {options})
async def mail(ctx: Context) -> None: ...
"""


def test_check_fails_on_a_key_that_is_none_and_a_server_says_it_at_its_start(tmp_path: Path) -> None:
    (tmp_path / "mailer.py").write_text(APP.format(options="concurrency=Concurrency(5, key='event.data.')"))
    checked = millstream("check", "mailer:app", cwd=tmp_path)
    (row,) = checked.rows
    assert checked.code == 6
    assert row["function"] == "mailer-mail"
    assert row["problem"].startswith("concurrency's key: expression 'event.data.' is not valid")
    with serving(tmp_path, "mailer:app") as served:
        assert any("problem: mailer-mail: concurrency's key: " in line for line in served.told), served.told


def test_check_fails_on_what_cannot_be_had_together_naming_the_line(tmp_path: Path) -> None:
    (tmp_path / "mailer.py").write_text(APP.format(options="ordered_by='event.data.a', priority='60'"))
    checked = millstream("check", "mailer:app", cwd=tmp_path)
    assert checked.code == 6, checked
    (row,) = checked.rows
    assert "function 'mailer-mail' refused: priority and ordered_by cannot be had together" in row["problem"]
    assert "mailer.py:5" in row["problem"]
