"""Does the client send what the door expects, and try again only where that is safe?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from millstream import App, Client, Event
from millstream.errors import BadRequest, Busy, NotAllowed, NotFound
from millstream.sdk import client as module

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Door:
    """A server that answers what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = []
        self.asked: list[tuple[str, str, str, object]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, request.path, request.headers.get(module.SEED_HEADER, ""), body))
        status, answer = self.answers.pop(0)
        return web.json_response(answer, status=status)


@pytest.fixture
async def door(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    monkeypatch.setattr(module, "FIRST_DELAY_S", 0.001)
    door, app = Door(), web.Application()
    app.router.add_route("*", "/{rest:.*}", door.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    door.url = f"http://{host}:{port}"
    yield door
    await runner.cleanup()


async def test_events_are_sent_in_order_and_their_ids_come_back(door: Door) -> None:
    door.answers = [(200, {"ids": ["A", "B"], "status": 200})]
    async with Client(door.url, "key") as client:
        assert await client.send([Event("a", {"n": 1}, id="x"), Event("b")]) == ["A", "B"]
    [(method, path, seed, body)] = door.asked
    assert (method, path) == ("POST", "/e/key") and seed
    assert body == [{"name": "a", "data": {"n": 1}, "id": "x"}, {"name": "b", "data": {}}]


async def test_a_send_is_tried_again_with_the_same_seed(door: Door) -> None:
    door.answers = [(503, {}), (500, {}), (200, {"ids": ["A"]})]
    async with Client(door.url, "key") as client:
        assert await client.send(Event("a")) == ["A"]
    assert len({seed for _, _, seed, _ in door.asked}) == 1 and len(door.asked) == 3


async def test_a_refusal_is_not_tried_again(door: Door) -> None:
    door.answers = [(400, {"error": "event 'a' refused"}), (401, {"error": "Event key not found"})]
    async with Client(door.url, "key") as client:
        with pytest.raises(BadRequest, match="event 'a' refused"):
            await client.send(Event("a"))
        with pytest.raises(NotAllowed):
            await client.send(Event("a"))
    assert len(door.asked) == 2


async def test_the_last_failure_is_raised_when_all_tries_are_used(door: Door) -> None:
    door.answers = [(503, {"error": "full"})] * 5
    async with Client(door.url) as client:
        with pytest.raises(Busy, match="full"):
            await client.send(Event("a"))
    assert len(door.asked) == 5


async def test_runs_are_looked_at_and_cancelled(door: Door) -> None:
    door.answers = [(200, {"data": {"run_id": "R"}}), (204, {}), (404, {"error": "no such run"})]
    async with Client(door.url) as client:
        assert await client.run("R") == {"run_id": "R"}
        await client.cancel("R")
        with pytest.raises(NotFound):
            await client.cancel("R")
    assert [(method, path) for method, path, _, _ in door.asked] == [
        ("GET", "/v1/runs/R"), ("DELETE", "/v1/runs/R"), ("DELETE", "/v1/runs/R"),
    ]  # fmt: skip


async def test_an_app_sends_through_the_client_of_the_environment(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_URL", door.url)
    monkeypatch.setenv("MILLSTREAM_EVENT_KEY", "from-env")
    door.answers = [(200, {"ids": ["A"]})]
    app = App("shop")
    assert await app.send(Event("a")) == ["A"]
    assert door.asked[0][1] == "/e/from-env"
    assert app._client is not None
    await app._client.close()
    await asyncio.sleep(0)
