"""What requests do where the network is hostile: half answers, names nobody knows, addresses of nobody."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from millstream.execute.endpoint.guard import Guard
from millstream.execute.endpoint.http import LOOKUPS_MAX, Broken, Http, joined
from tests.endpoint.servers import listening, response

HALF = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhalf of the bo"
RESET_AT_CLOSE = b"\x01\x00\x00\x00\x00\x00\x00\x00"


@asynccontextmanager
async def opened() -> AsyncIterator[Http]:
    """Connections to anywhere."""
    http = Http(Guard(is_open=True))
    try:
        yield http
    finally:
        await http.close()


async def get(http: Http, url: str, method: str = "GET") -> bytes:
    return (await http.request(method, url, {}, None, total_s=30, bytes_max=1_000)).body


@pytest.mark.parametrize("is_reset", [False, True])
async def test_an_answer_without_a_length_is_whole_where_its_connection_ends_and_half_where_it_is_reset(
    is_reset: bool,
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HALF)
        await writer.drain()
        begun.set()
        await read.wait()
        if is_reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            writer.transport.abort()
        writer.close()

    begun, read = asyncio.Event(), asyncio.Event()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, opened() as http:
        asking = asyncio.create_task(get(http, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
        await begun.wait()
        read.set()
        if is_reset:
            with pytest.raises(Broken):
                await asking
        else:
            assert await asking == b"half of the bo"


async def test_closing_breaks_what_is_under_way() -> None:
    asked, never = asyncio.Event(), asyncio.Event()

    async def answer(_: object) -> bytes | None:
        asked.set()
        await never.wait()
        return None

    async with listening(answer) as server, opened() as http:
        asking = asyncio.create_task(get(http, server.url))
        await asked.wait()
        await http.close()
        with pytest.raises(Broken):
            await asking
        never.set()


async def test_names_that_nobody_answers_for_keep_no_address_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, known = threading.Event(), socket.getaddrinfo

    def looked_up(host: str, *args: object) -> object:
        if host.endswith(".dead"):
            waiting.wait()
        return known(host, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)

    async def answer(_: object) -> bytes:
        return response(200, b"here")

    async with listening(answer) as server, opened() as http, opened() as other:
        dead = [asyncio.create_task(get(http, f"http://{n}.dead/")) for n in range(2 * LOOKUPS_MAX)]
        try:
            assert await get(http, server.url) == b"here"
            assert await get(other, server.url.replace("127.0.0.1", "localhost")) == b"here"
        finally:
            waiting.set()
            for task in dead:
                task.cancel()
            await asyncio.gather(*dead, return_exceptions=True)


async def test_a_post_without_a_body_says_so() -> None:
    async def answer(_: object) -> bytes:
        return response(200)

    async with listening(answer) as server, opened() as http:
        await get(http, server.url, "POST")
        await get(http, server.url)
    assert [request.headers.get("content-length") for request in server.requests] == ["0", None]


def test_a_location_that_is_no_url_leads_nowhere() -> None:
    assert joined("http://h/a/b", "c?d") == "http://h/a/c?d"
    assert joined("http://h/a", "http://[oops/") == ""


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.0.1", "192.0.0.1", "240.0.0.1", "224.0.0.1", "0.0.0.0",
        "::1", "::127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::a00:1",
        "2002:a00:1::", "2001:0:a00:1::", "fec0::1", "fe80::1%eth0", "fd00::1", "5f00::1", "ff02::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_of_the_public_internet_are_refused(address: str) -> None:
    assert "not of the public internet" in Guard().refuses(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "::ffff:1.1.1.1", "64:ff9b::101:101", "2606:4700::1111"])
def test_addresses_of_the_public_internet_are_not(address: str) -> None:
    assert Guard().refuses(address) == ""
