"""With a signing key the SDKs' API asks for it, says so, and is of one environment; without one it is a dev server."""

from __future__ import annotations

from pathlib import Path

import pytest

from millstream.api.apps.syncing import SyncOptions
from millstream.apps.functions_topic import read_known
from millstream.wire.signing import SigningKeys
from tests.api.door import open_world
from tests.api.test_register import URL, listed, register, registration

KEY, OLD_KEY = "signkey-prod-" + "ab" * 16, "signkey-prod-" + "cd" * 16
KEYS = SigningKeys.of(KEY, OLD_KEY)
RUN = "01M83166TFPXY6W1PP2C82TPXR"
ASKS = [
    ("POST", "/fn/register"),
    ("DELETE", f"/fn/remove?url={URL}"),
    ("GET", "/v1/events"),
    ("GET", f"/v1/runs/{RUN}"),
    ("DELETE", f"/v1/runs/{RUN}"),
    ("GET", "/dev"),
    ("GET", "/v0/runs/x/actions"),
]
OPEN = [("GET", "/health"), ("GET", "/livez"), ("GET", "/"), ("GET", "/api/apps"), ("GET", "/v1/callbacks/none")]


@pytest.mark.parametrize(("method", "path"), ASKS)
@pytest.mark.parametrize("header", ["", "Bearer undefined", f"Bearer {KEY[:-1]}c", "Bearer nonsense"])
async def test_without_the_key_the_sdks_api_is_closed(tmp_path: Path, method: str, path: str, header: str) -> None:
    async with open_world(tmp_path, signing=KEYS) as world:
        headers = {"Authorization": header} if header else {}
        status, answer, got = await world.call(method, path, headers=headers)
        assert (status, got.headers["X-Inngest-Server-Kind"]) == (401, "cloud")
        assert answer["error"].startswith("Authentication failed")


@pytest.mark.parametrize(("method", "path"), OPEN)
async def test_what_is_not_the_sdks_stays_open(tmp_path: Path, method: str, path: str) -> None:
    async with open_world(tmp_path, signing=KEYS) as world:
        status, _, got = await world.call(method, path)
        assert status in (200, 404) and got.headers["X-Inngest-Server-Kind"] == "cloud"


@pytest.mark.parametrize("bearer", [*KEYS.bearers(), *(key.hash for key in KEYS.all), KEY, OLD_KEY])
async def test_either_key_or_its_hash_opens_it(tmp_path: Path, bearer: str) -> None:
    async with open_world(tmp_path, signing=KEYS, event_keys=frozenset({"E"})) as world:
        shown = {"Authorization": f"Bearer {bearer}"}
        assert (await register(world, registration("f"), **shown))[1]["modified"] is True
        assert (await world.call("GET", "/dev", headers=shown))[0] == 200
        assert (await world.call("GET", f"/v1/runs/{RUN}", headers=shown))[0] == 404
        assert (await world.call("DELETE", "/api/apps/raw", headers=shown))[0] == 200


async def test_an_event_key_opens_it_too_but_registers_nothing(tmp_path: Path) -> None:
    """Event keys are in front ends; what they may do is what they may do without a signing key."""
    async with open_world(tmp_path, signing=KEYS, event_keys=frozenset({"E"})) as world:
        shown = {"Authorization": "Bearer E"}
        assert (await world.call("GET", "/dev", headers=shown))[0] == 200
        assert (await register(world, registration("f"), **shown))[0] == 401
        assert await listed(world) == {}


async def test_a_kind_that_the_app_does_not_expect_is_refused(tmp_path: Path) -> None:
    async with open_world(tmp_path, signing=KEYS) as world:
        shown = {"Authorization": f"Bearer {KEYS.bearers()[0]}"}
        status, answer = await register(world, registration("f"), **shown, **{"X-Inngest-Expected-Server-Kind": "dev"})
        assert status == 400 and answer["error"].startswith("Expected server kind cloud, got dev")


async def test_without_a_key_every_answer_says_dev(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        for method, path in (*ASKS[2:4], *OPEN, ("POST", "/e/K"), ("GET", "/nothing")):
            _, _, got = await world.call(method, path)
            assert got.headers["X-Inngest-Server-Kind"] == "dev", path


async def test_event_keys_alone_let_only_apps_register_that_the_operator_has_named(tmp_path: Path) -> None:
    config = {"event_keys": frozenset({"E"}), "sync": SyncOptions(urls=(URL.replace("127.0.0.1", "localhost"),))}
    async with open_world(tmp_path, **config) as world:
        status, answer = await register(world, registration("f", app="other", url="http://127.0.0.1:2/api/inngest"))
        assert status == 401 and "--sdk-url http://127.0.0.1:2/api/inngest" in answer["error"]
        assert (await register(world, registration("f")))[0] == 200


@pytest.mark.parametrize("path", ["/e/K", "/fn/register", "/v1/signals"])
async def test_a_request_for_another_environment_is_refused(tmp_path: Path, path: str) -> None:
    async with open_world(tmp_path, environments=frozenset({"prod", "main"})) as world:
        status, answer, _ = await world.call("POST", path, json={}, headers={"X-Inngest-Env": "staging"})
        assert status == 400
        assert "environment 'staging' refused: this server is 'main' or 'prod'" in answer["error"]


@pytest.mark.parametrize("named", ["prod", "main", ""])
async def test_a_request_for_this_environment_is_taken(tmp_path: Path, named: str) -> None:
    async with open_world(tmp_path, environments=frozenset({"prod", "main"})) as world:
        assert (await register(world, registration("f"), **({"X-Inngest-Env": named} if named else {})))[0] == 200


async def test_a_server_without_a_name_takes_any_environment(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        assert (await register(world, registration("f"), **{"X-Inngest-Env": "pull/7"}))[0] == 200


async def test_event_keys_alone_let_no_stranger_have_a_named_app_called_elsewhere(tmp_path: Path) -> None:
    """The address that is judged is the one that is called, in each part in which the two may differ."""
    config = {"event_keys": frozenset({"E"}), "sync": SyncOptions(urls=(URL,))}
    others = (
        URL.replace(":1/", ":2/"),
        URL.replace("http:", "https:"),
        f"{URL}/x",
        f"{URL}?to=x",
        "http://evil.example/",
    )
    async with open_world(tmp_path, **config) as world:
        assert (await register(world, registration("f")))[0] == 200
        for other in others:
            elsewhere = registration("f", url=other) | {"url": URL}
            status, answer = await register(world, elsewhere)
            assert (status, answer["data"]) == (401, None), other
        known = await read_known(world.log, "shop")
        assert known.apps["raw"].endpoint == URL
