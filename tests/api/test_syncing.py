"""Apps are kept in step: asked to register, found on this machine, asked again; what went wrong is there to be read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from millstream.api.apps import discovery, syncing
from millstream.api.apps.syncing import SyncOptions
from millstream.execute.endpoint.guard import Guard
from millstream.execute.endpoint.http import Http
from millstream.wire.signing import SigningKeys
from tests.api.door import SOON_S, World, open_world
from tests.api.sdk_apps import SdkApp, sdk_app
from tests.api.test_explain import answering, web_server

KEY, OLD_KEY = "signkey-prod-" + "ab" * 16, "signkey-prod-" + "cd" * 16
SHOWN = {"Authorization": f"Bearer {SigningKeys.of(KEY).bearers()[0]}"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for pause in ("DEV_EVERY_S", "SIGNED_EVERY_S", "FIRST_EVERY_S"):
        monkeypatch.setattr(syncing, pause, 0.1)


async def rows(world: World) -> dict[str | None, Any]:
    return {row["id"]: row for row in (await world.call("GET", "/api/apps"))[1]["data"]}


async def row_with(world: World, id: str | None, **wanted: Any) -> Any:
    """The row of an app, once it says so."""
    async with asyncio.timeout(SOON_S):
        while True:
            row = (await rows(world)).get(id)
            if row is not None and all(row[name] == value for name, value in wanted.items()):
                return row
            await asyncio.sleep(0.02)


async def sync(world: World, url: str) -> tuple[int, Any]:
    status, body, _ = await world.call("POST", "/api/apps/sync", json={"url": url}, headers=SHOWN)
    return status, body


def port_of(app: SdkApp) -> int:
    return int(app.url.split(":")[2].split("/")[0])


@contextlib.asynccontextmanager
async def taken_port() -> AsyncIterator[int]:
    """A port that is free once this has ended."""
    async with web_server(answering(200)) as url:
        yield int(url.split(":")[2].split("/")[0])


async def test_an_app_that_is_named_registers_when_it_comes_up(tmp_path: Path) -> None:
    async with taken_port() as port:
        pass
    url = f"http://localhost:{port}/api/inngest"
    async with open_world(tmp_path, sync=SyncOptions(urls=(url,))) as world:
        waiting = await row_with(world, None, reachable=False)
        assert waiting["url"] == url and waiting["why"].startswith("nothing listens")
        async with sdk_app(world.served.url, port=port):
            registered = await row_with(world, "sdk", reachable=True)
            assert (registered["functions"], registered["why"]) == (["sdk-hello"], "")
            assert None not in await rows(world)


async def test_changed_code_is_known_and_an_app_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    async with open_world(tmp_path, sync=SyncOptions(poll=True)) as world:
        async with sdk_app(world.served.url) as app:
            await app.put()
            await row_with(world, "sdk", reachable=True)
        gone = await row_with(world, "sdk", reachable=False)
        assert gone["why"].startswith("nothing listens") and gone["functions"] == ["sdk-hello"]
        async with sdk_app(world.served.url, functions=("hello", "new"), port=port_of(app)):
            await row_with(world, "sdk", reachable=True, functions=["sdk-hello", "sdk-new"])


async def test_an_app_on_this_machine_is_found_and_another_server_is_left_alone(tmp_path: Path) -> None:
    asked: list[str] = []

    async def shop(request: Any) -> Any:
        asked.append(request.path)
        return await answering(404)(request)

    async with web_server(shop) as other, taken_port() as port:
        ports = (port, int(other.split(":")[2].split("/")[0]))
        sync = SyncOptions(discover=True, poll=True, ports=ports)
        async with open_world(tmp_path, sync=sync) as world:
            await asyncio.sleep(0)
    async with open_world(tmp_path, sync=sync) as world, sdk_app(world.served.url, port=port):
        found = await row_with(world, "sdk", reachable=True)
        assert found["functions"] == ["sdk-hello"]
        assert set(asked) <= set(discovery.PATHS) and len(await rows(world)) == 1


async def test_an_app_that_was_found_may_register_also_where_there_are_event_keys(tmp_path: Path) -> None:
    async with taken_port() as port:
        pass
    sync = SyncOptions(discover=True, poll=True, ports=(port,))
    async with (
        open_world(tmp_path, sync=sync, event_keys=frozenset({"E"})) as world,
        sdk_app(world.served.url, port=port),
    ):
        await row_with(world, "sdk", reachable=True)


async def test_two_apps_that_are_asked_at_once_are_not_taken_for_one_another(tmp_path: Path) -> None:
    async with taken_port() as port:
        pass
    async with open_world(tmp_path / "other") as other, sdk_app(other.served.url, id="elsewhere") as elsewhere:
        sync = SyncOptions(urls=(elsewhere.url, f"http://localhost:{port}/api/inngest"), poll=True)
        async with open_world(tmp_path, sync=sync) as world, sdk_app(world.served.url, port=port):
            await row_with(world, "sdk", reachable=True)
            waiting = await row_with(world, None, url=elsewhere.url)
            assert "with another server" in waiting["why"]


async def test_a_server_without_an_sdk_is_asked_less_and_less_often() -> None:
    asked = 0

    async def shop(request: Any) -> Any:
        nonlocal asked
        asked += 1
        return await answering(404)(request)

    async with web_server(shop) as url:
        look = discovery.Discovery(
            syncing.Caller(SigningKeys(), Http(Guard(is_open=True))), (int(url.split(":")[2].split("/")[0]),)
        )
        for _ in range(100):
            assert await look.look(()) == []
        await look.caller.close()
    assert asked == len(discovery.PATHS) * (100 // (discovery.LOOKED_LESS_OFTEN_MAX + 1) + 3)


async def test_an_app_that_was_taken_out_is_not_found_again_until_it_registers(tmp_path: Path) -> None:
    async with taken_port() as port:
        pass
    async with (
        open_world(tmp_path, sync=SyncOptions(discover=True, poll=True, ports=(port,))) as world,
        sdk_app(world.served.url, port=port) as app,
    ):
        await row_with(world, "sdk", reachable=True)
        assert (await world.call("DELETE", "/api/apps/sdk"))[0] == 200
        await asyncio.sleep(0.5)  # Some rounds, in which nothing may happen.
        assert await rows(world) == {}
        await app.put()
        await row_with(world, "sdk", reachable=True)


async def test_an_app_that_registers_with_another_server_is_said_to(tmp_path: Path) -> None:
    async with (
        open_world(tmp_path) as world,
        open_world(tmp_path / "other") as other,
        sdk_app(other.served.url) as app,
    ):
        status, answer = await sync(world, app.url)
        assert status == 400
        assert "has registered, but with another server" in answer["error"]
        assert await rows(world) == {}


async def test_an_app_that_was_named_and_taken_out_stays_out(tmp_path: Path) -> None:
    async with taken_port() as port:
        pass
    sync = SyncOptions(urls=(f"http://localhost:{port}/api/inngest",), poll=True)
    async with open_world(tmp_path, sync=sync) as world, sdk_app(world.served.url, port=port):
        await row_with(world, "sdk", reachable=True)
        await world.call("DELETE", "/api/apps/sdk")
        await asyncio.sleep(0.5)  # Some rounds, in which nothing may happen.
        assert await rows(world) == {}


async def test_a_refusal_of_ours_comes_back_in_its_own_words(tmp_path: Path) -> None:
    async with (
        open_world(tmp_path) as world,
        sdk_app(world.served.url) as first,
        sdk_app(world.served.url, functions=("other",)) as second,
    ):
        assert (await sync(world, first.url))[0] == 200
        status, answer = await sync(world, second.url)
        assert status == 400 and "has this id, answers, and has other functions" in answer["error"]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"url": 5}', b'{"url": "localhost"}', b'{"url": "ftp://x/y"}'])
async def test_a_sync_of_no_address_is_refused(tmp_path: Path, body: bytes) -> None:
    async with open_world(tmp_path) as world:
        headers = {"Content-Type": "application/json"}
        status, answer, _ = await world.call("POST", "/api/apps/sync", data=body, headers=headers)
        assert status == 400 and "url" in answer["error"]


async def test_in_signed_mode_an_app_needs_no_way_back(tmp_path: Path) -> None:
    """An in-band sync: the app's own server address leads nowhere."""
    async with (
        open_world(tmp_path, signing=SigningKeys.of(KEY)) as world,
        sdk_app("http://127.0.0.1:1", signing_key=KEY) as app,
    ):
        status, answer = await sync(world, app.url)
        assert (status, answer["data"]) == (200, {"app": "sdk", "url": app.url, "modified": True})
        assert (await sync(world, app.url))[1]["data"]["modified"] is False


async def test_in_signed_mode_an_app_registers_by_itself_too(tmp_path: Path) -> None:
    async with (
        open_world(tmp_path, signing=SigningKeys.of(KEY)) as world,
        sdk_app(world.served.url, signing_key=KEY) as app,
    ):
        assert (await app.put())[1]["modified"] is True
        assert list(await rows(world)) == ["sdk"]


async def test_keys_are_rotated_without_a_moment_in_which_one_is_refused(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:1"
    async with (
        sdk_app(nowhere, id="old", signing_key=OLD_KEY) as old,
        sdk_app(nowhere, id="both", signing_key=KEY, fallback=OLD_KEY) as both,
    ):
        async with open_world(tmp_path / "1", signing=SigningKeys.of(OLD_KEY)) as world:
            bearer = {"Authorization": f"Bearer {SigningKeys.of(OLD_KEY).bearers()[0]}"}
            for app in (old, both):
                sent = {"json": {"url": app.url}, "headers": bearer}
                assert (await world.call("POST", "/api/apps/sync", **sent))[0] == 200, app.id
        async with open_world(tmp_path / "2", signing=SigningKeys.of(KEY, OLD_KEY)) as world:
            assert (await sync(world, both.url))[0] == 200
            assert (await sync(world, old.url))[0] == 200, "asked again, signed with the old"
        async with open_world(tmp_path / "3", signing=SigningKeys.of(KEY)) as world:
            assert (await sync(world, both.url))[0] == 200
            status, answer = await sync(world, old.url)
            assert status == 400 and "different signing keys" in answer["error"], "the old key is gone"


async def test_in_signed_mode_two_apps_that_claim_one_id_are_told_apart_by_what_they_say(tmp_path: Path) -> None:
    async with open_world(tmp_path, signing=SigningKeys.of(KEY)) as world:
        async with sdk_app(world.served.url, signing_key=KEY) as first:
            assert (await sync(world, first.url))[0] == 200
            async with sdk_app(world.served.url, functions=("other",), signing_key=KEY) as second:
                status, answer = await sync(world, second.url)
                assert status == 400 and "has this id" in answer["error"]
        async with (
            sdk_app(world.served.url, id="another", signing_key=KEY, port=port_of(first)),
            sdk_app(world.served.url, functions=("other",), signing_key=KEY) as moved,
        ):
            assert (await sync(world, moved.url))[1]["data"]["modified"] is True


async def test_private_addresses_are_asked_nothing_where_that_is_not_allowed(tmp_path: Path) -> None:
    asked = 0

    async def count(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return await answering(200)(request)

    async with web_server(count) as url:
        keys, guard = SigningKeys.of(KEY), Guard.of(["10.0.0.0/8"])
        async with open_world(tmp_path / "closed", signing=keys, guard=guard) as world:
            for there in (url, url.replace("127.0.0.1", "localhost"), "http://169.254.169.254/latest/meta-data"):
                status, answer = await sync(world, there)
                assert status == 400 and "Allow its network with --endpoint-network" in answer["error"]
        assert not asked
        async with open_world(tmp_path / "open", signing=keys, guard=Guard.of(["127.0.0.0/8"])) as world:
            status, answer = await sync(world, url)
            assert status == 400 and "no Inngest SDK did" in answer["error"] and asked
