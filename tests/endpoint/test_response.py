"""Is every form of an HTTP response read, however its bytes are cut, and what is none refused?"""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.execute.endpoint.guard import Guard
from millstream.execute.endpoint.http import Http, NotSent, Unsendable, place_of, target_of
from millstream.execute.endpoint.response import HEAD_BYTES_MAX, Answer, NoHttpServer, NotHttp, Response, TooLarge
from tests.endpoint.servers import listening, response

BYTES_MAX = 1_000
BODY = b'{"a": "\xc3\xa4"}'
HEAD = b"HTTP/1.1 206 Partial Content\r\nContent-Type: application/json\r\nX-A: b\r\n"
LENGTH = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\n" + BODY[:3] + b"\r\n"
CHUNKED += b"%X\r\n" % (len(BODY) - 3) + BODY[3:] + b"\r\n0\r\nTrailer: x\r\n\r\n"
INFORMED = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + LENGTH


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(at) if a < b]


@given(whole=st.sampled_from([LENGTH, CHUNKED, INFORMED]), cuts=st.lists(st.integers(0, 500), max_size=30))
def test_a_response_is_the_same_however_it_is_cut(whole: bytes, cuts: list[int]) -> None:
    reading = Response(BYTES_MAX)
    answers = [reading.feed(piece) for piece in pieces(whole, cuts)]
    assert answers[:-1] == [None] * (len(answers) - 1)
    answer = answers[-1]
    assert answer is not None and (answer.status, answer.body) == (206, BODY)
    assert answer.headers["content-type"] == "application/json" and answer.headers["x-a"] == "b"
    assert reading.keeps_alive


@given(cuts=st.lists(st.integers(0, 500), max_size=10))
def test_a_response_without_a_length_ends_with_its_connection(cuts: list[int]) -> None:
    reading = Response(BYTES_MAX)
    for piece in pieces(HEAD + b"\r\n" + BODY, cuts):
        assert reading.feed(piece) is None
    answer = reading.end()
    assert answer is not None and answer.body == BODY and not reading.keeps_alive


@pytest.mark.parametrize("whole", [LENGTH, CHUNKED])
def test_a_response_that_ends_early_is_none(whole: bytes) -> None:
    reading = Response(BYTES_MAX)
    assert reading.feed(whole[:-1]) is None and reading.end() is None


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * HEAD_BYTES_MAX,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\x00c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    ],
)
def test_what_is_no_response_is_refused(data: bytes) -> None:
    with pytest.raises(NotHttp):
        Response(BYTES_MAX).feed(data)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n" + b"x" * 501,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_001,
    ],
)
def test_what_is_too_large_is_refused_as_soon_as_that_is_known(data: bytes) -> None:
    with pytest.raises(TooLarge):
        Response(BYTES_MAX).feed(data)


@pytest.mark.parametrize(
    ("head", "keeps_alive"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\nConnection: Close\r\n\r\n", False),
        (b"HTTP/1.0 204 x\r\n\r\n", False),
        (b"HTTP/1.0 204 x\r\nConnection: keep-alive\r\n\r\n", True),
        (b"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n", True),
        (b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\nmore", False),
    ],
)
def test_a_connection_is_used_again_where_its_server_keeps_it(head: bytes, keeps_alive: bool) -> None:
    reading = Response(BYTES_MAX)
    answer = reading.feed(head)
    assert answer is not None and answer.body == b"" and reading.keeps_alive == keeps_alive


@pytest.mark.parametrize(
    ("head", "again"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"extension"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", b"Trailer: x\r\n"),
    ],
)
def test_what_has_no_end_is_refused(head: bytes, again: bytes) -> None:
    reading, piece = Response(BYTES_MAX), again * 100
    if head:
        assert reading.feed(head) is None
    for _ in range(HEAD_BYTES_MAX // len(piece)):
        assert reading.feed(piece) is None
    with pytest.raises(NotHttp):
        _ = [reading.feed(piece) for _ in range(2)]


def test_a_second_answer_behind_the_first_is_not_taken_for_anything() -> None:
    reading = Response(BYTES_MAX)
    answer = reading.feed(LENGTH + b"HTTP/1.1 500 x\r\nContent-Length: 2\r\n\r\nno")
    assert answer is not None and (answer.status, answer.body) == (206, BODY) and not reading.keeps_alive
    assert answer.headers["content-length"] == str(len(BODY))


@pytest.mark.parametrize(("data", "is_server"), [(b"SSH-2.0-x\r\n", False), (b"HTTP/1.1 2x0 OK\r\n", True)])
def test_what_is_no_web_server_is_told_apart(data: bytes, is_server: bool) -> None:
    with pytest.raises(NotHttp) as refused:
        Response(BYTES_MAX).feed(data)
    assert isinstance(refused.value, NoHttpServer) != is_server


async def test_the_answer_to_a_head_has_no_body_whatever_its_length_says() -> None:
    head = response(200, b"").replace(b"content-length: 0", b"content-length: 500")
    async with listening(lambda request: head) as server:
        http = Http(Guard(is_open=True))
        for _ in range(2):
            answer = await http.request("HEAD", server.url, {}, None, total_s=10, bytes_max=100)
            assert (answer.status, answer.headers["content-length"], answer.body) == (200, "500", b"")
        await http.close()


def test_headers_of_one_name_are_joined() -> None:
    answer = Response(BYTES_MAX).feed(b"HTTP/1.1 204 x\r\nA: 1\r\nb:  2 \r\na: 3\r\n\r\n")
    assert answer == Answer(204, {"a": "1, 3", "b": "2"}, b"")


async def ask(http: Http, url: str, headers: dict[str, str] | None = None) -> Answer:
    return await http.request("POST", url, headers or {}, b"{}", total_s=10, bytes_max=BYTES_MAX)


async def test_requests_one_after_another_share_a_connection() -> None:
    async with listening(lambda request: response(200, json.loads(request.body))) as server:
        http = Http(Guard(is_open=True))
        for _ in range(5):
            assert (await ask(http, server.url)).body == b"{}"
        assert server.connections == 1
        await http.close()


async def test_a_connection_that_its_server_ends_is_not_used_again() -> None:
    end = {"connection": "close"}
    async with listening(lambda request: response(200, b"", end)) as server:
        http = Http(Guard(is_open=True))
        for _ in range(3):
            await ask(http, server.url)
        assert server.connections == 3
        await http.close()


@pytest.mark.parametrize("headers", [{"A": "x\r\nB: y"}, {"A\nB": "x"}, {"A": "\u20ac"}])
async def test_a_header_that_is_none_is_never_sent(headers: dict[str, str]) -> None:
    async with listening(lambda request: response(200)) as server:
        http = Http(Guard(is_open=True))
        with pytest.raises(Unsendable):
            await ask(http, server.url, headers)
        assert not server.requests
        await http.close()


@pytest.mark.parametrize("url", ["ftp://x/a", "http://", "http:///a", "http://[::1/a", "http://h:99999/a", "nothing"])
async def test_a_url_that_cannot_be_called_is_no_request(url: str) -> None:
    with pytest.raises(NotSent):
        await ask(Http(Guard(is_open=True)), url)


def test_the_parts_of_a_url() -> None:
    place = place_of("https://us%40er:pass@Shop.Example:8443/api?x=1#part")
    assert (place.is_tls, place.host, place.port, place.authority) == (True, "shop.example", 8443, "shop.example:8443")
    assert place.login == "Basic dXNAZXI6cGFzcw=="
    assert place_of("http://[::1]:3000/a").authority == "[::1]:3000" and place_of("http://h/").authority == "h"
    assert target_of("http://h/a b?q=ä&r=%20") == "/a%20b?q=%C3%A4&r=%20" and target_of("http://h") == "/"


@pytest.mark.parametrize(
    ("address", "is_refused"),
    [
        ("127.0.0.1", True), ("10.1.2.3", True), ("192.168.0.1", True), ("169.254.169.254", True), ("0.0.0.0", True),
        ("100.64.0.1", True), ("224.0.0.1", True), ("::1", True), ("fd00::1", True), ("fe80::1%eth0", True),
        ("::ffff:10.0.0.1", True), ("64:ff9b::a00:1", True), ("2002:a00:1::1", True),
        ("93.184.216.34", False), ("2606:2800:220:1::1", False), ("172.20.0.5", False),
    ],
)  # fmt: skip
def test_only_addresses_of_the_public_internet_and_of_allowed_networks_are_called(
    address: str, is_refused: bool
) -> None:
    assert bool(Guard.of(["172.16.0.0/12"]).refuses(address)) == is_refused
    assert not Guard.of(["*"]).refuses(address)
