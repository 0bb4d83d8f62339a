"""Sending and looking: does a test see what happened, and is it told clearly what did not?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from time import process_time

import pytest

from millstream import App, Context, Event, NonRetriableError
from millstream.errors import BadRequest, FunctionError
from millstream.testing import NotAsExpected, TestApp
from tests.testing import shop

ORDER = Event("order/placed", {"order": 1})


def of(t: TestApp, function: str) -> list[object]:
    return [run.result for run in t.runs if run.function == function]


async def test_a_flow_of_three_days_takes_less_than_half_a_second_and_shows_every_step() -> None:
    began_s = process_time()  # Of this process: neighbours count for nothing.
    async with TestApp(shop.make()) as t:
        sent = await t.send(ORDER)
        (run,) = [run for run in sent.runs if run.function == "shop-fulfil"]
        assert run.status == "Running"
        assert run.steps["cool-off"].status == "sleeping"
        assert run.steps["cool-off"].wakes_at == t.now + timedelta(days=3)
        await t.advance("71h")
        assert run.status == "Running"
        await t.advance("1h")
        assert run.status == "Completed"
        assert run.result == {"charge": 10, "mails": ["sent to ada", "sent to team"]}
        assert [(step.id, step.kind, step.status) for step in run.steps.values()] == [
            ("charge", "run", "completed"),
            ("cool-off", "sleep", "completed"),
            ("mail", "run", "completed"),
            ("copy", "run", "completed"),
            ("announce", "send_event", "completed"),
            ("ledger", "publish", "completed"),
        ]
        assert run.steps["charge"].result == {"id": 10, "cents": 0}
        assert (run.steps["charge"].attempts, run.steps["charge"].error, run.error) == (1, None, None)
    assert process_time() - began_s < 0.5
    assert shop.calls == ["charge 1", "mail ada", "mail team"]


async def test_what_functions_send_and_publish_is_seen_as_they_wrote_it() -> None:
    async with TestApp(shop.make()) as t:
        await t.send(ORDER)
        await t.advance("3d")
        assert t.sent_events == [Event("order/done", {"charge": 10})]
        assert [(r.topic, r.key, r.json) for r in t.published] == [("ledger", b"k", {"charge": 10})]
        assert of(t, "shop-thank") == [10]


async def test_an_event_that_starts_several_functions_has_several_runs_and_no_single_status() -> None:
    async with TestApp(shop.make()) as t:
        sent = await t.send(ORDER)
        assert [run.function for run in sent.runs] == ["shop-fulfil", "shop-audit"]
        with pytest.raises(NotAsExpected, match=r"2 runs were started.*shop-fulfil.*shop-audit"):
            _ = sent.status


async def test_an_event_that_starts_one_function_speaks_for_its_run() -> None:
    async with TestApp(shop.make()) as t:
        sent = await t.send(Event("report/wanted"))
        assert (sent.status, sent.function, sent.error) == ("Completed", "shop-report", None)
        assert sent.result == ["sent to 0", "sent to 1"]
        assert list(sent.steps) == ["page", "page:1"]
        assert sent.run == t.runs[0]


async def test_an_event_that_starts_nothing_says_why() -> None:
    async with TestApp(shop.make()) as t:
        with pytest.raises(NotAsExpected, match="no run was started: no function has a trigger that fits"):
            _ = (await t.send(Event("nobody/cares"))).status
        report = Event("report/wanted", id="r1")
        await t.send(report)
        with pytest.raises(NotAsExpected, match="deduplicated: an event with the id 'r1' was seen before"):
            _ = (await t.send(report)).status


async def test_a_result_asked_for_too_early_says_what_the_run_waits_for() -> None:
    async with TestApp(shop.make()) as t:
        run = (await t.send(ORDER)).runs[0]
        with pytest.raises(NotAsExpected, match=r"no result yet.*cool-off sleep sleeping until 2026-01-08 00:00:00"):
            _ = run.result
        with pytest.raises(NotAsExpected, match=r"no step 'chrage': its steps so far are 'charge', 'cool-off'"):
            _ = run.steps["chrage"]
        with pytest.raises(NotAsExpected, match=r"step 'cool-off' .* has no result: it is sleeping"):
            _ = run.steps["cool-off"].result


async def test_a_failed_run_shows_its_error_and_raises_it_for_its_result() -> None:
    app = App("a")

    @app.function(on="go")
    async def fails(ctx: Context) -> None:
        raise NonRetriableError("no such customer")

    async with TestApp(app) as t:
        run = await t.send(Event("go"))
        assert run.status == "Failed"
        assert run.error is not None
        assert (run.error.name, run.error.message) == ("NonRetriableError", "no such customer")
        with pytest.raises(NotAsExpected, match="NonRetriableError: no such customer"):
            _ = run.result
        assert "Failed> NonRetriableError: no such customer" in t.report()


async def test_copies_of_an_event_start_a_function_once() -> None:
    async with TestApp(shop.make()) as t:
        sent = await t.send(Event("report/wanted"), copies=3)
        assert sent.status == "Completed"
        assert len(t.runs) == 1


async def test_an_id_is_forgotten_after_a_day_as_it_is_on_a_server() -> None:
    report = Event("report/wanted", id="r1")
    async with TestApp(shop.make()) as t:
        await t.send(report)
        await t.advance("23h")
        await t.send(report)
        assert len(t.runs) == 1
        await t.advance("3h")
        await t.send(report)
        assert len(t.runs) == 2


async def test_several_events_are_sent_in_one_call() -> None:
    async with TestApp(shop.make()) as t:
        sent = await t.send([Event("report/wanted"), Event("report/wanted")])
        assert [run.status for run in sent.runs] == ["Completed", "Completed"]


async def test_an_event_the_door_would_refuse_is_refused() -> None:
    async with TestApp(shop.make()) as t:
        with pytest.raises(BadRequest, match="name must have"):
            await t.send(Event(""))
        with pytest.raises(FunctionError, match="1 to 1000 copies, got 0"):
            await t.send(ORDER, copies=0)


async def test_an_event_of_the_future_starts_its_function_then() -> None:
    async with TestApp(shop.make()) as t:
        at = t.now + timedelta(hours=2)
        run = await t.send(Event("report/wanted", ts=round(at.timestamp() * 1_000)))
        assert run.status == "Queued"
        await t.advance("1h")
        assert run.status == "Queued"
        await t.advance("1h")
        assert run.status == "Completed"


async def test_a_cancelled_run_goes_no_further() -> None:
    async with TestApp(shop.make()) as t:
        run = (await t.send(ORDER)).runs[0]
        await t.cancel(run)
        assert run.status == "Cancelled"
        await t.advance("4d")
        assert run.status == "Cancelled"
    assert shop.calls == ["charge 1"]


async def test_a_function_is_invoked_by_its_id_or_by_itself() -> None:
    app = App("a")

    @app.function()
    async def double(ctx: Context) -> int:
        return 2 * int(ctx.event.data["n"])

    async with TestApp(app) as t:
        for which in ("double", "a-double", double):
            assert (await t.invoke(which, {"n": 4})).result == 8
        with pytest.raises(NotAsExpected, match=r"function 'treble' is not there: expected one of \['a-double'\]"):
            await t.invoke("treble")


async def test_crons_fire_at_their_times_as_time_goes_by() -> None:
    app = App("a")

    @app.function(cron="TZ=Europe/Paris 0 9 * * 1-5")
    async def morning(ctx: Context) -> int:
        return ctx.event.ts

    async with TestApp(app, start=datetime(2026, 7, 3, 12, tzinfo=UTC)) as t:  # A Friday.
        await t.advance("4d")
        fired = [datetime.fromtimestamp(run.result / 1_000, UTC) for run in t.runs]
        assert fired == [datetime(2026, 7, 6, 7, tzinfo=UTC), datetime(2026, 7, 7, 7, tzinfo=UTC)]
        assert t.now == datetime(2026, 7, 7, 12, tzinfo=UTC)


async def test_time_moves_to_a_datetime_and_never_back() -> None:
    async with TestApp(shop.make(), start=datetime(2026, 7, 3, 14, tzinfo=timezone(timedelta(hours=2)))) as t:
        assert t.now == datetime(2026, 7, 3, 12, tzinfo=UTC)
        await t.advance(datetime(2026, 7, 3, 13, tzinfo=UTC))
        assert t.now == datetime(2026, 7, 3, 13, tzinfo=UTC)
        with pytest.raises(NotAsExpected, match="time cannot go back"):
            await t.advance(datetime(2026, 7, 3, 12, tzinfo=UTC))
    with pytest.raises(FunctionError, match="a time with a zone"):
        TestApp(shop.make(), start=datetime(2026, 7, 3))


async def test_an_app_under_test_sends_into_the_test_and_gets_its_own_client_back() -> None:
    app = shop.make()
    async with TestApp(app) as t:
        (id,) = await app.send(Event("report/wanted"))
        await t.settle()
        assert len(id) == 26
        assert [run.status for run in t.runs] == ["Completed"]
    assert app._client is None


async def test_several_apps_are_tested_together() -> None:
    other = App("other")

    @other.function(on="order/done")
    async def count(ctx: Context) -> int:
        return 1

    async with TestApp(shop.make(), other) as t:
        await t.send(ORDER)
        await t.advance("3d")
        assert of(t, "other-count") == [1]
