"""What a web page that somebody has open beside the server may do: post events, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.api.door import FULFIL, World, make_shop, open_world

KEY = "a-key"
JSON = {"Content-Type": "application/json"}
ACTING = (
    ("POST", f"/invoke/{FULFIL}"),
    ("POST", f"/api/functions/{FULFIL}/backfill"),
    ("POST", "/api/dead-letters/0/redrive"),
    ("DELETE", "/v1/runs/01JQ0000000000000000000000"),
    ("DELETE", "/api/scans/01JQ0000000000000000000000"),
)
READING = ("/", "/v1/events", "/api/runs", "/dev", "/api/dead-letters", "/no/such/path")
OURS = ("127.0.0.1:8288", "[::1]:8288", "localhost", "LOCALHOST:1", "192.168.1.7", "millstream:8288", "shop.localhost",
        "api.default.svc.cluster.local", "box.local", "")  # fmt: skip
STRANGE = (
    "evil.example:8288",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example.",
    "a.b",
    "x@evil.example",
)
PAGES = (
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://evil.example", **JSON},
    {"Sec-Fetch-Site": "cross-site", **JSON},
    {"Sec-Fetch-Site": "same-site", **JSON},
    {"Origin": "http://127.0.0.1:1", **JSON},
)
FORMS = (
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain;application/json",
)


async def status(world: World, method: str, path: str, headers: Mapping[str, str], data: bytes | None = None) -> int:
    return (await world.call(method, path, headers=headers, data=data))[0]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, apps=[make_shop()]) as opened:
        yield opened


@pytest.mark.parametrize("host", STRANGE)
async def test_a_name_that_a_page_could_point_here_is_refused_with_what_to_do(world: World, host: str) -> None:
    for path in READING:
        got, answer, _ = await world.call("GET", path, headers={"Host": host})
        assert got == 421 and "--allowed-host" in answer["error"], (path, answer)
    assert await status(world, "POST", f"/invoke/{FULFIL}", {"Host": host, **JSON}, b"{}") == 421


@pytest.mark.parametrize("host", OURS)
async def test_names_that_nobody_can_own_are_ours(world: World, host: str) -> None:
    assert await status(world, "GET", "/v1/events", {"Host": host}) == 200


async def test_names_that_the_server_was_told_are_its_own(tmp_path: Path) -> None:
    async with open_world(tmp_path, allowed_hosts=frozenset({"Runs.example.com", ".shop.example"})) as world:
        for host, wanted in (
            ("runs.example.com:80", 200),
            ("a.shop.example", 200),
            ("shop.example", 421),
            ("b.example", 421),
        ):
            assert await status(world, "GET", "/v1/events", {"Host": host}) == wanted, host
    async with open_world(tmp_path, allowed_hosts=frozenset({"*"})) as world:
        assert await status(world, "GET", "/", {"Host": "any.example"}) == 200


async def test_front_ends_anywhere_post_events_and_probes_are_answered_under_any_name(world: World) -> None:
    strange = {"Host": "events.example.com", "Origin": "http://shop.example", "Content-Type": "text/plain"}
    got, _, response = await world.call("POST", "/e/K", headers=strange, data=b'{"name":"a"}')
    assert got == 200 and response.headers["Access-Control-Allow-Origin"] == "http://shop.example"
    for path in ("/livez", "/readyz", "/health", "/metrics"):
        assert await status(world, "GET", path, {"Host": "10-0-0-1.probes.example.com"}) == 200


@pytest.mark.parametrize(("method", "path"), ACTING)
async def test_no_page_acts_on_a_server_without_keys(world: World, method: str, path: str) -> None:
    for headers in PAGES:
        got, answer, _ = await world.call(method, path, headers=headers, data=b"{}")
        assert got == 403 and "web page" in answer["error"], (headers, answer)
    if method == "POST":
        for kind in FORMS:
            got, answer, _ = await world.call(method, path, headers={"Content-Type": kind}, data=b"{}")
            assert got == 403 and "application/json" in answer["error"], (kind, answer)
    assert (await world.call("GET", "/api/runs"))[1]["data"] == [], "nothing was started"
    preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": method}
    got, _, response = await world.call("OPTIONS", path, headers=preflight)
    assert got == 405 and "Access-Control-Allow-Origin" not in response.headers


async def test_programs_and_our_own_pages_act_as_before(world: World) -> None:
    own = {"Origin": world.served.url, "Sec-Fetch-Site": "same-origin", **JSON}
    for headers in (JSON, {"Content-Type": "application/json; charset=utf-8"}, {"X-Millstream": "1"}, own):
        assert await status(world, "POST", f"/invoke/{FULFIL}", headers, b"{}") == 200, headers
    assert await status(world, "DELETE", "/v1/runs/01JQ0000000000000000000000", {}) == 404


async def test_who_has_a_key_acts_from_wherever_he_is(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()], event_keys=frozenset({KEY})) as world:
        there = {"Host": "millstream.example.com", "Origin": "http://shop.example"}
        got = await status(world, "POST", f"/invoke/{FULFIL}", there | {"Authorization": f"Bearer {KEY}"}, b"{}")
        assert got == 200
        assert await status(world, "GET", "/v1/events", there | {"Authorization": f"Bearer {KEY}"}) == 200
        assert await status(world, "GET", "/v1/events", there | {"Authorization": "Bearer guessed"}) == 421
