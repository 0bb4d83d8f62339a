"""The RocksDB store: the only file that imports it.

Settings, and why:

* The write-ahead log is on and never synced. A killed process loses nothing, a machine without power the latest
  writes, in order; both are replayed from the journal. Without it, small states would never reach the disk at all.
* One block cache and one write buffer for all lanes of a worker (``RocksBudget``): per-lane caches are the hidden
  memory of every engine built this way.
* ``no_slowdown``: a stalled write raises StoreBusy at once instead of holding the interpreter's lock while it waits.
* Bloom filters, of memtables too: most looks of the hot path are for keys that are not there.
* Recovery to a point in time: a damaged tail of the log ends it there, which is the same as having lost it.

A directory that cannot be opened is emptied, with a line in the log: it is a cache. One that was found broken while in
use is marked so (``CONDEMNED``), the lane stops with Corruption, and the next open empties it.
"""

from __future__ import annotations

import logging
import resource
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, cast

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

from millstream.errors import Corruption, InternalError, LogLocked
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
"""A file of this name beside the database says: empty it at the next open."""
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

    __slots__ = ("_budget", "_database", "_directory", "_snapshots", "_untouched", "_write_options")

    def __init__(self, directory: Path, budget: RocksBudget) -> None:
        """Open or create it; empty it first if it cannot be opened. Raises LogLocked if another process has it."""
        self._directory = directory
        self._budget = budget
        self._snapshots: list[RocksSnapshot] = []
        self._write_options = WriteOptions()
        self._write_options.no_slowdown = True
        if (directory / CONDEMNED).exists():
            log.warning("lane store wiped directory=%s reason=found broken while in use", directory)
            shutil.rmtree(directory)
        try:
            self._database = self._open()
        except Exception as error:
            if _is_lock(error):
                raise LogLocked(
                    f"the lane store {directory} is open elsewhere: expected to be its only user, got {error}. "
                    "Stop the other worker, or give this one a data directory of its own."
                ) from error
            log.warning("lane store wiped directory=%s reason=%s", directory, error)
            shutil.rmtree(directory, ignore_errors=True)
            self._database = self._open()

    def get(self, key: bytes) -> bytes | None:
        """See ``StoreView``."""
        try:
            value: bytes | None = self._database.get(key)
        except Exception as error:
            raise self._broken(error) from error
        return value

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See ``StoreView``."""
        try:
            found: list[tuple[bytes, bytes]] = []
            # Raw mode gives bytes, though the binding's types know nothing of it.
            rows = cast("Iterator[tuple[bytes, bytes]]", self._database.items(from_key=start))
            for key, value in rows:
                if len(found) == limit or key >= end:
                    break
                found.append((key, value))
            return found
        except Exception as error:
            raise self._broken(error) from error

    def write(self, changes: Sequence[Change]) -> None:
        """See ``Store``. Holds the interpreter's lock for about 1 µs a change, so the caller keeps them few."""
        self._untouched = False
        batch = WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            self._database.write(batch, self._write_options)
        except Exception as error:
            if "ncomplete" in str(error):  # RocksDB's status Incomplete: it would have had to wait.
                raise StoreBusy(f"the lane store {self._directory} is compacting: {error}. Try again.") from error
            raise self._broken(error) from error

    def snapshot(self) -> RocksSnapshot:
        """See ``Store``; O(1)."""
        try:
            made = RocksSnapshot(self._database)
        except Exception as error:
            raise self._broken(error) from error
        self._snapshots = [held for held in self._snapshots if held.open]
        self._snapshots.append(made)
        return made

    def wipe(self) -> None:
        """See ``Store``."""
        if self._untouched:
            return  # Opening once more takes as long as starting a lane.
        self.close()
        shutil.rmtree(self._directory)
        self._database = self._open()

    def close(self) -> None:
        """See ``Store``."""
        for held in self._snapshots:
            held.close()
        self._snapshots = []
        self._database.close()

    def _open(self) -> Rdict:
        self._untouched = not self._directory.exists()
        self._directory.mkdir(parents=True, exist_ok=True)
        return Rdict(str(self._directory), _options(self._budget))

    def _broken(self, error: Exception) -> Exception:
        if type(error).__name__ == "DbClosedError":
            return InternalError(f"the closed lane store {self._directory} was used; its lane should have ended before")
        (self._directory / CONDEMNED).touch()
        return Corruption(
            f"the lane store {self._directory} cannot be read or written: {error}. "
            "It will be emptied at the next open and restored from the topics; check the disk."
        )


class RocksSnapshot:
    """A ``Snapshot``: the binding's own for single keys, an iterator for ranges.

    The binding's snapshots forget themselves when they make an iterator: it shows later writes (rocksdict 0.3.29; a
    contract test watches it). An iterator of RocksDB shows the moment it was made, however often it seeks, so one is
    made together with the snapshot and kept.
    """

    __slots__ = ("_iterator", "_raw")

    def __init__(self, database: Rdict) -> None:
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
            raise Corruption(f"a snapshot of a lane store cannot be read: {error}. Check the disk.") from error
        return value

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See ``StoreView``."""
        at = self._iterator
        if at is None:
            raise _closed_snapshot()
        found: list[tuple[bytes, bytes]] = []
        at.seek(start)
        while len(found) < limit and at.valid():
            key: bytes = at.key()
            if key >= end:
                break
            found.append((key, at.value()))
            at.next()
        at.status()  # Raises where the iterator stopped for an error and not for an end.
        return found

    def close(self) -> None:
        """See ``Snapshot``."""
        self._raw = self._iterator = None


_NOT_FOUND: Final = "key not found"
"""All that the binding says of a missing key in a snapshot: a bare Exception with this text."""


def _closed_snapshot() -> InternalError:
    return InternalError("a closed snapshot of a lane store was read: expected its checkpoint to have ended before")


def _is_lock(error: Exception) -> bool:
    text = str(error)
    return "lock hold by" in text or "While lock file" in text


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
