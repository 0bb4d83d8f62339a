"""The RocksDB store: the only file that imports it.

Settings, and why:

* The write-ahead log is on and never synced. A killed process loses nothing, a machine without power the latest
  writes, in order; both are replayed from the journal. Without it, small states would never reach the disk at all.
* One block cache and one write buffer for all lanes of a worker (``RocksBudget``): per-lane caches are the hidden
  memory of every engine built this way.
* ``no_slowdown``: a stalled write raises StoreBusy at once instead of holding the interpreter's lock while it waits.
* Bloom filters, of memtables too: most looks of the hot path are for keys that are not there.
* Recovery to a point in time: a damaged tail of the log ends it there, which is the same as having lost it.

Every error is one of three (``RocksStore._failed``):

* **It passes**: no room, no descriptors, no permission (``disk.passing``). StoreUnavailable; nothing is thrown away.
  After an error of a write RocksDB takes no more until it is opened anew, which the next call does, in place; snapshots
  end with that. What such a database says when it is closed ("Writer has previous error") masks no error before it.
* **The caller's**: a closed store was used.
* **Damage**, which is all else: the store is a cache, so it is condemned. StoreDamaged; when it is closed the directory
  is moved aside to ``<directory>.damaged``, one at most, and the next open begins with an empty one. ``CONDEMNED``
  says so to the next process, where this one dies before that.

A directory that cannot be opened for damage is moved aside likewise.
"""

from __future__ import annotations

import logging
import resource
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)
from rocksdict import Snapshot as RawSnapshot

from millstream.disk import passing
from millstream.errors import InternalError, LogLocked, StoreDamaged, StoreUnavailable
from millstream.files import private_directory
from millstream.state.store import Change, StoreBusy

log = logging.getLogger(__name__)

MIB: Final = 1024 * 1024
CACHE_BYTES: Final = 64 * MIB
"""Blocks of all lanes of a worker, index and filter blocks included."""
WRITE_BUFFER_BYTES: Final = 32 * MIB
"""Memtables of all lanes of a worker; charged to the cache."""
MEMTABLE_BYTES_MAX: Final = 8 * MIB
MEMTABLE_BLOOM_SHARE: Final = 0.05
WAL_BYTES_MAX: Final = 32 * MIB
OPEN_FILES_MIN: Final = 64
OPEN_FILES_MAX: Final = 512
"""Files of a lane kept open; a look into one that is not costs the reading of its index first, some 100 µs."""
LANES_EXPECTED: Final = 128
"""The stores, some of them not lanes, that share the files a process may hold open: one that finds none is broken."""
BLOCK_BYTES: Final = 8 * 1024
FILE_BYTES: Final = 16 * MIB
BLOOM_BITS: Final = 10
INFO_LOG_BYTES_MAX: Final = MIB
CONDEMNED: Final = "condemned"
"""A file of this name beside the database says: move it aside at the next open."""
DAMAGED: Final = ".damaged"
"""What the name of a directory that was moved aside ends with."""
OPEN_AGAIN_S: Final = 0.2
"""Between two tries to open a database after an error: each reads its log once more."""
# Done timers leave long rows of tombstones, which every scan from the front would step over: compact such files early.
TOMBSTONE_WINDOW: Final = 10_000
TOMBSTONES_MAX: Final = 5_000


class RocksBudget:
    """The memory that all RocksDB stores of a worker share."""

    __slots__ = ("cache", "write_buffer")

    def __init__(self, *, cache_bytes: int = CACHE_BYTES, write_buffer_bytes: int = WRITE_BUFFER_BYTES) -> None:
        if not 0 < write_buffer_bytes <= cache_bytes:
            raise ValueError(f"expected 0 < write_buffer_bytes ≤ cache_bytes, got {write_buffer_bytes}, {cache_bytes}")
        self.cache = Cache(cache_bytes)
        # Never stalls writers: a full buffer starts flushes earlier, and that is all we want of it.
        self.write_buffer = WriteBufferManager.new_write_buffer_manager_with_cache(
            write_buffer_bytes, False, self.cache
        )


class RocksStore:
    """A ``Store`` in a directory of its own."""

    __slots__ = (
        "_budget",
        "_closed",
        "_condemned",
        "_database",
        "_directory",
        "_opened_s",
        "_sequence",
        "_snapshots",
        "_stuck",
        "_untouched",
        "_write_options",
    )

    def __init__(self, directory: Path, budget: RocksBudget) -> None:
        """Open or create it; a damaged one is moved aside first.

        Raises LogLocked if another process has it, StoreUnavailable where it cannot be opened now.
        """
        self._directory = directory
        self._budget = budget
        self._snapshots: list[RocksSnapshot] = []
        self._write_options = WriteOptions()
        self._write_options.no_slowdown = True
        self._database: Rdict | None = None
        self._closed = False
        self._condemned = ""  # Why, in words.
        self._stuck = False  # An error of a write: RocksDB takes no more until it is opened anew.
        self._opened_s = 0.0
        self._sequence = 0  # Of the last write: what an open that lost one has not.
        self._untouched = False
        if (directory / CONDEMNED).exists():
            self._move_aside("found damaged while in use")
        try:
            self._open()
        except StoreDamaged as damaged:
            self._move_aside(str(damaged.__cause__))
            self._open()

    def get(self, key: bytes) -> bytes | None:
        """See ``StoreView``."""
        database = self._database or self._opened_anew()
        try:
            value: bytes | None = database.get(key)
        except Exception as error:
            raise self._failed(error) from error
        return value

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See ``StoreView``."""
        database = self._database or self._opened_anew()
        try:
            return _scan(database.iter(), start, end, limit)
        except Exception as error:
            raise self._failed(error) from error

    def write(self, changes: Sequence[Change]) -> None:
        """See ``Store``. Holds the interpreter's lock for about 1 µs a change, so the caller keeps them few."""
        self._untouched = False
        batch = WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        database = self._database
        if database is None or self._stuck:
            database = self._opened_anew()
        try:
            database.write(batch, self._write_options)
            self._sequence = database.latest_sequence_number()
        except Exception as error:
            if _WOULD_WAIT in str(error):
                raise StoreBusy(f"the lane store {self._directory} is compacting: {error}. Try again.") from error
            self._stuck = True
            raise self._failed(error) from error

    def snapshot(self) -> RocksSnapshot:
        """See ``Store``; O(1)."""
        database = self._database or self._opened_anew()
        try:
            made = RocksSnapshot(database, self._failed)
        except Exception as error:
            raise self._failed(error) from error
        self._snapshots = [held for held in self._snapshots if held.open]
        self._snapshots.append(made)
        return made

    def wipe(self) -> None:
        """See ``Store``."""
        if self._untouched:
            return  # Opening once more takes as long as starting a lane.
        self._let_go()
        try:
            shutil.rmtree(self._directory)
        except OSError as error:
            raise self._failed(error) from error
        self._open()

    def condemn(self, found: str) -> StoreDamaged:
        """See ``Store``."""
        if not self._condemned:
            self._condemned = found
            with suppress(OSError):  # No room for the note: who opens it next finds the damage again.
                (self._directory / CONDEMNED).touch()
        return StoreDamaged(
            f"the lane store {self._directory} is damaged: {found}. Expected what was written to it. It is moved aside "
            f"to {_aside(self._directory)} and built anew from the topics; nothing is lost. Check the disk."
        )

    def close(self) -> None:
        """See ``Store``."""
        self._closed = True
        self._let_go()
        if self._condemned:
            with suppress(StoreUnavailable):  # The next open tries again, and says so.
                self._move_aside(self._condemned)

    # --- opening, and what went wrong ----------------------------------------------------------

    def _open(self) -> None:
        """Raises LogLocked, StoreUnavailable, or StoreDamaged."""
        self._opened_s = time.monotonic()
        try:
            untouched = not self._directory.exists()
            private_directory(self._directory.parent)
            private_directory(self._directory)
            self._database = Rdict(str(self._directory), _options(self._budget))
            self._sequence = self._database.latest_sequence_number()
        except Exception as error:
            if _is_lock(error):
                raise LogLocked(
                    f"the lane store {self._directory} is open elsewhere: expected to be its only user, got {error}. "
                    "Stop the other worker, or give this one a data directory of its own."
                ) from error
            raise self._failed(error) from error
        self._untouched, self._stuck = untouched, False

    def _opened_anew(self) -> Rdict:
        """The database, opened once more: an error of a write has ended the one before. Raises what ``_open`` does."""
        if self._closed:
            raise self._failed_closed()
        if self._condemned:
            raise self.condemn(self._condemned)
        if time.monotonic() < self._opened_s + OPEN_AGAIN_S:
            raise self._unavailable("opening it has just failed, or a write right behind that")
        expected = self._sequence
        self._let_go()
        self._open()
        database = self._database
        assert database is not None, "it was just opened"
        if self._sequence < expected:
            raise self.condemn(f"it came back with write {self._sequence} as its last, not {expected}")
        return database

    def _let_go(self) -> None:
        for held in self._snapshots:
            held.close()
        self._snapshots = []
        database, self._database = self._database, None
        if database is not None:
            try:
                database.close()
            except Exception as error:  # It repeats what a write has raised already, and lets go all the same.
                log.info("lane store closed after an error directory=%s error=%s", self._directory, error)

    def _failed(self, error: Exception) -> Exception:
        """What an error means; the one place that says so."""
        if type(error).__name__ == "DbClosedError":
            return self._failed_closed()
        why = passing(error)
        return self._unavailable(f"{why} ({error})") if why else self.condemn(str(error))

    def _failed_closed(self) -> InternalError:
        return InternalError(f"the closed lane store {self._directory} was used; its lane should have ended before")

    def _unavailable(self, why: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"the lane store {self._directory} cannot be read or written now: {why}. Nothing is lost, and nothing is "
            "thrown away; the lane goes on by itself when that has passed."
        )

    def _move_aside(self, why: str) -> None:
        aside = _aside(self._directory)
        try:
            shutil.rmtree(aside, ignore_errors=True)
            self._directory.rename(aside)
        except OSError as error:
            raise self._unavailable(f"it is damaged, and was not moved aside: {error}") from error
        self._condemned = ""
        with suppress(OSError):
            (aside / CONDEMNED).unlink(missing_ok=True)
        log.warning("lane store moved aside directory=%s to=%s reason=%s", self._directory, aside, why)


class RocksSnapshot:
    """A ``Snapshot``: the binding's own for single keys, an iterator for ranges.

    The binding's snapshots forget themselves when they make an iterator: it shows later writes (rocksdict 0.3.29; a
    contract test watches it). An iterator of RocksDB shows the moment it was made, however often it seeks, so one is
    made together with the snapshot and kept.
    """

    __slots__ = ("_failed", "_iterator", "_raw")

    def __init__(self, database: Rdict, failed: Callable[[Exception], Exception]) -> None:
        self._failed = failed
        self._raw: RawSnapshot | None = database.snapshot()
        self._iterator: RdictIter | None = database.iter()

    @property
    def open(self) -> bool:
        """Whether it still holds old rows on the disk."""
        return self._raw is not None

    def get(self, key: bytes) -> bytes | None:
        """See ``StoreView``."""
        if self._raw is None:
            raise _closed_snapshot()
        try:
            value: bytes = self._raw[key]
        except Exception as error:
            if str(error) == _NOT_FOUND:
                return None
            raise self._failed(error) from error
        return value

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See ``StoreView``."""
        if self._iterator is None:
            raise _closed_snapshot()
        try:
            return _scan(self._iterator, start, end, limit)
        except Exception as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """See ``Snapshot``."""
        self._raw = self._iterator = None


def _scan(at: RdictIter, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
    """Rows of an iterator. The binding's own ``items`` ends at a damaged block as at the end, without a word."""
    found: list[tuple[bytes, bytes]] = []
    at.seek(start)
    while len(found) < limit and at.valid():
        key: bytes = at.key()
        if key >= end:
            return found
        found.append((key, at.value()))
        at.next()
    at.status()  # Raises where the iterator stopped for an error and not for an end.
    return found


_NOT_FOUND: Final = "key not found"
"""All that the binding says of a missing key in a snapshot: a bare Exception with this text."""


_WOULD_WAIT: Final = "Result incomplete"
"""RocksDB's status Incomplete: the write would have had to wait."""


def _closed_snapshot() -> StoreUnavailable:
    return StoreUnavailable(
        "a closed snapshot of a lane store was read: its store was opened anew after an error, and its checkpoint is "
        "made again"
    )


def _aside(directory: Path) -> Path:
    return directory.with_name(directory.name + DAMAGED)


def _is_lock(error: Exception) -> bool:
    text = str(error)
    return "lock hold by" in text or ("While lock file" in text and "temporarily unavailable" in text)


def _open_files() -> int:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return OPEN_FILES_MAX
    return max(OPEN_FILES_MIN, min(OPEN_FILES_MAX, allowed // LANES_EXPECTED))


def _options(budget: RocksBudget) -> Options:
    blocks = BlockBasedOptions()
    blocks.set_block_cache(budget.cache)
    blocks.set_block_size(BLOCK_BYTES)
    blocks.set_bloom_filter(BLOOM_BITS, False)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
    # Large filters and indexes do not fit a shard of the cache and would be read from the disk for every look.
    blocks.set_index_type(BlockBasedIndexType.two_level_index_search())
    blocks.set_partition_filters(True)
    blocks.set_pin_top_level_index_and_filter(True)
    options = Options(raw_mode=True)
    options.set_target_file_size_base(FILE_BYTES)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_manager(budget.write_buffer)
    options.set_write_buffer_size(MEMTABLE_BYTES_MAX)
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_SHARE)
    options.set_memtable_whole_key_filtering(True)
    options.set_max_total_wal_size(WAL_BYTES_MAX)
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    options.set_max_open_files(_open_files())
    # One shard: in the default's 64, two files of a lane that share one drive each other out, however many may be open.
    options.set_table_cache_num_shard_bits(0)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX)
    options.add_compact_on_deletion_collector_factory(TOMBSTONE_WINDOW, TOMBSTONES_MAX, 0.5)
    return options
