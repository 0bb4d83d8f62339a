"""Is a function registered as its options say, and is a wrong option refused where it stands?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from millstream import App, Context, EventTrigger, Exponential, FunctionError, Linear, SyncContext, Table, current
from millstream.model.function import DEFAULT_BACKOFF, CronTrigger
from millstream.model.text.durations import instant_ms, to_ms


async def handler(ctx: Context) -> str:
    return "called"


def test_a_declared_function_stays_a_plain_function() -> None:
    app = App("shop")
    assert app.function(on="order/placed")(handler) is handler


def test_the_spec_says_what_the_options_said() -> None:
    app = App("shop", version="7")
    app.function(
        on=["order/placed", EventTrigger("order/*", "event.data.vip")],
        cron="TZ=Europe/Paris 0 9 * * 1-5",
        id="fulfil",
        name="Fulfil an order",
        retries="unlimited",
        backoff=Table(["1s", 2, timedelta(minutes=1)], jitter="5s"),
        step_timeout="4m30s",
    )(handler)
    [spec] = app.spec().functions
    assert (spec.slug, spec.name, spec.retries, spec.step_timeout_ms) == (
        "shop-fulfil", "Fulfil an order", 1_000_000, 270_000,
    )  # fmt: skip
    assert spec.triggers == (
        EventTrigger("order/placed"), EventTrigger("order/*", "event.data.vip"),
        CronTrigger("TZ=Europe/Paris 0 9 * * 1-5"),
    )  # fmt: skip
    assert spec.backoff.delays_ms == (1_000, 2_000, 60_000) and spec.backoff.jitter_ms == 5_000
    assert app.spec().version == "7"


def test_defaults_are_the_functions_name_four_retries_and_two_hours() -> None:
    app = App("shop")
    app.function(on="x", if_="event.data.n > 1")(handler)
    [spec] = app.spec().functions
    assert (spec.slug, spec.name, spec.retries, spec.step_timeout_ms) == ("shop-handler", "handler", 4, 7_200_000)
    assert spec.triggers == (EventTrigger("x", "event.data.n > 1"),) and spec.backoff == DEFAULT_BACKOFF


def test_a_failure_handler_is_a_function_of_its_own() -> None:
    app = App("it's")

    async def failed(ctx: Context) -> None: ...

    app.function(on="x", on_failure=failed)(handler)
    _, spec = app.spec().functions
    assert (spec.slug, spec.retries) == ("it's-handler-failure", 0)
    assert spec.triggers == (EventTrigger("inngest/function.failed", r"event.data.function_id == 'it\'s-handler'"),)


async def two(ctx: Context, more: int) -> None: ...
async def sync_ctx(ctx: SyncContext) -> None: ...
def async_ctx(ctx: Context) -> None: ...


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda app: app.function(on="x", if_="a" * 5_000)(handler), "characters, got 5000"),
        (lambda app: app.function(if_="true")(handler), "on= names none"),
        (lambda app: app.function(on=EventTrigger("x", "a"), if_="b")(handler), "expression of its own"),
        (lambda app: app.function(on=["x", "x"])(handler), "is there twice"),
        (lambda app: app.function(on=[f"x{i}" for i in range(11)])(handler), "at most 10 triggers"),
        (lambda app: app.function(on=[5])(handler), "event names, EventTriggers and Topics, got 5"),
        (lambda app: app.function(cron="")(handler), "such as"),
        (lambda app: app.function(retries=-1)(handler), "got -1"),
        (lambda app: app.function(retries=True)(handler), "got True"),
        (lambda app: app.function(retries="some")(handler), "got 'some'"),
        (lambda app: app.function(step_timeout=0)(handler), "above 0"),
        (lambda app: app.function(step_timeout="soon")(handler), '"4m30s"'),
        (lambda app: app.function(backoff="1s")(handler), "Exponential(…)"),
        (lambda app: app.function(on_exhausted="keep")(handler), "must be 'fail' or 'hold', got 'keep'"),
        (lambda app: app.function(on_exhausted=["hold"])(handler), "got ['hold']"),
        (lambda app: app.function(id="")(handler), "at least 1"),
        (lambda app: app.function()(two), "takes one argument"),
        (lambda app: app.function()(sync_ctx), "takes a Context"),
        (lambda app: app.function()(async_ctx), "takes a SyncContext"),
        (lambda app: [app.function()(handler), app.function()(handler)], "has one of that id"),
        (lambda app: App(""), "1 to 255"),
    ],
)
def test_wrong_options_are_refused_saying_what_was_got(declare: Callable[[App], object], says: str) -> None:
    with pytest.raises(FunctionError) as refused:
        declare(App("shop"))
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("value", "ms"),
    [(5, 5_000), (0.25, 250), ("5m", 300_000), ("4m30s", 270_000), ("1h", 3_600_000), ("7d", 604_800_000),
     ("1.5h", 5_400_000), ("20ms", 20), (timedelta(minutes=2), 120_000)],
)  # fmt: skip
def test_lengths_are_read_in_every_form(value: object, ms: int) -> None:
    assert to_ms(value, "x") == ms  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["", "5", "5 m", "m5", -1, True, None, float("nan"), float("inf"), timedelta(-1)])
def test_what_is_no_length_is_refused(value: object) -> None:
    with pytest.raises(FunctionError):
        to_ms(value, "x")  # type: ignore[arg-type]


def test_a_time_needs_a_zone() -> None:
    assert instant_ms("1970-01-01T01:00:00+01:00", "x") == 0
    assert instant_ms(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), "x") == 1_000
    for wrong in ("1970-01-01T00:00:00", "tomorrow", datetime(1970, 1, 1)):
        with pytest.raises(FunctionError):
            instant_ms(wrong, "x")


def test_backoffs_are_tables_of_delays() -> None:
    assert Exponential("1s", maximum="10s").spec().delays_ms == (1_000, 2_000, 4_000, 8_000, 10_000)
    assert Linear("10s").spec().delays_ms == (10_000,)
    assert Linear("1s", step="2s", maximum="6s").spec().delays_ms == (1_000, 3_000, 5_000, 6_000)
    for wrong in (lambda: Exponential(factor=1), lambda: Exponential(0), lambda: Table([]), lambda: Linear("x")):
        with pytest.raises(FunctionError):
            wrong()


def test_current_is_known_only_inside_a_run() -> None:
    with pytest.raises(FunctionError):
        current()


def test_declaring_functions_imports_no_server_and_no_http() -> None:
    import subprocess
    import sys

    heavy = {
        "aiohttp",
        "confluent_kafka",
        "rocksdict",
        "fastavro",
        "millstream.core",
        "millstream.log",
        "millstream.state",
    }
    code = f"import sys, millstream; print(sorted({heavy} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    assert told.stdout.strip() == "[]"


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(("platform", os.environ.get("PYTHONPATH", "")))}
