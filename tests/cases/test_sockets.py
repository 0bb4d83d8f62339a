"""A real server among clients that hold its sockets: it answers the others, and stays small."""

from __future__ import annotations

import os
import re
import socket
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.program import Serving, serving, until

HALVES = 600
LINES = (7, 120)
"""Of 8 kB: just below what a header may have, and a megabyte that the server refuses on its way."""
GROWS_BYTES_MAX = 150 << 20
FEW = 256
IDLE = 300


@pytest.mark.parametrize("lines", LINES)
def test_600_half_sent_headers_hold_little_and_others_are_answered(tmp_path: Path, lines: int) -> None:
    half = b"POST /e/K HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"x" * 8_000) for n in range(lines))
    with serving(tmp_path) as served, ExitStack() as open_ones:
        assert post(served) == 200
        before = resident(served.process.pid)
        for _ in range(HALVES):
            bare = connected(served, open_ones)
            try:
                bare.sendall(half)
            except OSError:
                continue  # It was refused before all of it was sent.
        assert post(served) == 200
        grown = max(resident(served.process.pid) - before, 0)
        print(f"{HALVES} half headers of {len(half)} bytes: {grown >> 20} MiB more")
        assert grown < GROWS_BYTES_MAX


def test_idle_connections_take_no_descriptors_from_the_store(tmp_path: Path) -> None:
    with serving(tmp_path, descriptors=FEW) as served, ExitStack() as open_ones:
        for number in range(IDLE):
            connected(served, open_ones)
            if number % 50 == 0:
                assert post(served) == 200
        until("the end of each run", lambda: read(served, "/api/runs").count(b'"Completed"') >= IDLE / 50)
        found = re.search(rb"^millstream_connections (\S+)", read(served, "/metrics"), re.MULTILINE)
        assert found is not None and 0 < float(found[1]) < FEW / 2
        assert served.process.poll() is None


def connected(served: Serving, open_ones: ExitStack) -> socket.socket:
    parts = urlsplit(served.url)
    return open_ones.enter_context(socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10))


def post(served: Serving) -> int:
    with urllib.request.urlopen(f"{served.url}/e/K", b'{"name": "shop/quick"}', timeout=30) as answer:
        return int(answer.status)


def read(served: Serving, path: str) -> bytes:
    with urllib.request.urlopen(served.url + path, timeout=30) as answer:
        return bytes(answer.read())


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
