"""Who waits for whom? What waits for a slot of an app waits for that app alone, and goes where the app goes."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from millstream.execute.endpoint import slots as slots_module
from millstream.execute.endpoint.endpoints import Endpoint, EndpointSettings
from millstream.execute.endpoint.slots import Slots
from millstream.model.commands import SeeCatalogue
from millstream.model.facts import DispatchParked
from millstream.model.function import AppSpec
from millstream.model.run_requests import CancelRun
from tests.endpoint.lane import Lane, lane_for, until
from tests.endpoint.servers import AS_AN_SDK, Listener, Request, listening, response, three_steps
from tests.endpoint.stage import spec
from tests.endpoint.test_gateway import asking

TWO_AT_ONCE = EndpointSettings(calls_max=2)


class Slow:
    """Answers to calls once it may, to looks at once."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()

    async def __call__(self, request: Request) -> bytes:
        if request.line.startswith("GET"):
            return AS_AN_SDK
        await self.may_answer.wait()
        return response(200, "done")


@pytest.fixture
def _short_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "WAITING_MAX", 4)


@asynccontextmanager
async def second_app(lane: Lane, answer: Any) -> AsyncIterator[Listener]:
    """An app ``desk`` beside that of the lane, whose function starts on ``pay``."""
    async with listening(answer) as server:
        app = spec(server.url, ["pay"], "desk")
        lane.endpoints.see(app)
        lane.submit(SeeCatalogue(app.id, app, 1))
        yield server


def shop(lane: Lane) -> Endpoint:
    return next(endpoint for endpoint in lane.endpoints if endpoint.app.id == "shop")


def move(lane: Lane, url: str) -> None:
    app = shop(lane).app
    lane.endpoints.see(AppSpec(app.id, app.functions, url))


@pytest.mark.usefixtures("_short_queue")
async def test_an_app_whose_queue_is_full_keeps_no_other_from_its_work() -> None:
    slow = Slow()
    async with listening(slow) as app, lane_for(app.url, TWO_AT_ONCE) as lane, second_app(lane, three_steps):
        runs = [await lane.send() for _ in range(12)]
        await until(lambda: len(lane.of(DispatchParked)) == 6)
        assert (shop(lane).slots.taken, shop(lane).slots.waiting) == (2, 4)
        assert await lane.done(await lane.send(name="pay")) == "done"
        assert len(lane.of(DispatchParked)) == 6
        slow.may_answer.set()
        assert [await lane.done(run) for run in runs] == ["done"] * 12


@pytest.mark.usefixtures("_short_queue")
async def test_what_is_cancelled_while_it_waits_makes_room_for_what_is_parked() -> None:
    slow = Slow()
    async with listening(slow) as app, lane_for(app.url, TWO_AT_ONCE) as lane:
        runs = [await lane.send() for _ in range(9)]
        await until(lambda: len(lane.of(DispatchParked)) == 3 and len(app.requests) == 2)
        waiting = [hand.run for hand in lane.executor.dispatches()][2:]
        for run in waiting:
            lane.submit(CancelRun(run, "enough"))
        await until(lambda: shop(lane).slots.waiting == 3)
        assert len(app.requests) == 2  # Nothing has ended that could have begun another.
        slow.may_answer.set()
        assert [await lane.done(run) for run in runs if run not in waiting] == ["done"] * 5


async def test_what_waits_for_an_app_that_moves_is_called_where_it_is_now() -> None:
    slow = Slow()
    async with listening(slow) as old, listening(three_steps) as new, lane_for(old.url, TWO_AT_ONCE) as lane:
        runs = [await lane.send() for _ in range(7)]
        await until(lambda: len(old.requests) == 2 and shop(lane).slots.waiting == 5)
        called = [hand.run for hand in lane.executor.dispatches()][:2]
        move(lane, new.url)
        assert [await lane.done(run) for run in runs if run not in called] == ["done"] * 5
        assert len(old.requests) == 2
        slow.may_answer.set()  # Calls under way end where they began.
        assert [await lane.done(run) for run in called] == ["done"] * 2


async def test_what_waits_for_an_app_that_goes_is_parked_until_it_is_back() -> None:
    slow = Slow()
    async with listening(slow) as app, listening(three_steps) as new, lane_for(app.url, TWO_AT_ONCE) as lane:
        for _ in range(5):
            await lane.send()
        await until(lambda: len(app.requests) == 2 and shop(lane).slots.waiting == 3)
        gone = shop(lane)
        lane.endpoints.forget("shop")
        await until(lambda: len(lane.of(DispatchParked)) == 3)
        assert gone.slots.waiting == 0 and len(lane.executor.dispatches()) == 2
        lane.endpoints.see(AppSpec("shop", gone.app.functions, new.url))
        parked = [fact.run for fact in lane.of(DispatchParked)]
        assert [await lane.done(run) for run in parked] == ["done"] * 3


async def test_what_an_app_asks_of_slow_others_holds_up_no_other_app() -> None:
    slow = Slow()
    async with listening(slow) as provider, listening(lambda request: response(200, b"tea")) as quick:
        ask = asking({"op": "Gateway", "opts": {"url": provider.url, "method": "POST"}}, [])
        other = asking({"op": "Gateway", "opts": {"url": quick.url}}, [])
        async with listening(ask) as app, lane_for(app.url, TWO_AT_ONCE) as lane, second_app(lane, other):
            for _ in range(3):
                await lane.send()
            await until(lambda: len(provider.requests) == 2 and shop(lane).outside.waiting == 1)
            assert await lane.done(await lane.send(name="pay")) == "done"
            move(lane, app.url.replace("127.0.0.1", "localhost"))
            await until(lambda: len(provider.requests) == 3)
            slow.may_answer.set()


class Waiter:
    def __init__(self) -> None:
        self.has_begun = False

    def begin(self) -> None:
        self.has_begun = True


def test_who_waits_no_more_is_kept_no_more_and_keeps_his_place_from_none() -> None:
    slots = Slots(1, lambda: None)
    first, dropped, last = Waiter(), Waiter(), Waiter()
    for waiter in (first, dropped, last):
        slots.enter(waiter)
    slots.drop(dropped)
    known = weakref.ref(dropped)
    del dropped, waiter
    assert known() is None and slots.waiting == 1
    slots.leave()
    assert last.has_begun and (slots.taken, slots.waiting) == (1, 0)
    slots.leave()
    assert slots.taken == 0
