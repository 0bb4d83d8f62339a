"""Is what a waiting tool is given refused where it is wrong, in words that say what to write?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from millstream import App, Context, FunctionError, On
from millstream.errors import UnserialisableResult
from millstream.sdk.steps import Driver, StepTools

# What is wrong is found before anything is asked of a driver.
TOOLS = StepTools(cast("Driver", None))
app = App("a")


@app.function()
async def report(ctx: Context) -> int:
    return 1


async def undeclared(ctx: Context) -> int:
    return 1


def any_of(on: object, timeout: Any = "1h") -> Callable[[Any], object]:
    return lambda tools: tools.wait_for_any("w", on, timeout=timeout)


WRONG: dict[str, tuple[Callable[[Any], object], str]] = {
    "no id": (lambda t: t.wait_for_event("", event="x", timeout="1h"), "id"),
    "id that is no text": (lambda t: t.wait_for_signal(7, "x", timeout="1h"), "id"),
    "no event": (lambda t: t.wait_for_event("w", event="", timeout="1h"), "step 'w' refused: event must be the name"),
    "wildcard": (lambda t: t.wait_for_event("w", event="order/*", timeout="1h"), "without wildcards, got 'order/"),
    "event that is no text": (
        lambda t: t.wait_for_event("w", event=5, timeout="1h"),
        "event must be text .* got int 5",
    ),
    "long event": (lambda t: t.wait_for_event("w", event="x" * 9_999, timeout="1h"), "at most [0-9]+ characters"),
    "surrogate": (lambda t: t.wait_for_event("w", event="\udce9", timeout="1h"), "event must be text"),
    "match with a hole": (
        lambda t: t.wait_for_event("w", event="x", match="data..id", timeout="1h"),
        "match must be a path such as 'data.order_id', got 'data..id'. For anything else there is if_",
    ),
    "match that is no text": (lambda t: t.wait_for_event("w", event="x", match=1, timeout="1h"), "match must be text"),
    "if_ that is no text": (lambda t: t.wait_for_event("w", event="x", if_=True, timeout="1h"), "if_ must be text"),
    "timeout too long": (lambda t: t.wait_for_event("w", event="x", timeout="367d"), "at most 366 days, got '367d'"),
    "timeout that is none": (lambda t: t.wait_for_event("w", event="x", timeout="soon"), "the timeout of step 'w'"),
    "no timeout": (lambda t: t.wait_for_event("w", event="x", timeout=None), "the timeout of step 'w' refused"),
    "negative timeout": (lambda t: t.wait_for_event("w", event="x", timeout=-1), "expected a length of 0 to"),
    "lookback": (lambda t: t.wait_for_event("w", event="x", timeout=1, lookback="-1d"), "the lookback of step 'w'"),
    "no list of events": (any_of("order/paid"), r"expected a list of On\(event, match=, if_=\), got str"),
    "one event": (any_of(On("order/paid")), r"expected a list of On\(event"),
    "names": (any_of(["order/paid"]), r"expected On\(event, match=, if_=\), got str 'order/paid'"),
    "no events": (any_of([]), "a wait names 1 to 20 events, got 0"),
    "too many events": (any_of([On("x")] * 21), "a wait names 1 to 20 events, got 21"),
    "all of none": (lambda t: t.wait_for_all("w", [], timeout="1h"), "a wait names 1 to 20 events, got 0"),
    "no signal": (lambda t: t.wait_for_signal("w", "", timeout="1h"), "a signal has a name, got an empty text"),
    "signal that is no text": (lambda t: t.wait_for_signal("w", None, timeout="1h"), "signal must be text"),
    "long signal": (lambda t: t.wait_for_signal("w", "x" * 1_025, timeout="1h"), "at most 1024 characters"),
    "conflict": (
        lambda t: t.wait_for_signal("w", "x", timeout="1h", on_conflict="wait"),
        "on_conflict must be 'fail' or 'replace', got 'wait'",
    ),
    "undeclared function": (
        lambda t: t.invoke("w", undeclared),
        "expected a function that is declared with @app.function, got function",
    ),
    "function by name": (lambda t: t.invoke("w", "a-report"), "in a run with invoke_by_id"),
    "no function": (lambda t: t.invoke_by_id("w", ""), "step 'w'"),
    "function for an id": (lambda t: t.invoke_by_id("w", report), "step 'w'"),
    "data that is no object": (lambda t: t.invoke("w", report, data=[1]), "data must be a JSON object, got"),
    "long invoke": (lambda t: t.invoke("w", report, timeout="400d"), "at most 366 days, got '400d'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_where_it_stands(case: str) -> None:
    call, words = WRONG[case]
    with pytest.raises(FunctionError, match=words):
        call(TOOLS)


def test_data_that_is_no_json_is_refused_naming_the_field() -> None:
    with pytest.raises(UnserialisableResult, match="the data of step 'w'"):
        TOOLS.invoke("w", report, data={"f": object()})
