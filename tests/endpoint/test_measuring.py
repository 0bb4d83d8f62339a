"""Calls of apps are counted by how they ended, and whether an app is called is a gauge."""

from __future__ import annotations

import asyncio

from millstream.execute.endpoint.endpoints import Endpoints, EndpointSettings
from millstream.model.function import AppSpec
from millstream.telemetry import Telemetry
from tests.endpoint.lane import Lane, lane_for, until
from tests.endpoint.servers import Request, listening, response, three_steps

METRIC = "millstream_app_calls_total"


def count(telemetry: Telemetry, outcome: str) -> float | None:
    """How many calls ended so."""
    return telemetry.registry.get_sample_value(METRIC, {"app": "shop", "outcome": outcome})


def gauge(lane: Lane, name: str) -> float | None:
    """A gauge of the app as it is now."""
    lane.endpoints.measure()
    return lane.endpoints.telemetry.registry.get_sample_value(f"millstream_app_{name}", {"app": "shop"})


async def test_calls_are_counted_by_how_they_ended_and_timed() -> None:
    answers = [response(504, b"", {}), response(500, {"name": "E", "message": "no"})]

    def answer(request: Request) -> bytes:
        return answers.pop() if answers and request.line.startswith("POST") else three_steps(request)

    async with listening(answer) as server, lane_for(server.url, retries=3) as lane:
        telemetry = lane.endpoints.telemetry
        assert count(telemetry, "broken") == 0  # From the start.
        assert await lane.done(await lane.send()) == "done"
        ended = {outcome: count(telemetry, outcome) for outcome in ("answered", "failed", "no_app", "refused")}
        assert ended == {"answered": 4, "failed": 1, "no_app": 1, "refused": 0}
        timed = telemetry.registry.get_sample_value("millstream_app_call_seconds_count", {"app": "shop"})
        assert timed == 6


async def test_gauges_say_what_is_under_way_what_waits_and_what_is_down() -> None:
    may_answer = asyncio.Event()
    is_well = True

    async def answer(request: Request) -> bytes:
        if not is_well:
            return response(404, b"", {})
        await may_answer.wait()
        return three_steps(request)

    async with listening(answer) as server, lane_for(server.url, EndpointSettings(calls_max=2)) as lane:
        for _ in range(5):
            await lane.send()
        await until(lambda: len(server.requests) == 2)
        assert [gauge(lane, name) for name in ("calls_under_way", "calls_waiting", "up")] == [2, 3, 1]
        is_well = False
        may_answer.set()
        await until(lambda: gauge(lane, "up") == 0)
        await until(lambda: gauge(lane, "calls_under_way") == 0)
        assert gauge(lane, "calls_waiting") == 0
        refused = count(lane.endpoints.telemetry, "refused")
        assert refused is not None and refused > 0


async def test_an_app_that_is_gone_is_down_no_more() -> None:
    telemetry = Telemetry()
    endpoints = Endpoints(telemetry=telemetry)
    endpoints.see(AppSpec("shop", (), "http://127.0.0.1:9/api/inngest"))
    endpoints.measure()
    assert telemetry.registry.get_sample_value("millstream_app_up", {"app": "shop"}) == 1
    endpoints.forget("shop")
    endpoints.measure()
    assert telemetry.registry.get_sample_value("millstream_app_up", {"app": "shop"}) is None
    await endpoints.close()
