"""A disk without room: events are refused, nothing acknowledged is lost, and it goes on when there is room again.

On a real full file system (a small tmpfs), because a simulated one would only show what we believe of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cases.server import Server
from tests.disks import fill, small_disk

SIZE = "48m"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", SIZE) as mounted:
        yield mounted


def test_a_full_disk_refuses_events_loses_none_and_goes_on_with_room(disk: Path) -> None:
    server = Server(disk / "data").start()
    try:
        before = server.send("cases/long-sleep")
        server.run_of(before)
        filler = fill(disk)
        taken = [before]
        refused = False
        for _ in range(200):
            status, answer = server.ask("POST", "/e/test", {"name": "cases/sequence", "data": {"pad": "x" * 20_000}})
            if status == 200:
                taken.append(answer["ids"][0])
                continue
            assert status == 503, answer
            refused = True
            break
        assert refused, "200 events of 20 kB fitted on a full disk"
        filler.unlink()
        after = server.until(
            "room again", lambda: (a := server.ask("POST", "/e/test", {"name": "cases/sequence"}))[0] == 200 and a[1]
        )
        for event in [*taken, after["ids"][0]]:
            assert server.ended(event)["status"] == "Completed"
    finally:
        server.close()
