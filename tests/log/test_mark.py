"""The mark beside an embedded log: what the log must contain, and what a start makes of less."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from millstream.disk import write_small_file
from millstream.errors import AcknowledgedLost
from millstream.log.embedded import mark
from millstream.log.embedded.evidence import WAL_NAME, missing_from
from millstream.log.embedded.file import FILE_NAME
from millstream.log.embedded.log import EmbeddedLog
from millstream.log.port import Produced, TopicKind, TopicSpec
from millstream.losses import Losses

SPECS = [TopicSpec("journal", 2), TopicSpec("steps", 1, kind=TopicKind.COMPACTED)]


async def opened(directory: Path, durability: str = "fsync", losses: Losses | None = None) -> EmbeddedLog:
    log = await EmbeddedLog.open(directory, durability=durability, losses=losses)
    await log.create_topics(SPECS)
    return log


def ends(directory: Path) -> dict[tuple[str, int], int]:
    found = mark.read(directory)
    assert found is not None
    assert found.readable
    return {(held.topic, held.partition): held.end for held in found.held}


async def killed_with(directory: Path, records: int, durability: str = "fsync") -> Path:
    """A copy of a log as a kill would leave it: nothing of it was closed."""
    log = await opened(directory / "live", durability)
    for number in range(records):
        await log.writer("journal", 0).append([Produced(b"%d" % number)])
    await log.writer("steps", 0).append([Produced(b"1", b"k")])
    shutil.copytree(directory / "live", directory / "killed")
    await log.close()
    return directory / "killed"


async def test_what_was_acknowledged_is_in_the_mark_at_once(tmp_path: Path) -> None:
    killed = await killed_with(tmp_path, 5)
    assert ends(killed) == {("journal", 0): 5, ("journal", 1): 0, ("steps", 0): 1}


async def test_many_partitions_find_room_and_a_trim_takes_nothing_back(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    await log.create_topics([TopicSpec(f"more-{n}", 50) for n in range(3)])
    await log.writer("more-2", 49).append([Produced(b"x"), Produced(b"y")])
    await log.trim("more-2", 49, 2)
    await log.close()
    assert ends(tmp_path)["more-2", 49] == 2
    assert len(ends(tmp_path)) == 153
    await (await opened(tmp_path)).close()
    assert ends(tmp_path)["more-2", 49] == 2


async def test_less_than_the_mark_is_refused_in_words_and_nothing_is_touched(tmp_path: Path) -> None:
    killed = await killed_with(tmp_path, 5)
    wal = killed / WAL_NAME
    os.truncate(wal, wal.stat().st_size * 3 // 4)
    before = {path.name: path.read_bytes() for path in killed.iterdir() if path.name != f"{FILE_NAME}-shm"}
    for _ in range(2):
        with pytest.raises(AcknowledgedLost, match=r"topic 'journal' partition 0: offsets \d to 4 .*--accept-loss"):
            await opened(killed)
    assert {name: (killed / name).read_bytes() for name in before if name != "lock"} == {
        name: content for name, content in before.items() if name != "lock"
    }
    assert {(lost.topic, lost.end) for lost in missing_from(killed)} == {("journal", 5), ("steps", 1)}


async def test_an_accepted_loss_is_written_down_keeps_the_files_and_is_accepted_once(tmp_path: Path) -> None:
    killed = await killed_with(tmp_path, 5)
    (killed / WAL_NAME).unlink()
    log = await opened(killed, losses=Losses(tmp_path, accepted=True))
    assert await log.writer("journal", 0).append([Produced(b"new")]) == 0
    await log.close()
    assert "topic 'journal' partition 0: offsets 0 to 4" in (tmp_path / "losses.jsonl").read_text()
    (aside,) = killed.glob("lost-*")
    assert ends(aside)["journal", 0] == 5
    await (await opened(killed)).close()
    assert ends(killed)["journal", 0] == 1


async def test_the_mark_of_another_log_is_refused(tmp_path: Path) -> None:
    killed = await killed_with(tmp_path, 2)
    other = await opened(tmp_path / "other")
    await other.close()
    shutil.copy(tmp_path / "other" / mark.FILE_NAME, killed / mark.FILE_NAME)
    with pytest.raises(AcknowledgedLost, match="is not the one"):
        await opened(killed)


async def test_under_os_a_boot_since_excuses_the_loss_and_it_is_written_down(tmp_path: Path) -> None:
    killed = await killed_with(tmp_path, 5, "os")
    (killed / WAL_NAME).unlink()
    with pytest.raises(AcknowledgedLost):
        await opened(killed, "os")
    path = killed / mark.FILE_NAME
    content = bytearray(path.read_bytes())
    content[: mark.SLOT_BYTES] = mark.head(content[17:33], synced=False, boot="an earlier one").ljust(
        mark.SLOT_BYTES, b"\0"
    )
    write_small_file(path, bytes(content))
    await (await opened(killed, "os", Losses(tmp_path))).close()
    assert "power cut" in (tmp_path / "losses.jsonl").read_text()


async def test_a_directory_from_before_the_mark_gets_one(tmp_path: Path) -> None:
    killed = await killed_with(tmp_path, 3)
    (killed / mark.FILE_NAME).unlink()
    await (await opened(killed)).close()
    assert ends(killed)["journal", 0] == 3


async def test_the_mark_is_synced_within_seconds_without_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(mark, "_sync", synced.append)
    log = await opened(tmp_path)
    for _ in range(200):
        await log.writer("journal", 0).append([Produced(b"x")])
    assert len(synced) <= 3, "a commit costs no sync of its own"
    before = len(synced)
    async with asyncio.timeout(10):
        while len(synced) == before:  # noqa: ASYNC110 - a thread does it
            await asyncio.sleep(0.05)
    await log.close()
