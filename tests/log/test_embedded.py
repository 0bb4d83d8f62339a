"""What only the embedded log promises: its file, its lock, its failures, its group commit."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

import millstream
from millstream.errors import ConfigError, Corruption, DiskFull, LogLocked, LogUnavailable
from millstream.log.embedded import mark
from millstream.log.embedded.file import FILE_NAME
from millstream.log.embedded.log import EmbeddedLog, EmbeddedOptions
from millstream.log.embedded.verify import verify
from millstream.log.port import OutcomeUnknown, Produced, Record, TopicKind, TopicSpec

STREAM = TopicSpec("journal", partitions=2)
TABLE = TopicSpec("steps", partitions=1, kind=TopicKind.COMPACTED)
SOON_S = 10.0


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[EmbeddedLog]:
    opened = await opened_log(tmp_path)
    yield opened
    await opened.close()


async def opened_log(directory: Path, options: EmbeddedOptions | None = None) -> EmbeddedLog:
    log = await EmbeddedLog.open(directory, durability="os", options=options)
    await log.create_topics([STREAM, TABLE])
    return log


async def everything(log: EmbeddedLog, topic: str = "journal", begin: int = 0) -> list[Record]:
    reader = log.reader(topic, 0, begin)
    end = await log.end_offset(topic, 0)
    records: list[Record] = []
    while reader.position < end:
        records += await reader.read(max_records=1_000, max_bytes=1 << 20, wait_s=0)
    await reader.close()
    return records


def flip(path: Path, near: bytes) -> None:
    """Flip one bit of the byte behind ``near``, as a failing disk does."""
    content = bytearray(path.read_bytes())
    assert content.count(near) == 1
    content[content.index(near) + len(near)] ^= 1
    path.write_bytes(content)


class TestReopening:
    async def test_everything_is_there_after_a_reopen(self, tmp_path: Path) -> None:
        log = await opened_log(tmp_path)
        await log.writer("journal", 0).append([Produced(b"a"), Produced(b"b", b"k", (("h", b"x"),))])
        await log.writer("journal", 1).append([Produced(b"trimmed")])
        await log.trim("journal", 1, 1)
        await log.writer("steps", 0).append([Produced(b"1", b"k"), Produced(b"2", b"k"), Produced(None, b"k")])
        before = await everything(log)
        await log.close()

        log = await opened_log(tmp_path)
        assert await everything(log) == before
        assert (await log.start_offset("journal", 1), await log.end_offset("journal", 1)) == (1, 1)
        assert await log.writer("journal", 1).append([Produced(b"next")]) == 1
        assert await log.writer("steps", 0).append([Produced(b"4", b"k")]) == 3
        await log.close()
        assert verify(tmp_path) == []

    async def test_rows_of_a_transaction_cut_short_stay_invisible(self, tmp_path: Path) -> None:
        log = await opened_log(tmp_path)
        await log.writer("steps", 0).append([Produced(b"1", b"k")])
        await log.close()
        with sqlite3.connect(tmp_path / FILE_NAME) as file:
            number = file.execute("SELECT id FROM topic_partition WHERE topic = 'steps'").fetchone()[0]
            file.execute("INSERT INTO latest VALUES (?, ?, x'6b', 1, 0, x'0033')", ((number << 44) + 1, number))
        log = await opened_log(tmp_path)
        assert [r.value for r in await everything(log, "steps")] == [b"1"]
        assert await log.writer("steps", 0).append([Produced(b"2", b"k")]) == 1
        assert (await everything(log, "steps"))[-1].value == b"2"
        await log.close()

    async def test_sweeps_and_trims_cut_short_are_finished_at_the_next_start(self, tmp_path: Path) -> None:
        log = await opened_log(tmp_path)
        for number in range(5):
            await log.writer("journal", 0).append([Produced(b"%d" % number)])
        await log.writer("steps", 0).append([Produced(b"1", b"k"), Produced(b"2", b"k")])
        await log.close()
        with sqlite3.connect(tmp_path / FILE_NAME) as file:
            row = file.execute("SELECT position, partition_id, key, at_ms, crc, payload FROM latest").fetchone()
            file.execute("INSERT INTO latest VALUES (?, ?, ?, ?, ?, ?)", (row[0] - 1, *row[1:]))
            file.execute("UPDATE topic_partition SET swept_to = 0")
            file.execute(
                "UPDATE topic_partition SET start_offset = 3, end_offset = 5 WHERE topic = 'journal' AND number = 0"
            )
        log = await opened_log(tmp_path)
        await log.trim("journal", 0, 4)  # Jobs of a partition run in order: this one ends behind the leftover one.
        await log.writer("steps", 0).append([Produced(b"3", b"k")])
        await log.writer("steps", 0).append([Produced(b"4", b"l")])
        await log.close()
        with sqlite3.connect(tmp_path / FILE_NAME) as file:
            assert file.execute("SELECT count(*) FROM latest").fetchone()[0] == 2
            assert file.execute("SELECT count(*) FROM batch").fetchone()[0] == 1

    async def test_a_file_of_a_newer_version_is_refused(self, tmp_path: Path) -> None:
        await (await opened_log(tmp_path)).close()
        with sqlite3.connect(tmp_path / FILE_NAME) as file:
            file.execute("PRAGMA user_version = 99")
        with pytest.raises(ConfigError, match="format 99"):
            await EmbeddedLog.open(tmp_path)


class TestLock:
    async def test_a_second_writer_is_refused_and_told_who_has_it(self, log: EmbeddedLog, tmp_path: Path) -> None:
        with pytest.raises(LogLocked, match=f"process {os.getpid()}"):
            await EmbeddedLog.open(tmp_path)
        await log.close()
        await (await EmbeddedLog.open(tmp_path)).close()

    async def test_a_follower_needs_no_lock_and_sees_appends(self, log: EmbeddedLog, tmp_path: Path) -> None:
        await log.writer("journal", 0).append([Produced(b"before")])
        follower = await EmbeddedLog.open(tmp_path, readonly=True)
        reader = follower.reader("journal", 0, 0)
        assert [r.value for r in await reader.read(max_records=9, max_bytes=99, wait_s=0)] == [b"before"]
        reading = asyncio.ensure_future(reader.read(max_records=9, max_bytes=99, wait_s=SOON_S))
        await asyncio.sleep(0)
        await log.writer("journal", 0).append([Produced(b"after")])
        assert [r.value for r in await asyncio.wait_for(reading, SOON_S / 2)] == [b"after"]
        await log.create_topics([TopicSpec("later", 1)])
        assert await follower.topic("later") == TopicSpec("later", 1)
        assert await follower.end_offset("later", 0) == 0
        with pytest.raises(LogUnavailable, match="reading only"):
            follower.writer("journal", 0).append([Produced(b"x")])
        await follower.close()

    async def test_following_what_does_not_exist_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no log in"):
            await EmbeddedLog.open(tmp_path / "absent", readonly=True)
        assert not (tmp_path / "absent").exists()


class TestDamage:
    async def damaged(self, directory: Path, near: bytes) -> None:
        log = await opened_log(directory)
        for number in range(20):
            await log.writer("journal", 0).append([Produced(b"unlikely-%02d-bytes" % number), Produced(b"x")])
        await log.writer("steps", 0).append([Produced(b"row-value-here", b"the-key")])
        await log.close()
        flip(directory / FILE_NAME, near)

    async def test_a_flipped_bit_is_found_and_located_when_read(self, tmp_path: Path) -> None:
        await self.damaged(tmp_path, b"unlikely-03-by")
        log = await opened_log(tmp_path)
        expected = r"journal' partition 0 offset 6: expected checksum [0-9a-f]{8}, got [0-9a-f]{8}.*lanes verify"
        with pytest.raises(Corruption, match=expected):
            await everything(log)
        assert len(await everything(log, begin=8)) == 32
        await log.close()

    async def test_verify_lists_every_damaged_row(self, tmp_path: Path) -> None:
        await self.damaged(tmp_path, b"unlikely-03-by")
        flip(tmp_path / FILE_NAME, b"unlikely-07-by")
        flip(tmp_path / FILE_NAME, b"row-value")
        found = [(finding.topic, finding.partition, finding.offset) for finding in verify(tmp_path)]
        assert found == [("journal", 0, 6), ("journal", 0, 14), ("steps", 0, 0)]

    async def test_verify_finds_missing_rows(self, tmp_path: Path) -> None:
        await self.damaged(tmp_path, b"unlikely-03-by")
        with sqlite3.connect(tmp_path / FILE_NAME) as file:
            file.execute("DELETE FROM batch WHERE position & 0xfffffffff = 6")
        (finding,) = verify(tmp_path)
        assert (finding.offset, finding.problem) == (6, "expected offset 6, got 8: records are missing")

    async def test_a_log_whose_last_batches_are_damaged_does_not_open(self, tmp_path: Path) -> None:
        await self.damaged(tmp_path, b"unlikely-19-by")
        with pytest.raises(Corruption, match="offset 38"):
            await EmbeddedLog.open(tmp_path)

    async def test_a_file_that_is_no_database_does_not_open(self, tmp_path: Path) -> None:
        (tmp_path / FILE_NAME).write_bytes(b"not a database at all, but long enough to be looked at" * 40)
        with pytest.raises(Corruption, match="damaged"):
            await EmbeddedLog.open(tmp_path)
        (finding,) = verify(tmp_path)
        assert "file is not a database" in finding.problem


class TestDiskFull:
    async def test_a_full_disk_refuses_and_goes_on_when_there_is_room(self, tmp_path: Path) -> None:
        log = await opened_log(tmp_path, EmbeddedOptions(disk_pages_max=200))
        writer = log.writer("journal", 0)
        taken: list[bytes] = []
        refusal: DiskFull | None = None
        while refusal is None:
            value = b"%d" % len(taken) * 3_000
            try:
                await writer.append([Produced(value)])
            except DiskFull as error:
                refusal = error
            else:
                taken.append(value)
        assert "nothing was written" in str(refusal)
        assert len(taken) > 10
        assert [r.value for r in await everything(log)] == taken
        with pytest.raises(DiskFull):
            await writer.append([Produced(b"x" * 30_000)])
        transaction = await log.transaction("checkpoint")
        await transaction.send("steps", 0, [Produced(b"x" * 300_000, b"k")])
        with pytest.raises(DiskFull):
            await transaction.commit({})
        await log.trim("journal", 0, len(taken) // 2)
        assert await writer.append([Produced(b"room")]) == len(taken)
        transaction = await log.transaction("checkpoint")
        await transaction.send("steps", 0, [Produced(b"row", b"k")])
        await transaction.commit({})
        assert [r.value for r in await everything(log, "steps")] == [b"row"]
        await log.close()
        assert verify(tmp_path) == []

    async def test_a_failed_write_ends_the_process_and_nothing_acknowledged_is_lost(self, tmp_path: Path) -> None:
        child = start_appender(tmp_path, file_size_max=1_000_000)
        output, errors = child.communicate(timeout=60)
        assert child.returncode == 70
        assert b"the disk under" in errors
        acknowledged = output.split()
        assert len(acknowledged) > 10
        log = await opened_log(tmp_path)
        records = await everything(log)
        assert [b"%d" % record.offset for record in records][: len(acknowledged)] == acknowledged
        await log.close()

    async def test_after_a_failed_disk_nothing_is_tried_again(self, tmp_path: Path) -> None:
        told: list[str] = []
        log = await opened_log(tmp_path, EmbeddedOptions(on_fatal=told.append))
        try:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            appending = log.writer("journal", 0).append([Produced(b"x")])
            with pytest.raises(OutcomeUnknown):
                await log._once(lambda _: _raise(error))
            await asyncio.gather(appending, return_exceptions=True)
            assert len(told) == 1
            assert not log.alive
            with pytest.raises(LogUnavailable, match="could not be synced"):
                log.writer("journal", 0).append([Produced(b"y")])
        finally:
            await log.close()


def _raise(error: Exception) -> None:
    raise error


def start_appender(directory: Path, file_size_max: int) -> subprocess.Popen[bytes]:
    """Another process that appends as fast as it can and prints each acknowledged offset."""
    source_root = Path(next(iter(millstream.__path__))).parent
    return subprocess.Popen(
        [sys.executable, "-c", _APPENDER, str(directory), str(file_size_max)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(source_root)},
    )


_APPENDER = """
import asyncio, resource, sys
from millstream.log.embedded.log import EmbeddedLog
from millstream.log.port import Produced, TopicKind, TopicSpec

async def main():
    directory, limit = sys.argv[1], int(sys.argv[2])
    log = await EmbeddedLog.open(directory, durability="os")
    await log.create_topics([TopicSpec("journal", 2), TopicSpec("steps", 1, TopicKind.COMPACTED)])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    async def appender():
        writer = log.writer("journal", 0)
        while True:
            first = await writer.append([Produced(b"x" * 500)])
            sys.stdout.write(f"{first}\\n")
            sys.stdout.flush()

    await asyncio.gather(*(appender() for _ in range(4)))

asyncio.run(main())
"""


class TestCommits:
    async def test_appends_that_wait_together_share_a_commit(self, log: EmbeddedLog) -> None:
        before = log.commits
        writers = [log.writer("journal", number % 2) for number in range(300)]
        await asyncio.gather(*(writer.append([Produced(b"x")]) for writer in writers))
        assert log.commits - before <= 10
        assert await log.end_offset("journal", 0) == 150

    async def test_a_killed_process_keeps_every_acknowledged_record(self, tmp_path: Path) -> None:
        child = start_appender(tmp_path, file_size_max=0)
        assert child.stdout is not None
        acknowledged = [child.stdout.readline() for _ in range(500)]
        child.send_signal(signal.SIGKILL)
        acknowledged += child.stdout.readlines()
        child.communicate()
        held = mark.read(tmp_path)
        assert held is not None
        marked = next(one.end for one in held.held if (one.topic, one.partition) == ("journal", 0))
        log = await opened_log(tmp_path)
        end = await log.end_offset("journal", 0)
        assert sum(line.endswith(b"\n") for line in acknowledged) <= marked <= end
        told = sorted(int(line) for line in acknowledged if line.endswith(b"\n"))
        assert len(told) >= 500
        assert told == list(range(len(told)))
        assert end >= len(told)
        assert len(await everything(log)) == end
        await log.close()
        assert verify(tmp_path) == []

    async def test_a_trimmed_log_does_not_grow(self, tmp_path: Path) -> None:
        log = await opened_log(tmp_path)
        writer = log.writer("journal", 0)
        sizes = []
        for _ in range(12):
            for _ in range(40):
                end = await writer.append([Produced(b"x" * 50_000)])
            assert end is not None
            await log.trim("journal", 0, end)
            sizes.append((tmp_path / FILE_NAME).stat().st_size + (tmp_path / f"{FILE_NAME}-wal").stat().st_size)
        await log.close()
        assert max(sizes) < 60 << 20  # A WAL of its soft limit, twice, and the file: not the 24 MB times anything.
        assert (tmp_path / FILE_NAME).stat().st_size < 8 << 20

    async def test_a_large_transaction_lets_appends_through(self, log: EmbeddedLog) -> None:
        committing = asyncio.ensure_future(large_transaction(log))
        writer = log.writer("journal", 0)
        beside = 0
        while not committing.done():
            await writer.append([Produced(b"beside")])
            beside += 1
        await committing
        assert beside >= 20  # At least half a step apart: it was written in 40.
        assert await log.end_offset("steps", 0) == 20_000

    async def test_a_large_transaction_is_on_disk_before_it_is_seen(self, log: EmbeddedLog, tmp_path: Path) -> None:
        """Else a checkpoint of a million rows would be in memory whole."""
        transaction = await log.transaction("checkpoint")
        for number in range(4):
            await transaction.send("steps", 0, large_part(number))
        assert rows_on_disk(tmp_path) == 4_000
        assert await log.end_offset("steps", 0) == 0
        await transaction.abort()
        transaction = await log.transaction("checkpoint")
        await transaction.send("steps", 0, [Produced(b"alone", b"k")])
        await transaction.commit({})
        assert [record.value for record in await everything(log, "steps")] == [b"alone"]
        assert rows_on_disk(tmp_path) == 1

    async def test_who_writes_where_a_large_transaction_is_written_ends_it(self, log: EmbeddedLog) -> None:
        transaction = await log.transaction("checkpoint")
        for number in range(4):
            await transaction.send("steps", 0, large_part(number))
        await log.writer("steps", 0).append([Produced(b"mine", b"k")])
        with pytest.raises(LogUnavailable, match="somebody else wrote"):
            await transaction.commit({})
        assert [record.value for record in await everything(log, "steps")] == [b"mine"]
        again = await log.transaction("checkpoint")
        for number in range(3):
            await again.send("steps", 0, large_part(number))
        await again.commit({})
        assert await log.end_offset("steps", 0) == 3_001

    async def test_a_transaction_that_was_given_up_ends_the_one_whose_rows_it_replaced(self, log: EmbeddedLog) -> None:
        transaction = await log.transaction("checkpoint")
        for number in range(4):
            await transaction.send("steps", 0, large_part(number))
        other = await log.transaction("another")
        for number in range(3):
            await other.send("steps", 0, large_part(number))
        await other.abort()
        with pytest.raises(LogUnavailable, match="somebody else wrote"):
            await transaction.commit({})
        assert await log.end_offset("steps", 0) == 0


def large_part(number: int) -> list[Produced]:
    return [Produced(b"x" * 100, b"%d-%d" % (number, part)) for part in range(1_000)]


async def large_transaction(log: EmbeddedLog) -> None:
    transaction = await log.transaction("checkpoint")
    for number in range(20):
        await transaction.send("steps", 0, large_part(number))
    await transaction.commit({})


def rows_on_disk(directory: Path) -> int:
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        found: int = connection.execute("SELECT count(*) FROM latest").fetchone()[0]
        return found


class TestWhatReadersSee:
    async def test_inbox_positions_are_durable_before_ownership_is_confirmed(self, tmp_path: Path) -> None:
        log = await opened_log(tmp_path)
        member = log.membership("g", 2)
        await member.join(on_assigned=_nothing, on_revoked=_nothing)
        assert await member.still_owns(1, inbox_position=42)
        with sqlite3.connect(tmp_path / FILE_NAME) as file:
            assert file.execute("SELECT * FROM inbox_position").fetchall() == [("g", 1, 42)]
        await log.close()

    async def test_a_reader_that_closes_gives_back_the_memory_of_the_tail(self, log: EmbeddedLog) -> None:
        reader = log.reader("journal", 0, 0)
        writer = log.writer("journal", 0)
        await writer.append([Produced(b"x" * 1_000)])
        assert log._topics.find("journal", 0).tail.size > 1_000
        await reader.close()
        assert log._topics.find("journal", 0).tail.size == 0
        await writer.append([Produced(b"y")])
        assert log._topics.find("journal", 0).tail.size == 0
        again = log.reader("journal", 0, 0)
        assert len(await again.read(max_records=9, max_bytes=9_999, wait_s=0)) == 2

    async def test_tombstones_go_after_their_time(self, tmp_path: Path) -> None:
        now = [1_700_000_000_000]
        log = await opened_log(tmp_path, EmbeddedOptions(now_ms=lambda: now[0]))
        await log.writer("steps", 0).append([Produced(b"1", b"k"), Produced(None, b"k"), Produced(b"2", b"l")])
        await log.writer("steps", 0).append([Produced(b"3", b"m")])  # Behind the sweep of the first.
        assert [r.key for r in await everything(log, "steps")] == [b"k", b"l", b"m"]
        now[0] += 120_001
        await log.retain()
        assert [r.key for r in await everything(log, "steps")] == [b"l", b"m"]
        assert await log.end_offset("steps", 0) == 4
        await log.close()


async def _nothing(lanes: frozenset[int]) -> None:
    return
