"""No request gives a 500, nor a traceback in the log: hostile times, encodings, ids, cursors, headers and bodies.

Requests go over a bare socket, byte for byte: a client library would refuse to send most of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.api.door import World, make_shop, open_world
from tests.api.hostile import EVENT, POSTED_TO, Request, bodies, encodings, headers, methods, paths, queries, sent

ANSWER_S = 2.0
"""A request that lacks a part is not answered: its rest may be on the way."""
AT_ONCE = 20
SEEDS = range(4)
RANDOM_REQUESTS = 150


def at_random(seed: int) -> Iterator[Request]:
    """Requests with a few bytes of them changed."""
    draw = Random(seed)
    every = [*paths(), *queries(), *bodies(), *encodings(), *headers()]
    for what, request in draw.sample([one for one in every if len(one[1]) < 2_000], RANDOM_REQUESTS):
        changed = bytearray(request)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(changed))
            changed[at : at + draw.randint(0, 2)] = draw.randbytes(draw.randint(0, 2))
        yield what, bytes(changed)


async def head_of(world: World, request: bytes) -> bytes:
    """The head of the answer; empty where the server hung up, or waits for the rest of the request."""
    reader, writer = await asyncio.open_connection(world.served.host, world.served.port)
    try:
        writer.write(request)
        async with asyncio.timeout(ANSWER_S):
            return await reader.readuntil(b"\r\n\r\n")
    except (ConnectionError, TimeoutError, asyncio.IncompleteReadError):
        return b""
    finally:
        writer.close()


async def refused_badly(world: World, requests: Iterator[Request]) -> list[tuple[bytes, bytes]]:
    """Those of the requests that got no answer that a client could do anything with."""
    bad = []

    async def send_some() -> None:
        for what, request in requests:  # Shared by those who send.
            head = await head_of(world, request)
            status = head[9:12]
            is_fine = status[:1] in (b"2", b"3", b"4") or (status == b"503" and b"Retry-After" in head)
            if head and not is_fine:
                bad.append((what, head))

    await asyncio.gather(*(send_some() for _ in range(AT_ONCE)))
    return bad


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, apps=[make_shop()]) as opened:
        yield opened


@pytest.mark.parametrize("kind", [paths, queries, bodies, encodings, headers, methods], ids=lambda kind: kind.__name__)
async def test_no_request_gives_a_500(world: World, caplog: pytest.LogCaptureFixture, kind: object) -> None:
    assert callable(kind)
    assert await refused_badly(world, kind()) == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    for shown in (b"/v1/events?limit=200", b"/api/runs?limit=200", b"/dev", b"/"):
        assert (await head_of(world, sent(b"GET", shown)[1]))[9:12] == b"200"


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_request_with_bytes_changed_gives_a_500(
    world: World, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    assert await refused_badly(world, at_random(seed)) == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("kind", [paths, queries, methods], ids=lambda kind: kind.__name__)
async def test_no_request_that_is_handed_on_gives_a_500(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: object
) -> None:
    assert callable(kind)
    async with open_world(tmp_path / "api", world.log, index=None, history_url=world.served.url) as api:
        assert await refused_badly(api, kind()) == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_body_that_is_not_encoded_as_it_says_is_a_400_in_words(world: World) -> None:
    for path in POSTED_TO:
        headers_ = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        status, answer, _ = await world.call("POST", path.decode(), data=EVENT, headers=headers_)
        assert status == 400 and "could not be read" in answer["error"] and "gzip" in answer["error"], answer
    assert (await world.call("GET", "/v1/events"))[1]["data"] == []


METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
ODD = (
    "/fn",
    "/fn/",
    "/fn/register",
    "/fn/register/more",
    "/fn/remove",
    "/fn/step-limit",
    "/fn/state-size-limit",
    "/e",
    "/e/",
    "/e/K/more",
    "/invoke",
    "/invoke/",
    "/v0",
    "/v0/gql",
    "/v0/gql/more",
    "/v0/runs/",
    "/v0/runs/x/actions",
    "/v0/runs/x/steps",
    "/v0/connect/start",
    "/v1",
    "/v1/",
    "/v1/runs",
    "/v1/runs/x/more",
    "/v1/events/",
    "/v1/apps",
    "/v1/apps/x",
    "/v1/signals",
    "/v1/cancellations",
    "/v1/checkpoint",
    "/v1/checkpoint/x/async",
    "/v1/realtime/token",
    "/v1/http/runs",
    "/v2/runs",
    "/gql",
    "/mcp",
    "/dev",
    "/dev/traces",
    "/api/inngest",
    "/.well-known/x",
    "/%2e%2e/etc/passwd",
    "/%00",
    "/favicon.ico/x",
)


@pytest.mark.parametrize("body", [None, b"", b"null", b"{}", b"[1]", b"{"])
async def test_whatever_is_asked_of_the_protocols_paths_is_answered_in_json(tmp_path: Path, body: bytes | None) -> None:
    """Paths that are not there, and methods that are not theirs, are 404 and 405 in the form of every error."""
    wrong = []
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        for path in ODD:
            for method in METHODS:
                headers = {"X-Millstream": "1", "Content-Type": "application/json"}
                status, answer, _ = await world.call(method, path, data=body, headers=headers)
                is_error = status >= 400
                has_form = isinstance(answer, dict) and bool(answer.get("error") or answer.get("errors"))
                if status >= 500 or (is_error and not has_form):
                    wrong.append((method, path, status, answer))
    assert wrong == []
