"""Does the client send what the door expects, and try again only where that is safe?"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from millstream import App, Client, Event, SyncClient
from millstream.errors import BadRequest, Busy, ConfigError, LogUnavailable, NotAllowed, NotFound
from millstream.sdk.outside import client as module
from millstream.sdk.outside import transport

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Door:
    """A server that answers what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = []
        self.asked: list[tuple[str, str, str, object]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, request.path, request.headers.get(transport.SEED_HEADER, ""), body))
        status, answer = self.answers.pop(0)
        return web.json_response(answer, status=status)


@pytest.fixture
async def door(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    monkeypatch.setattr(transport, "FIRST_DELAY_S", 0.001)
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


class Threaded:
    """The door on a loop in a thread of its own, for clients that have none, or several."""

    def __init__(self) -> None:
        self.door = Door()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Door:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result()
        return self.door

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self.door.handle)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        host, port = self.runner.addresses[0][:2]
        self.door.url = f"http://{host}:{port}"


def test_one_app_sends_from_several_event_loops_and_from_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with Threaded() as door:
        monkeypatch.setenv("MILLSTREAM_URL", door.url)
        door.answers = [(200, {"ids": [str(n)]}) for n in range(5)]
        app = App("shop")
        assert [asyncio.run(app.send(Event("a", {"n": n}))) for n in range(3)] == [["0"], ["1"], ["2"]]
        assert app.send_sync(Event("a")) == ["3"]
        with SyncClient(door.url, "key") as client:
            assert client.send(Event("a")) == ["4"]
            door.answers = [(200, {"data": {"run_id": "R"}}), (204, {})]
            assert client.run("R") == {"run_id": "R"}
            client.cancel("R")


def test_many_threads_and_tasks_share_a_client() -> None:
    with Threaded() as door:
        door.answers = [(200, {"ids": ["A"]})] * 300
        client = Client(door.url)

        def send_ten() -> None:
            for _ in range(10):
                client.send_sync(Event("a"))

        threads = [threading.Thread(target=send_ten) for _ in range(10)]
        for thread in threads:
            thread.start()

        async def send() -> None:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(200):
                    tasks.create_task(client.send(Event("a")))

        asyncio.run(send())
        for thread in threads:
            thread.join()
        assert len(door.asked) == 300


def test_a_connection_that_the_server_closed_while_it_was_idle_is_no_failure() -> None:
    with Threaded() as door, SyncClient(door.url) as client:
        door.answers = [(200, {"ids": ["A"]})] * 2
        client.send(Event("a"))
        (idle,) = client._transport._idle
        idle.sock.shutdown(2)
        assert client.send(Event("a")) == ["A"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_client_that_was_used_before_a_fork_works_on_both_sides_of_it() -> None:
    with Threaded() as door:
        door.answers = [(200, {"ids": ["A"]})] * 3
        code = (
            "import asyncio, os\nfrom millstream import Client, Event\nclient = Client()\n"
            "send = lambda: asyncio.run(client.send(Event('a')))\nsend()\nchild = os.fork()\n"
            "assert send() == ['A']\n"
            "if child: assert os.waitpid(child, 0)[1] == 0\n"
        )
        environ = os.environ | {"MILLSTREAM_URL": door.url}
        ran = subprocess.run(
            [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert len(door.asked) == 3


def test_without_a_server_the_client_asks_whether_it_is_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_DELAY_S", 0.001)
    for send in (SyncClient("http://127.0.0.1:1").send, Client("http://127.0.0.1:1").send_sync):
        with pytest.raises(LogUnavailable, match=r"Is it running\? .*millstream dev.*MILLSTREAM_URL"):
            send(Event("a"))
    with pytest.raises(ConfigError, match="MILLSTREAM_URL"):
        Client("localhost:8288")


@pytest.mark.parametrize("key", ["topsecret", "top secret/ü"])
def test_no_error_shows_a_key_or_a_password(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_DELAY_S", 0.001)
    with Threaded() as door:
        said = []
        path = f"/base/e/{module.quote(key, safe='')}"
        for status in (301, 400, 401, 404, 413, 429, 503):
            door.answers = [(status, {"error": f"no such path: POST {path}, key {key}"})] * 5
            with pytest.raises(Exception) as raised:
                SyncClient(f"{door.url.replace('//', '//me:password@')}/base", key).send(Event("a"))
            said.append(f"{raised.value!r} {raised.value.__cause__!r} {raised.value.__context__!r}")
    with pytest.raises(LogUnavailable) as gone:
        SyncClient("http://me:password@127.0.0.1:1", key).send(Event("a"))
    said += [str(gone.value), repr(SyncClient("http://me:password@h", key)), repr(Client("http://h", key))]
    for text in said:
        for secret in (key, module.quote(key, safe=""), "password"):
            assert secret not in text


def test_the_first_send_imports_no_http_library() -> None:
    with Threaded() as door:
        door.answers = [(200, {"ids": ["A"]})]
        code = (
            "import sys\nfrom millstream import App, Event\nApp('shop').send_sync(Event('a'))\n"
            "slow = {'aiohttp', 'httpx', 'requests', 'urllib3', 'pydantic'} & set(sys.modules)\nassert not slow, slow\n"
        )
        environ = os.environ | {"MILLSTREAM_URL": door.url}
        ran = subprocess.run(
            [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 0, ran.stderr
