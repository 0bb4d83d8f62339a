"""A registration as the SDKs send it becomes the app that the engine knows; what cannot be is refused by name.

``registrations.json`` has what PyPI's ``inngest`` 0.5.19 and npm's 4.24.0 sent, with some of their functions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from millstream.errors import BadRequest
from millstream.model import limits
from millstream.model.function import (
    AppSpec,
    CancelTrigger,
    CronTrigger,
    EventTrigger,
    FunctionSpec,
    Remote,
    decode_app_spec,
    encode_app_spec,
)
from millstream.model.gates.declared import (
    BatchRule,
    ConcurrencyRule,
    DebounceRule,
    FlowSpec,
    RateLimitRule,
    SingletonRule,
    ThrottleRule,
)
from millstream.wire.app_urls import base_url, call_url
from millstream.wire.registration.app import InvalidFunctions, app_in, app_of

SENT: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("registrations.json").read_text())
URL = "http://127.0.0.1:3000/api/inngest"


def registration(**options: Any) -> dict[str, Any]:
    """One function, with these options."""
    url = f"{URL}?fnId=shop-f&stepId=step"
    steps = {"step": {"id": "step", "name": "step", "runtime": {"type": "http", "url": url}}}
    function = {"id": "shop-f", "name": "f", "triggers": [{"event": "x"}], "steps": steps} | options
    return {"appName": "shop", "url": URL, "sdk": "js:v4.24.0", "v": "0.1", "functions": [function]}


def function(**options: Any) -> FunctionSpec:
    """The function of ``registration``."""
    return app_in(registration(**options)).functions[0]


def refused(**options: Any) -> str:
    """Why the function of ``registration`` is refused."""
    with pytest.raises(InvalidFunctions) as error:
        app_in(registration(**options))
    assert "'shop-f'" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("sdk", "app"), [("py", "wire py"), ("js", "wire js")])
def test_every_option_of_both_sdks_becomes_the_rule_that_it_means(sdk: str, app: str) -> None:
    read = app_of(json.dumps(SENT[sdk]).encode())
    assert (read.id, read.endpoint, read.version) == (app, URL, "v1")
    assert read.functions[-1] == FunctionSpec(
        slug=f"{app}-configured",
        name="configured",
        triggers=(EventTrigger("wire/conf", "event.data.x > 1"), CronTrigger("TZ=Europe/Paris 0 3 * * *")),
        retries=3,
        cancel_on=(CancelTrigger("wire/stop", expression="event.data.id == async.data.id", timeout_ms=limits.HOUR_MS),),
        start_ms=30_000,
        finish_ms=2 * limits.HOUR_MS,
        flow=FlowSpec(
            concurrency=(ConcurrencyRule(2, "event.data.u"), ConcurrencyRule(9, "'k'", "env")),
            throttle=ThrottleRule(10, limits.MINUTE_MS, 2, "event.data.u"),
            rate_limit=RateLimitRule(5, limits.HOUR_MS, "event.data.u"),
            debounce=DebounceRule(10_000, "event.data.u", 270_000),
            priority="event.data.vip ? 60 : 0",
            idempotency="event.data.id",
        ),
    )


@pytest.mark.parametrize("sdk", ["py", "js"])
def test_what_is_read_is_stored_and_read_again_the_same(sdk: str) -> None:
    read = app_in(SENT[sdk])
    assert decode_app_spec(encode_app_spec(read)) == read


def test_the_sdks_spell_the_keys_of_an_app_as_they_like() -> None:
    py, js = app_in(SENT["py"]), app_in(SENT["js"])
    assert py.remote == Remote(URL, "py:v0.5.19", "fast_api")
    assert js.remote == Remote(URL, "js:v4.24.0", "nodejs")


def test_the_answer_to_an_in_band_sync_is_a_registration_as_well() -> None:
    body = registration() | {"app_id": "shop", "sdk_language": "py", "sdk_version": "0.5.19", "framework": "flask"}
    del body["appName"], body["sdk"]
    assert app_in(body).remote == Remote(URL, "py:v0.5.19", "flask")


def test_a_failure_handler_is_an_ordinary_function() -> None:
    found = next(f for f in app_in(SENT["py"]).functions if f.slug == "wire py-fails-failure")
    assert found.triggers == (EventTrigger("inngest/function.failed", "event.data.function_id == 'wire py-fails'"),)
    assert (found.retries, found.flow, found.cancel_on) == (0, None, ())


def test_what_is_left_out_is_as_the_sdks_say() -> None:
    found = function(name=None, triggers=None, cancel=[], concurrency=[], batchEvents={"maxSize": 3})
    assert (found.name, found.triggers, found.retries) == ("shop-f", (), limits.RETRIES_DEFAULT)
    assert found.flow == FlowSpec(batch=BatchRule(3, limits.MINUTE_MS))
    assert function(throttle=None, priority={}, timeouts={"start": None}).flow is None


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        (5, [ConcurrencyRule(5)]),
        ({"limit": 5, "key": "event.data.u"}, [ConcurrencyRule(5, "event.data.u")]),
        ([{"limit": 0}], []),
        (0, []),
        ([{"limit": 5, "scope": None}, {"limit": 3}], [ConcurrencyRule(3)]),
        ({"fn": 2}, [ConcurrencyRule(2, per="run")]),
        ({"fn": [{"limit": 2, "key": "'a'"}], "step": 7}, [ConcurrencyRule(2, "'a'", per="run"), ConcurrencyRule(7)]),
        ({"step": {"limit": 4, "scope": "account", "key": "'a'"}}, [ConcurrencyRule(4, "'a'", "account")]),
    ],
)
def test_concurrency_is_taken_in_every_form(given: Any, rules: list[ConcurrencyRule]) -> None:
    flow = function(concurrency=given).flow
    assert list(flow.concurrency if flow is not None else ()) == rules


@pytest.mark.parametrize("mode", ["skip", "cancel"])
def test_the_other_options_of_flow_control(mode: str) -> None:
    assert function(singleton={"mode": mode, "key": "event.data.u"}).flow == FlowSpec(
        singleton=SingletonRule(mode, "event.data.u")
    )
    assert function(batchEvents={"maxSize": 3, "timeout": "2s", "key": "event.data.u", "if": "event.data.x"}).flow == (
        FlowSpec(batch=BatchRule(3, 2_000, "event.data.u", "event.data.x"))
    )


def test_a_cron_may_have_a_jitter() -> None:
    found = function(triggers=[{"cron": "0 * * * *", "jitter": "30s"}])
    assert found.triggers == (CronTrigger("0 * * * *", 30_000),)
    assert "1s to 5m" in refused(triggers=[{"cron": "0 * * * *", "jitter": "6m"}])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": {}}, "one entry in steps"),
        ({"steps": {"step": {"runtime": {"type": "ws", "url": URL}}}}, "type http"),
        ({"steps": {"step": {"runtime": {"url": URL}, "retries": {"attempts": 21}}}}, "0 to 20, got 21"),
        ({"triggers": [{}]}, "an event or a cron"),
        ({"triggers": [{"cron": "0 * * * *"}] * 2}, "twice"),
        ({"triggers": [{"event": "x" * 256}]}, "1 to 255"),
        ({"triggers": [{"event": f"e{n}"} for n in range(11)]}, "at most 10 triggers"),
        ({"concurrency": [{"limit": n} for n in (1, 2, 3)]}, "at most 2"),
        ({"concurrency": [{"limit": 1, "scope": "env"}]}, "needs a key"),
        ({"concurrency": [{"limit": "many"}]}, "concurrency: "),
        ({"throttle": {"limit": 1}}, "period"),
        ({"throttle": {"limit": 1, "period": "8d"}}, "1s to 7d, got 8d"),
        ({"rateLimit": {"limit": 1, "period": "25h"}}, "1s to 1d"),
        ({"debounce": {"period": "1ms"}}, "1s to 7d, got 1ms"),
        ({"debounce": {"period": "soon"}}, "debounce's period"),
        ({"batchEvents": {"maxSize": 1, "timeout": "1s"}}, "2 to 1,000"),
        ({"batchEvents": {"maxSize": 2, "timeout": "1s"}, "cancel": [{"event": "x"}]}, "batch and cancel_on"),
        ({"batchEvents": {"maxSize": 2, "timeout": "1s"}, "singleton": {"mode": "skip"}}, "batch and singleton"),
        ({"singleton": {"mode": "latest"}}, "one of skip, cancel"),
        ({"timeouts": {"start": "0s"}}, "above 0"),
        ({"cancel": [{"event": f"e{n}"} for n in range(6)]}, "at most 5"),
        ({"cancel": [{"event": "x", "timeout": "2027-01-01T00:00:00.000Z"}]}, "timeout of cancelOn"),
        ({"idempotency": 5}, "idempotency"),
    ],
)
def test_an_option_that_cannot_be_is_refused_with_the_function_and_the_reason(
    options: dict[str, Any], words: str
) -> None:
    assert words in refused(**options)


def test_every_function_that_cannot_be_is_named() -> None:
    body = registration(steps={})
    body["functions"].append(body["functions"][0] | {"id": "shop-g"})
    with pytest.raises(InvalidFunctions) as error:
        app_in(body)
    assert [slug for slug in ("'shop-f'", "'shop-g'") if slug in str(error.value)] == ["'shop-f'", "'shop-g'"]
    assert str(error.value).startswith("At least one function is invalid")


def test_the_same_function_twice_is_one_and_two_of_an_id_are_refused() -> None:
    body = registration()
    assert len(app_in(body | {"functions": body["functions"] * 2}).functions) == 1
    other = body["functions"][0] | {"name": "g"}
    with pytest.raises(InvalidFunctions, match="two functions have the id"):
        app_in(body | {"functions": [*body["functions"], other]})


def test_functions_are_called_where_their_steps_say_and_the_protocols_parameters_are_not_part_of_it() -> None:
    body = registration() | {"url": f"{URL}?deployId=7&bypass=a%2Bb"}
    body["functions"][0]["steps"]["step"]["runtime"]["url"] = "http://10.0.0.1/x?bypass=a%2Bb&fnId=shop-f&stepId=step"
    app = app_in(body)
    assert app.endpoint == "http://10.0.0.1/x?bypass=a%2Bb"
    assert app.remote is not None and app.remote.url == f"{URL}?bypass=a%2Bb"
    assert call_url(app.endpoint, "my app-f") == "http://10.0.0.1/x?bypass=a%2Bb&fnId=my+app-f&stepId=step"
    assert base_url(call_url(URL, "my app-f")) == URL


def test_functions_at_two_addresses_are_refused_with_both() -> None:
    body = registration()
    other = json.loads(json.dumps(body["functions"][0]).replace("3000", "3001").replace("shop-f", "shop-g"))
    with pytest.raises(InvalidFunctions, match=r"3000/api/inngest and http://127\.0\.0\.1:3001/api/inngest"):
        app_in(body | {"functions": [*body["functions"], other]})


def test_an_app_without_functions_is_one() -> None:
    assert app_in(registration() | {"functions": []}) == AppSpec("shop", (), URL, "", Remote(URL, "js:v4.24.0", ""))


@pytest.mark.parametrize("version", ["3.22.0", "3.40.1", "3.53.1"])
def test_sdks_with_a_known_hole_are_refused(version: str) -> None:
    with pytest.raises(BadRequest, match=r"CVE-2026-42047.*inngest@3\.54\.0"):
        app_in(registration() | {"sdk": f"js:v{version}"})


@pytest.mark.parametrize("sdk", ["js:v3.21.1", "js:v3.53.2", "js:v3.54.2", "js:v4.0.0", "py:v3.30.0", "", "js:v3"])
def test_other_versions_are_taken(sdk: str) -> None:
    assert app_in(registration() | {"sdk": sdk}).id == "shop"


@pytest.mark.parametrize(
    "changed",
    [
        {"appName": ""},
        {"appName": "x" * 256},
        {"appName": "millstream:group"},
        {"appName": 5},
        {"url": "localhost"},
        {"url": None},
        {"functions": {}},
    ],
)
def test_an_app_that_cannot_be_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="Invalid request"):
        app_in(registration() | changed)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b"\xff", b"[" * 5_000 + b"]" * 5_000])
def test_what_is_no_registration_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="Invalid request"):
        app_of(body)


def test_what_nobody_knows_is_passed_over() -> None:
    body = registration(checkpoint={"maxRuntime": "10s"}, neverSeen=[1]) | {"featureObservations": {"a": 1}}
    assert app_of(msgspec.json.encode(body)) == app_in(registration())
