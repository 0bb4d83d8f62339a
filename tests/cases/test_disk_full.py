"""A server whose disk or limits give out: events are refused, nothing acknowledged is lost, and it goes on by itself.

On real full file systems and with real limits, because a simulated one would only show what we believe of it.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cases.server import Server
from tests.disks import fill, small_disk

Fresh = Callable[..., Server]
PAD = "x" * 20_000
EVENTS_MAX = 400


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", "48m") as mounted:
        yield mounted


def send_until_refused(server: Server, pad: str = PAD) -> tuple[list[str], dict[str, Any]]:
    """Send events until one is answered 503: what was acknowledged before, and that answer."""
    taken: list[str] = []
    for _ in range(EVENTS_MAX):
        status, answer = server.ask("POST", "/e/test", {"name": "cases/sequence", "data": {"pad": pad}})
        if status != 200:
            assert status == 503, answer
            return taken, answer
        taken.append(answer["ids"][0])
    raise AssertionError(f"{EVENTS_MAX} events of {len(pad)} bytes were taken")


def refused(server: Server, what: str) -> bool:
    return f'millstream_storage_refused{{lane="0",what="{what}"}} 1.0' in server.metrics()


def goes_on(server: Server, taken: list[str]) -> None:
    """Events are taken again, every acknowledged one has its run, and the log has said each trouble once."""
    after = server.until(
        "events are taken again",
        lambda: (a := server.ask("POST", "/e/test", {"name": "cases/sequence"}))[0] == 200 and a[1],
    )
    for event in [*taken, after["ids"][0]]:
        assert server.ended(event)["status"] == "Completed"
    server.until("it has passed", lambda: not any(refused(server, what) for what in ("append", "flush", "read")))
    said = server.output.read_text()
    assert 1 <= said.count("storage refused") == said.count("storage goes on") <= 4, said[-4000:]
    assert "orruption" not in said
    assert "moved aside" not in said


def test_a_full_disk_refuses_events_loses_none_and_goes_on_with_room(disk: Path) -> None:
    server = Server(disk / "data").start()
    try:
        before = server.send("cases/long-sleep")
        server.run_of(before)
        filler = fill(disk)
        taken, _ = send_until_refused(server)
        # Which of the two comes first is chance, and the other may have nothing to write then.
        server.until("it is said", lambda: refused(server, "append") or refused(server, "flush"))
        filler.unlink()
        goes_on(server, [before, *taken])
    finally:
        server.close()


def test_a_full_disk_under_the_stores_alone_refuses_events_with_words(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with small_disk(data / "state", "12m") as state:
        server = Server(data).start()
        try:
            filler = fill(state)
            before = server.send("cases/long-sleep", {"pad": PAD})
            server.until("the store is refused", lambda: refused(server, "flush"))
            taken, answer = send_until_refused(server)
            assert "no event is taken in now" in answer["error"]
            assert "no room on the disk" in answer["error"]
            assert "Nothing is lost" in answer["error"]
            assert not taken
            filler.unlink()
            goes_on(server, [before])
            server.kill()
            server.start()
            assert server.ended(before)["status"] == "Completed"
        finally:
            server.close()


def test_a_server_that_may_open_no_more_files_goes_on_when_it_may(fresh: Fresh) -> None:
    server = fresh()
    assert server.process is not None
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    kept.connect()  # It takes no new ones meanwhile.
    kept.request("GET", "/health")
    kept.getresponse().read()
    taken: list[str] = []
    with limited(server.process.pid):
        for _ in range(EVENTS_MAX):
            event = {"name": "cases/sleep", "data": {"pad": os.urandom(100_000).hex()}}
            kept.request("POST", "/e/test", json.dumps(event))
            answer = kept.getresponse()
            body = json.loads(answer.read())
            if answer.status != 200:
                break
            taken.append(body["ids"][0])
        assert answer.status == 503, f"{len(taken)} events were taken"
        assert answer.headers["Retry-After"]
        assert "ulimit -n" in body["error"]
    kept.close()
    goes_on(server, taken)


@contextmanager
def limited(process: int) -> Iterator[None]:
    """A process may open no more files than it has."""
    before = resource.prlimit(process, resource.RLIMIT_NOFILE)
    opened = max(map(int, os.listdir(f"/proc/{process}/fd"))) + 1
    resource.prlimit(process, resource.RLIMIT_NOFILE, (opened, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_NOFILE, before)
