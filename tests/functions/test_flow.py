"""Is flow control registered as it is declared, and is what cannot be refused where it stands, with the reason?"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream import (
    App,
    Batch,
    CancelOn,
    Concurrency,
    Context,
    Debounce,
    FunctionError,
    RateLimit,
    Singleton,
    Throttle,
)
from millstream.model import limits
from millstream.model.function import AppSpec, FunctionSpec, decode_app_spec, encode_app_spec
from millstream.model.gates.declared import (
    TOGETHER,
    BatchRule,
    ConcurrencyRule,
    DebounceRule,
    FlowSpec,
    RateLimitRule,
    SingletonRule,
    ThrottleRule,
    senseless,
)
from millstream.wire.messages import decode_app, encode_app

DAY_S = 86_400
LONG = "event.data." + "x" * 5_000


async def mail(ctx: Context) -> None: ...


def declared(**options: Any) -> FlowSpec | None:
    """The flow control of a function with these options."""
    app = App("shop")
    app.function(on="order/placed", **options)(mail)
    return app.spec().functions[0].flow


def refused(**options: Any) -> str:
    """What the author is told of these options."""
    with pytest.raises(FunctionError) as error:
        declared(**options)
    return str(error.value)


def test_a_function_that_declares_nothing_has_no_flow_control() -> None:
    assert declared() is None
    assert declared(concurrency=[], throttle=None, priority="") is None


def test_the_spec_says_what_the_options_said() -> None:
    assert declared(
        concurrency=[Concurrency(10, key="event.data.customer"), Concurrency(3, key="'crm'", scope="env", per="run")],
        throttle=Throttle(5, "1m", burst=2, key="event.data.region"),
        rate_limit=RateLimit(100, timedelta(hours=1)),
        singleton=Singleton("latest", key="event.data.user"),
        priority="event.data.plan == 'pro' ? 60 : 0",
        idempotency="event.data.order_id",
    ) == FlowSpec(
        concurrency=(ConcurrencyRule(10, "event.data.customer"), ConcurrencyRule(3, "'crm'", "env", "run")),
        throttle=ThrottleRule(5, 60_000, 2, "event.data.region"),
        rate_limit=RateLimitRule(100, 3_600_000),
        singleton=SingletonRule("latest", "event.data.user"),
        priority="event.data.plan == 'pro' ? 60 : 0",
        idempotency="event.data.order_id",
    )
    assert declared(debounce=Debounce("10s", key="event.data.doc", timeout=60)) == FlowSpec(
        debounce=DebounceRule(10_000, "event.data.doc", 60_000)
    )
    assert declared(batch=Batch(100, "5s", "event.data.t", "event.data.n > 1"), ordered_by="") == FlowSpec(
        batch=BatchRule(100, 5_000, "event.data.t", "event.data.n > 1")
    )


def test_a_number_is_a_concurrency_of_the_function() -> None:
    five = FlowSpec(concurrency=(ConcurrencyRule(5),))
    assert declared(concurrency=5) == declared(concurrency=Concurrency(5)) == declared(concurrency=[5]) == five


def test_a_mode_may_be_a_member_of_an_enum() -> None:
    class Mode(StrEnum):
        SKIP = "skip"

    flow = declared(singleton=Singleton(Mode.SKIP))
    assert flow is not None and flow.singleton is not None
    assert type(flow.singleton.mode) is str


def test_a_failure_handler_has_none_of_it() -> None:
    app = App("shop")
    app.function(on="order/placed", concurrency=5, on_failure=mail)(mail)
    assert [spec.flow is None for spec in app.spec().functions] == [False, True]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"concurrency": 0}, "concurrency's limit must be 1 to 1,000,000, got 0. For no limit leave it out."),
        ({"concurrency": 1_000_001}, "concurrency's limit must be 1 to 1,000,000, got 1000001."),
        ({"concurrency": True}, "concurrency must be a whole number, got bool True."),
        ({"concurrency": "5"}, "concurrency takes a number or Concurrency(limit, key=, scope=, per=), or a list"),
        ({"concurrency": Concurrency(2.5)}, "concurrency's limit must be a whole number, got float 2.5."),
        ({"concurrency": Concurrency(5, key=7)}, "concurrency's key must be text, got int 7."),
        ({"concurrency": Concurrency(5, key="  ")}, "concurrency's key must be CEL over event such as"),
        ({"concurrency": Concurrency(5, key="\ud800")}, "concurrency's key must be CEL over event such as"),
        ({"concurrency": Concurrency(5, key=LONG)}, "concurrency's key may have 4,096 characters, got 5,011:"),
        ({"concurrency": Concurrency(5, scope="app")}, "scope must be one of 'fn', 'env', 'account', got 'app'."),
        ({"concurrency": Concurrency(5, per="try")}, "concurrency's per must be one of 'step', 'run', got 'try'."),
        ({"concurrency": Concurrency(5, scope="env")}, "concurrency's scope 'env' needs a key: "),
        ({"concurrency": Concurrency(5, scope="account")}, "concurrency's scope 'account' needs a key: "),
        ({"concurrency": [Concurrency(n, key=f"event.data.k{n}") for n in (1, 2, 3)]}, "at most 2 rules, got 3."),
        ({"throttle": "5/m"}, "throttle takes Throttle(limit, period, burst=, key=), got str '5/m'."),
        ({"throttle": Throttle(0, "1m")}, "throttle's limit must be 1 to 1,000,000, got 0."),
        ({"throttle": Throttle(1, "1m", burst=0)}, "throttle's burst must be 1 to 1,000,000, got 0."),
        ({"throttle": Throttle(1, 0.5)}, "throttle's period must be 1s to 7d, got 500ms."),
        ({"throttle": Throttle(1, "8d")}, "throttle's period must be 1s to 7d, got 8d."),
        ({"throttle": Throttle(1, "soon")}, "throttle's period refused: expected a timedelta, seconds, or text"),
        ({"throttle": Throttle(1, 60, key=b"k")}, "throttle's key must be text, got bytes b'k'."),
        ({"rate_limit": 5}, "rate_limit takes RateLimit(limit, period, key=), got int 5."),
        ({"rate_limit": RateLimit(-1, "1m")}, "rate_limit's limit must be 1 to 1,000,000, got -1."),
        ({"rate_limit": RateLimit(1, "25h")}, "rate_limit's period must be 1s to 1d, got 1d1h."),
        ({"rate_limit": RateLimit(1, 0)}, "rate_limit's period must be 1s to 1d, got 0s."),
        ({"debounce": "10s"}, "debounce takes Debounce(period, key=, timeout=), got str '10s'."),
        ({"debounce": Debounce("0.1s")}, "debounce's period must be 1s to 7d, got 100ms."),
        ({"debounce": Debounce("10s", timeout=0)}, "debounce's timeout must be above 0, or left out, got int 0."),
        ({"debounce": Debounce("10s", timeout="31d")}, "debounce's timeout must be 1s to 30d, got 31d."),
        ({"debounce": Debounce("1m", timeout="10s")}, "debounce's timeout must be at least its period of 1m, got 10s"),
        ({"batch": 100}, "batch takes Batch(max_size, timeout, key=, if_=), got int 100."),
        ({"batch": Batch(1, "10s")}, "batch's max_size must be 2 to 1,000, got 1."),
        ({"batch": Batch(1_001, "10s")}, "batch's max_size must be 2 to 1,000, got 1001."),
        ({"batch": Batch(10, "10ms")}, "batch's timeout must be 1s to 7d, got 10ms."),
        ({"batch": Batch(10, "10s", if_=True)}, "batch's if_ must be text, got bool True."),
        ({"singleton": "skip"}, 'singleton takes Singleton("skip" or "cancel" or "latest", key=), got str \'skip\'.'),
        ({"singleton": Singleton("queue")}, "singleton's mode must be one of 'skip', 'cancel', 'latest', got 'queue'."),
        ({"priority": 60}, "priority must be text, got int 60."),
        ({"idempotency": " "}, "idempotency must be CEL over event such as 'event.data.customer', got ' '."),
        ({"ordered_by": None}, "ordered_by must be text, got NoneType None."),
        ({"ordered_by": LONG}, "ordered_by may have 4,096 characters, got 5,011:"),
    ],
)  # fmt: skip
def test_what_no_option_can_be_is_refused_with_what_was_expected_and_got(options: dict[str, Any], said: str) -> None:
    told = refused(**options)
    assert told.startswith("function 'shop-mail' refused: ")
    assert said in told


ORDER = "event.data.account"
CANNOT = [
    ({"batch": Batch(9, 9), "cancel_on": CancelOn("order/cancelled")}, "batch and cancel_on"),
    ({"batch": Batch(9, 9), "debounce": Debounce(9)}, "batch and debounce"),
    ({"batch": Batch(9, 9), "singleton": Singleton("skip")}, "batch and singleton"),
    ({"batch": Batch(9, 9), "priority": "60"}, "batch and priority"),
    ({"batch": Batch(9, 9), "idempotency": "event.data.id"}, "batch and idempotency"),
    ({"batch": Batch(9, 9), "rate_limit": RateLimit(1, 9)}, "batch and rate_limit"),
    ({"batch": Batch(9, 9), "ordered_by": ORDER}, "batch and ordered_by must have the same key"),
    ({"batch": Batch(9, 9, ORDER, "event.data.n > 1"), "ordered_by": ORDER}, "batch with if_ and ordered_by"),
    ({"debounce": Debounce(9), "ordered_by": ORDER}, "debounce and ordered_by"),
    ({"debounce": Debounce(9), "rate_limit": RateLimit(1, 9)}, "debounce and rate_limit"),
    ({"debounce": Debounce(9, key=ORDER), "idempotency": ORDER}, "debounce and idempotency cannot have the same key"),
    ({"singleton": Singleton("skip", key=ORDER), "ordered_by": ORDER}, "singleton and ordered_by"),
    ({"idempotency": "event.data.id", "ordered_by": ORDER}, "idempotency and ordered_by"),
    ({"priority": "60", "ordered_by": ORDER}, "priority and ordered_by"),
    ({"throttle": Throttle(1, 9, key="event.data.region"), "ordered_by": ORDER}, "throttle with ordered_by"),
    ({"rate_limit": RateLimit(1, 9, key="event.data.region"), "ordered_by": ORDER}, "rate_limit with ordered_by"),
    ({"concurrency": [5, 5]}, "concurrency has two rules of the same key"),
    ({"concurrency": [Concurrency(5, ORDER), Concurrency(7, ORDER)]}, "concurrency has two rules of the same key"),
    ({"concurrency": Concurrency(5, ORDER, per="run"), "singleton": Singleton("skip")}, "per='run' with singleton"),
    ({"concurrency": Concurrency(1, ORDER, per="run"), "ordered_by": ORDER}, "per='run' with ordered_by"),
    ({"concurrency": Concurrency(1, per="run"), "ordered_by": ORDER}, "per='run' with ordered_by"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "said"), CANNOT)
def test_a_combination_that_makes_no_sense_is_refused_with_the_reason(options: dict[str, Any], said: str) -> None:
    told = refused(**options)
    assert told.startswith("function 'shop-mail' refused: ")
    assert said in told


def test_each_combination_that_is_refused_has_a_case_here() -> None:
    told = {refused(**options).removeprefix("function 'shop-mail' refused: ") for options, _ in CANNOT}
    assert told == {together.why for together in TOGETHER}


@pytest.mark.parametrize(
    "options",
    [
        {"batch": Batch(9, 9, ORDER), "ordered_by": ORDER},
        {"batch": Batch(9, 9), "throttle": Throttle(1, 9), "concurrency": 5},
        {"debounce": Debounce(9), "throttle": Throttle(1, 9), "singleton": Singleton("latest"), "priority": "60"},
        {"debounce": Debounce(9, "event.data.doc"), "idempotency": "event.id"},
        {"idempotency": ORDER, "rate_limit": RateLimit(1, 9, ORDER)},
        {"ordered_by": ORDER, "throttle": Throttle(1, 9), "rate_limit": RateLimit(1, 9)},
        {"ordered_by": ORDER, "throttle": Throttle(1, 9, key=ORDER), "concurrency": Concurrency(1, ORDER)},
        {"ordered_by": ORDER, "concurrency": Concurrency(5, per="run")},
        {"ordered_by": ORDER, "concurrency": Concurrency(1, ORDER, "env", "run")},
        {"singleton": Singleton("skip", ORDER), "concurrency": [Concurrency(5, per="run"), Concurrency(1, ORDER)]},
        {"concurrency": [Concurrency(5), Concurrency(5, per="run")]},
        {"concurrency": [Concurrency(5, ORDER), Concurrency(5, ORDER, scope="env")]},
        {"cancel_on": CancelOn("order/cancelled"), "ordered_by": ORDER, "concurrency": 5},
    ],
)  # fmt: skip
def test_what_makes_sense_together_is_taken(options: dict[str, Any]) -> None:
    assert declared(**options) is not None


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        ({"concurrency": [{"limit": 0}]}, "concurrency's limit must be 1"),
        ({"concurrency": [{"limit": 5, "scope": "env"}]}, "needs a key"),
        ({"throttle": {"limit": 1, "period_ms": -1}}, "throttle's period must be 1s to 7d, got -1 ms"),
        ({"rate_limit": {"limit": 1, "period_ms": 10**15}}, "rate_limit's period must be 1s to 1d"),
        ({"batch": {"max_size": 5, "timeout_ms": 1_000}, "priority": "1"}, "function 'shop-mail' refused: batch and"),
        ({"throttle": {"limit": "1", "period_ms": 1_000}}, "app refused: expected the JSON of an app"),
    ],
)
def test_an_app_of_another_language_is_refused_in_the_same_words(flow: dict[str, Any], said: str) -> None:
    spec = {"id": "shop", "functions": [{"slug": "shop-mail", "name": "mail", "flow": flow}]}
    with pytest.raises(FunctionError) as error:
        decode_app_spec(msgspec.json.encode(spec))
    assert said in str(error.value)


# --- any valid declaration ----------------------------------------------------------------------------

KEYS = st.sampled_from(["", ORDER, "event.data.id", "'all'"]) | st.text(
    st.characters(codec="utf-8"), min_size=1, max_size=20
).filter(str.strip)
LIMITS = st.integers(1, limits.FLOW_LIMIT_MAX)


def seconds(longest_s: float) -> st.SearchStrategy[Any]:
    """A length in each form that an option takes."""
    whole = st.integers(1, int(longest_s))
    return whole | whole.map(lambda s: timedelta(seconds=s)) | whole.map(lambda s: f"{s}s") | st.floats(1, longest_s)


RULES = st.builds(Concurrency, LIMITS, KEYS, st.just("fn"), st.sampled_from(["step", "run"])) | st.builds(
    Concurrency, LIMITS, KEYS.filter(bool), st.sampled_from(["env", "account"]), st.sampled_from(["step", "run"])
)
DEBOUNCES = st.tuples(seconds(7 * DAY_S), KEYS, st.none() | st.just("30d")).map(lambda given: Debounce(*given))
OPTIONS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "concurrency": LIMITS | RULES | st.lists(RULES | LIMITS, max_size=2),
        "throttle": st.builds(Throttle, LIMITS, seconds(7 * DAY_S), LIMITS, KEYS),
        "rate_limit": st.builds(RateLimit, LIMITS, seconds(DAY_S), KEYS),
        "debounce": DEBOUNCES,
        "batch": st.builds(Batch, st.integers(2, 1_000), seconds(7 * DAY_S), KEYS, KEYS),
        "singleton": st.builds(Singleton, st.sampled_from(["skip", "cancel", "latest"]), KEYS),
        "priority": KEYS,
        "idempotency": KEYS,
        "ordered_by": KEYS,
        "cancel_on": st.just(CancelOn("order/cancelled")),
    },
)


@given(OPTIONS)
def test_any_valid_declaration_comes_back_as_it_was_registered(options: dict[str, Any]) -> None:
    why, flow = "", None
    try:
        flow = declared(**options)
    except FunctionError as error:
        why = str(error).removeprefix("function 'shop-mail' refused: ")
    if why:  # Each option alone is valid, so only their combination can be refused.
        assert why in {together.why for together in TOGETHER}
        return
    app = AppSpec("shop", (FunctionSpec("shop-mail", "mail", flow=flow),))
    assert decode_app_spec(encode_app_spec(app)) == decode_app(encode_app(app)) == app
    assert flow is None or senseless(flow, has_cancel_on="cancel_on" in options) == ""
    given_some = any(options.get(name, "") not in ("", []) for name in options if name != "cancel_on")
    assert (flow is not None) is given_some
