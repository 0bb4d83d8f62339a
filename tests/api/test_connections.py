"""What connections hold has an end, one by one and together; over bare sockets, with limits that a test can reach."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from millstream.api.sockets import connections
from millstream.model import limits
from tests.api.door import SOON_S, World, open_world

HALF = b"POST /e/K HTTP/1.1\r\nHost: localhost\r\n"
LINE = b"X-Filler: " + b"x" * 4_000 + b"\r\n"
EVENT = b'{"name":"a"}'
WHOLE = HALF + b"Content-Length: %d\r\n\r\n%b" % (len(EVENT), EVENT)
SLOW_BODY = HALF + b"Content-Length: 1000\r\n\r\n{"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(world: World, *said: bytes, receive_bytes: int = 0) -> AsyncIterator[Streams]:
    """A connection on which something was said."""
    bare = socket.socket()
    bare.setblocking(False)
    if receive_bytes:
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    await asyncio.get_running_loop().sock_connect(bare, ("127.0.0.1", world.served.port))
    reader, writer = await asyncio.open_connection(sock=bare, limit=4_096)
    for part in said:
        writer.write(part)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer(streams: Streams) -> tuple[int, Any]:
    """Status and JSON, to the end of the connection."""
    async with asyncio.timeout(SOON_S):
        head, _, body = (await streams[0].read(-1)).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def counted(world: World, reason: str) -> int:
    """How many connections were ended for a reason."""
    text = str((await world.call("GET", "/metrics"))[1])
    head = f'millstream_connections_ended_total{{reason="{reason}"}} '
    return sum(int(float(line.removeprefix(head))) for line in text.splitlines() if line.startswith(head))


async def until(look: Any) -> None:
    async with asyncio.timeout(SOON_S):
        while True:
            if look():
                return
            await asyncio.sleep(0.01)


async def test_a_header_larger_than_it_may_be_is_a_431(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, connected(world, HALF + LINE * 17) as late:
        status, said = await answer(late)
        assert status == 431 and "65536 bytes" in said["error"]
        assert await counted(world, "header_size") == 1
        assert world.served.connections.header_bytes == 0


async def test_a_header_that_does_not_end_in_time_is_a_408(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADER_MS_MAX", 200)
    async with open_world(tmp_path) as world, connected(world, HALF) as late, connected(world, WHOLE, HALF) as later:
        status, said = await answer(late)
        assert status == 408 and "did not arrive" in said["error"]
        assert (await later[0].readline()).split()[1] == b"200", "the request before it was answered"
        assert await counted(world, "header_time") >= 1


async def test_unfinished_headers_have_a_limit_together_and_the_oldest_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEADERS_BYTES_MAX", 100_000)
    async with open_world(tmp_path) as world:
        held = world.served.connections
        async with connected(world, HALF + LINE * 9) as oldest:
            await until(lambda: held.header_bytes > 36_000)
            async with connected(world, HALF + LINE * 9) as second:
                await until(lambda: held.header_bytes > 72_000)
                async with connected(world, HALF + LINE * 9):
                    status, said = await answer(oldest)
                    assert status == 503 and "too many requests" in said["error"]
                    assert held.header_bytes < 100_000
                    second[1].write(b"Content-Length: %d\r\n\r\n%b" % (len(EVENT), EVENT))
                    assert (await second[0].readline()).split()[1] == b"200"
        await until(lambda: held.header_bytes == 0)


async def test_one_connection_too_many_takes_the_place_of_the_one_that_is_idle_longest(tmp_path: Path) -> None:
    async with (
        open_world(tmp_path, most=3) as world,
        connected(world) as idle,
        connected(world, HALF),
        connected(world, SLOW_BODY) as busy,
    ):
        await until(lambda: len(world.served.connections) == 3)
        for _ in range(10):
            async with connected(world, WHOLE) as good:
                assert (await good[0].readline()).split()[1] == b"200"
        assert len(world.served.connections) <= 3
        with suppress(ConnectionError):
            assert await idle[0].read() == b"", "it was ended"
        busy[1].write(b" " * 999)
        assert (await busy[0].readline()).split()[1] == b"400", "a request under way is never ended for another"


async def test_where_each_connection_has_a_request_one_more_is_a_503(tmp_path: Path) -> None:
    async with open_world(tmp_path, most=2) as world, connected(world, SLOW_BODY), connected(world, SLOW_BODY):
        await until(lambda: len(world.served.connections) == 2)
        await until(lambda: not any(one.is_idle for one in world.served.connections._open))
        async with connected(world) as more:
            status, said = await answer(more)
            assert status == 503 and "ulimit -n" in said["error"]


async def test_who_takes_nothing_of_an_answer_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWER_MS_MAX", 200)
    monkeypatch.setattr(connections, "SWEEP_S", 0.05)
    async with open_world(tmp_path) as world:
        ask = await _large(world)
        async with connected(world, ask, receive_bytes=4_096):
            await until(lambda: len(world.served.connections._untaken) == 1)
            await until(lambda: not world.served.connections._untaken)
        assert await counted(world, "answer_time") == 1


async def test_answers_that_are_not_taken_have_a_limit_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(tmp_path) as world:
        ask, untaken = await _large(world), world.served.connections._untaken
        async with connected(world, ask, receive_bytes=4_096):
            await until(lambda: untaken)
            (first,) = untaken
            monkeypatch.setattr(limits, "ANSWERS_BYTES_MAX", first.bytes_untaken * 3 // 2)
            async with connected(world, ask, receive_bytes=4_096):
                await until(lambda: untaken and first not in untaken)
        assert await counted(world, "answers_size") == 1


async def _large(world: World) -> bytes:
    """A request whose answer has 3 MB."""
    sent = (await world.call("POST", "/e/K", json={"name": "large", "data": {"text": "x" * 3_000_000}}))[1]["ids"][0]
    await world.fold()
    return f"GET /v1/events/{sent} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
