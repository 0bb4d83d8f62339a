"""What becomes of a run whose app is not there, dies, is slow, or is no app at all?"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from millstream.execute.endpoint.endpoints import EndpointSettings
from millstream.execute.endpoint.guard import Guard
from millstream.execute.endpoint.replies import REPLY_BYTES_MAX
from millstream.model import limits
from millstream.model.effects import Execute
from millstream.model.facts import (
    BodyAttemptFailed,
    DispatchLost,
    DispatchParked,
    DispatchUnparked,
    RunCancelled,
    RunFailed,
)
from millstream.model.run_requests import CancelRun
from tests.endpoint.lane import lane_for, until
from tests.endpoint.servers import AS_AN_SDK, Listener, Request, listening, response, three_steps
from tests.endpoint.stage import PythonApp, Server, free_port, spec
from tests.endpoint.stage import until as so


async def answering(request: Request) -> bytes | None:
    return three_steps(request)


async def test_an_app_that_is_not_there_yet_is_waited_for_and_no_attempt_is_used() -> None:
    port = free_port()
    app = Listener(answering)
    async with lane_for(f"http://127.0.0.1:{port}/api/inngest", retries=0) as lane:
        runs = [await lane.send() for _ in range(300)]
        await until(lambda: len(lane.of(DispatchParked)) == 300)
        assert "nothing listens at" in lane.trouble and "Start it" in lane.trouble
        assert lane.executor.knows("shop-go") and not lane.executor.dispatches()
        await app.open(port)
        try:
            assert [await lane.done(run) for run in runs] == ["done"] * 300
        finally:
            await app.close()
        assert not lane.of(BodyAttemptFailed) and not lane.of(DispatchLost) and not lane.trouble
        assert all(not fact.reason for fact in lane.of(DispatchParked))


async def test_a_connection_that_breaks_in_a_call_loses_the_dispatch_and_uses_no_attempt() -> None:
    cut = 2

    async def answer(request: Request) -> bytes | None:
        nonlocal cut
        if request.line.startswith("GET"):
            return AS_AN_SDK
        cut -= 1
        return None if cut >= 0 else three_steps(request)

    async with listening(answer) as app, lane_for(app.url, retries=0) as lane:
        assert await lane.done(await lane.send()) == "done"
        assert len(lane.of(DispatchLost)) == 2 and not lane.of(BodyAttemptFailed)


async def test_an_app_that_breaks_every_connection_fails_the_run_in_the_end() -> None:
    def answer(request: Request) -> bytes | None:
        return AS_AN_SDK if request.line.startswith("GET") else None

    async with listening(answer) as app, lane_for(app.url) as lane:
        run = await lane.send()
        for _ in range(limits.DISPATCHES_LOST_MAX):
            await until(lambda: lane.lost)
            lane.lost.clear()
            row = lane.tables.runs.get(run)
            if row is not None and row.wake_at_ms:
                break  # The rest is the core's: it waits longer each time.
        assert lane.of(DispatchLost)


async def test_the_app_is_killed_in_a_step_and_another_one_carries_it_out(tmp_path: Path) -> None:
    async with PythonApp(tmp_path / "notes") as app, Server(tmp_path / "data") as server:
        await server.register(spec(app.url, ["hang", "row"]))
        run = await server.send("hang")
        await so(lambda: app.notes == ["hang begun"])
        await app.kill()
        await so(lambda: server.of(DispatchParked))
        assert server.of(DispatchLost)  # Once, or more often: a dying process may still take a connection.
        Path(f"{app.notes_path}-go").touch()
        await app.start()
        end = await server.end(run)
        assert end.result == b'"hang done"' and app.notes == ["hang begun", "hang begun", "hang done"]  # type: ignore[union-attr]
        assert await server.result("row") == ["a", "b", "c"]


async def test_an_app_that_is_too_slow_is_an_attempt_that_failed() -> None:
    late = asyncio.Event()

    async def answer(request: Request) -> bytes | None:
        await late.wait()
        return None

    async with listening(answer) as app, lane_for(app.url, retries=1, step_timeout_ms=100) as lane:
        failed = await lane.failed()
        assert failed.error_name == "StepTimeout" and "within 0.1 s" in failed.error_message
        assert len(lane.of(BodyAttemptFailed)) == 1
        late.set()


async def test_a_call_that_is_too_slow_says_nothing_of_what_is_wrong_with_its_app() -> None:
    late = asyncio.Event()

    async def answer(request: Request) -> bytes | None:
        await late.wait()
        return None

    async with listening(answer) as app, lane_for(app.url, retries=0, step_timeout_ms=100) as lane:
        (endpoint,) = lane.endpoints
        endpoint.set_trouble("a proxy answers")
        await lane.failed()
        assert endpoint.trouble == "a proxy answers"
        late.set()


async def test_a_redirect_within_the_host_is_followed_when_it_keeps_the_method() -> None:
    def answer(request: Request) -> bytes:
        path, _, query = request.line.split(" ")[1].partition("?")
        if not path.endswith("/"):
            return response(308, b"", {"location": f"{path}/?{query}"})
        return three_steps(request)

    async with listening(answer) as app, lane_for(app.url, retries=0) as lane:
        assert await lane.done(await lane.send()) == "done"


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_answer_that_is_too_large_fails_the_run_once_and_says_so(chunked: bool) -> None:
    body = b'"' + b"x" * REPLY_BYTES_MAX + b'"'
    whole = response(200, body)
    if chunked:
        head = response(200).replace(b"content-length: 0", b"transfer-encoding: chunked")
        whole = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    async with listening(lambda request: whole) as app, lane_for(app.url) as lane:
        failed = await lane.failed()
        assert failed.error_name == "output_too_large" and str(REPLY_BYTES_MAX) in failed.error_message
        assert len(app.requests) == 1


async def test_private_addresses_are_not_called_where_that_is_not_allowed() -> None:
    async with listening(answering) as app:
        async with lane_for(app.url, EndpointSettings(guard=Guard())) as lane:
            await lane.send()
            await until(lambda: lane.trouble)
            assert "not of the public internet" in lane.trouble and "--endpoint-network" in lane.trouble
        url = app.url.replace("127.0.0.1", "localhost")
        async with lane_for(url, EndpointSettings(guard=Guard())) as lane:
            await lane.send()
            await until(lambda: lane.trouble)
            assert "not of the public internet" in lane.trouble
        assert not app.connections
        allowed = EndpointSettings(guard=Guard.of(["127.0.0.0/8"]))
        async with lane_for(app.url, allowed) as lane:
            assert await lane.done(await lane.send()) == "done"


async def test_no_more_calls_than_allowed_are_under_way() -> None:
    under_way, most = 0, 0

    async def answer(request: Request) -> bytes:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1
        return three_steps(request)

    async with listening(answer) as app, lane_for(app.url, EndpointSettings(calls_max=3)) as lane:
        runs = [await lane.send() for _ in range(20)]
        assert [await lane.done(run) for run in runs] == ["done"] * 20
        assert most == 3 and app.connections == 3


async def test_an_abandoned_call_is_cut_and_its_answer_dropped() -> None:
    may_answer = asyncio.Event()

    async def answer(request: Request) -> bytes:
        await may_answer.wait()
        return response(200, "late")

    async with listening(answer) as app, lane_for(app.url) as lane:
        run = await lane.send()
        await until(lambda: app.requests)
        lane.submit(CancelRun(run, "enough"))
        assert isinstance(await lane.end(run), RunCancelled)
        assert lane.executor.executing == 0 or not lane.executor.dispatches()
        may_answer.set()
        await until(lambda: lane.executor.executing == 0)
        assert not lane.reports


async def test_close_lets_calls_end_and_gives_back_what_waits() -> None:
    may_answer = asyncio.Event()

    async def answer(request: Request) -> bytes:
        await may_answer.wait()
        return response(200, "done")

    async with listening(answer) as app, lane_for(app.url, EndpointSettings(calls_max=1)) as lane:
        first, second = await lane.send(), await lane.send()
        await until(lambda: len(app.requests) == 1)
        closing = asyncio.ensure_future(lane.executor.close(30))
        await until(lambda: lane.parked)
        assert [(park.run, park.given_back) for park in lane.parked] == [(second, True)]
        assert lane.executor.executing == 1 and not lane.executor.knows("shop-go")
        may_answer.set()
        await closing
        assert await lane.done(first) == "done"
        lane.executor.start(Execute(second, "shop-go", "", 0, 9))
        assert lane.parked[-1].dispatch == 9 and lane.parked[-1].given_back


async def test_close_gives_back_calls_that_do_not_end() -> None:
    async with listening(lambda request: asyncio.sleep(3_600)) as app, lane_for(app.url) as lane:  # type: ignore[arg-type]
        run = await lane.send()
        await until(lambda: app.requests)
        await lane.executor.close(0.05)
        assert [(park.run, park.given_back) for park in lane.parked] == [(run, True)]
        assert not lane.executor.dispatches() and lane.executor.executing == 0


async def test_an_app_that_comes_later_takes_up_what_waits_for_it() -> None:
    async with listening(answering) as app, lane_for(app.url) as lane:
        (endpoint,) = lane.endpoints
        lane.endpoints.forget(endpoint.app.id)
        run = await lane.send()
        await until(lambda: lane.of(DispatchParked))
        assert not lane.executor.knows("shop-go")
        lane.endpoints.see(endpoint.app)
        assert await lane.done(run) == "done"
        assert len(lane.of(DispatchUnparked)) == 1


async def test_an_id_of_a_step_that_no_header_holds_stops_nothing() -> None:
    step = "schritt \u20ac\r\nX: y"

    def answer(request: Request) -> bytes:
        if request.resolved:
            return response(200, "done")
        is_targeted = "stepId=step" not in request.line
        planned = [{"op": "StepPlanned", "id": step}, {"op": "StepPlanned", "id": "other"}]
        ran = [{"op": "StepRun", "id": id, "data": 1} for id in (step, "other")]
        return response(206, ran if is_targeted else planned)

    async with listening(answer) as app, lane_for(app.url, retries=0) as lane:
        assert await lane.done(await lane.send()) == "done"
        assert not lane.of(DispatchParked) and not lane.trouble


async def test_an_app_that_moves_is_called_where_it_is_now() -> None:
    async with listening(answering) as old, listening(answering) as new, lane_for(old.url) as lane:
        assert await lane.done(await lane.send()) == "done"
        (endpoint,) = lane.endpoints
        lane.endpoints.see(type(endpoint.app)(endpoint.app.id, endpoint.app.functions, new.url))
        called = len(old.requests)
        assert await lane.done(await lane.send()) == "done"
        assert len(old.requests) == called and len(new.requests) == 4


async def test_a_function_whose_error_has_no_end_fails_with_the_error_of_the_app() -> None:
    error = {"name": "TypeError", "message": "no", "stack": "at f", "code": "x"}
    async with listening(lambda request: response(500, error)) as app, lane_for(app.url, retries=1) as lane:
        failed = await lane.failed()
        assert isinstance(failed, RunFailed)
        assert (failed.error_name, failed.error_message, failed.error_stack) == ("TypeError", "no", "at f")
        assert failed.error_more == b'{"code":"x"}' and len(app.requests) == 2
