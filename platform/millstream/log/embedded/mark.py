"""The mark: what the log must contain, kept in a file beside it (``<directory>/mark``).

A log whose newest records are gone looks like one that never had them: SQLite drops everything behind a damaged page
of its WAL, and a missing WAL is an empty one. So each commit puts the ends of its partitions here *after* it is durable
and *before* it is acknowledged, and a start compares.

    slot 0        what the file is: format, the log's identity, under which durability and boot it is written
    slot n        partition n of log.db: its end, the time of its last record, its topic's name and number

    slot = end u64, time i64, checksum u32 │ number u32, length u16, the name          (512 bytes, a sector)
           written by every commit           written once

The cost: each slot is written into a mapping of the file, which gives up neither the interpreter's lock nor the
processor (about 1 µs). A process that dies leaves the mapping to the kernel, so after a kill the mark is exact. It is
synced once a second, beside the commits, and at the end; after a power cut it may be up to that second old, which means
that less is noticed, never that a log is refused which is whole. SQLite maps its ``-shm`` file the same way.

A slot whose checksum is wrong is no evidence. Under ``os`` a power cut may take what was acknowledged: what the mark
says counts only within the boot that wrote it, and it is not synced.
"""

from __future__ import annotations

import errno
import mmap
import os
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from millstream.disk import write_small_file
from millstream.errors import DiskFull, LogUnavailable
from millstream.log.embedded.partition import Partition

FILE_NAME: Final = "mark"
SLOT_BYTES: Final = 512
SLOTS_PER_GROWTH: Final = 64
IDENTITY_BYTES: Final = 16
_MAGIC: Final = b"millstream mark\n"
_FORMAT: Final = 1
_HEAD: Final = Struct("<16sB16sB36sI")  # magic, format, identity, fsync or not, boot, checksum
_MOVING: Final = Struct("<QqI")
_STATIC: Final = Struct("<IH")
_FSYNC: Final = "fsync"
NAME_BYTES_MAX: Final = SLOT_BYTES - _MOVING.size - _STATIC.size
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Held(NamedTuple):
    """What a partition must contain: everything before ``end``, whose last record is of ``at_ms``."""

    topic: str
    partition: int
    end: int
    at_ms: int


@dataclass(slots=True)
class Found:
    """A mark as a start finds it. ``readable`` is False where even its head is damaged: then it says nothing."""

    readable: bool = False
    identity: bytes = b""
    durability: str = _FSYNC
    boot: str = ""
    held: list[Held] = field(default_factory=list)
    damaged: int = 0

    @property
    def survived(self) -> bool:
        """Whether the log must still have what is held: under ``os`` only until the machine is started again."""
        return self.durability == _FSYNC or (self.boot != "" and self.boot == boot_id())


def _sync(handle: int) -> None:
    """The content alone where the system can: times of the file would cost its journal a write."""
    getattr(os, "fdatasync", os.fsync)(handle)


def boot_id() -> str:
    """Names this boot of the machine; "" where the system has no name for it."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def read(directory: Path) -> Found | None:
    """The mark of a log; None where there is none."""
    try:
        raw = (directory / FILE_NAME).read_bytes()
    except FileNotFoundError:
        return None
    found = Found()
    if len(raw) < SLOT_BYTES:
        return found
    magic, version, identity, synced, boot, checksum = _HEAD.unpack_from(raw)
    if magic != _MAGIC or version != _FORMAT or checksum != zlib.crc32(raw[: _HEAD.size - 4]):
        return found
    found.readable, found.identity, found.durability = True, identity, _FSYNC if synced else "os"
    found.boot = boot.rstrip(b"\0").decode("ascii", "replace")
    for number in range(1, len(raw) // SLOT_BYTES):
        slot = raw[number * SLOT_BYTES : (number + 1) * SLOT_BYTES]
        if not any(slot):
            continue
        held = _held(identity, number, slot)
        if held is None:
            found.damaged += 1
        else:
            found.held.append(held)
    found.damaged += bool(len(raw) % SLOT_BYTES)
    return found


def head(identity: bytes, *, synced: bool, boot: str) -> bytes:
    """What slot 0 begins with."""
    packed = _HEAD.pack(_MAGIC, _FORMAT, identity, synced, boot.encode()[:36], 0)[:-4]
    return packed + zlib.crc32(packed).to_bytes(4, "little")


def _held(identity: bytes, number: int, slot: bytes) -> Held | None:
    end, at_ms, checksum = _MOVING.unpack_from(slot)
    partition, length = _STATIC.unpack_from(slot, _MOVING.size)
    begin = _MOVING.size + _STATIC.size
    static = slot[_MOVING.size : begin + length]
    if begin + length > SLOT_BYTES or any(slot[begin + length :]):
        return None
    if checksum != zlib.crc32(slot[: _MOVING.size - 4], _static_checksum(identity, number, static)):
        return None
    return Held(slot[begin : begin + length].decode(errors="replace"), partition, end, at_ms)


def clipped(topic: str) -> bytes:
    """A topic's name as a slot has room for it; Kafka's are shorter."""
    return topic.encode()[:NAME_BYTES_MAX]


def _static_checksum(identity: bytes, number: int, static: bytes) -> int:
    return zlib.crc32(identity + number.to_bytes(8, "little") + static)


class Mark:
    """The mark of an open log. ``reserve``, ``add`` and ``note`` are the writer thread's, ``sync`` any one thread's."""

    def __init__(self, directory: Path, identity: bytes, durability: str, partitions: Iterable[Partition]) -> None:
        """Begin a mark of these partitions as they are now; what was there is replaced. Durable on return."""
        self._path = directory / FILE_NAME
        self._identity = identity
        self._synced = durability == _FSYNC
        self._checksums: dict[int, int] = {}
        self._dirty = False
        held = list(partitions)
        slots = _rounded(max((partition.place.id for partition in held), default=0) + 1)
        content = bytearray(slots * SLOT_BYTES)
        content[: _HEAD.size] = head(identity, synced=self._synced, boot=boot_id())
        for partition in held:
            self._write(content, partition)
        self._handle = self._begin(content)
        self._map = mmap.mmap(self._handle, len(content))

    def _begin(self, content: bytearray) -> int:
        """Whole and durable. Where there is no room for another file, in place: slot by slot it is never torn."""
        try:
            write_small_file(self._path, bytes(content))
            return os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except Exception:
            with suppress(OSError):
                handle = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                size = os.fstat(handle).st_size
                if size >= len(content):
                    os.pwrite(handle, content.ljust(size, b"\0"), 0)
                    os.fsync(handle)
                    return handle
                os.close(handle)
            raise

    def reserve(self, partitions: int) -> None:
        """Make room for so many more. Raises DiskFull or LogUnavailable; nothing has changed then."""
        needed = max(self._checksums, default=0) + 1 + partitions
        size = len(self._map)
        if needed * SLOT_BYTES <= size:
            return
        larger = _rounded(needed) * SLOT_BYTES
        try:
            os.pwrite(self._handle, bytes(larger - size), size)  # Written, not skipped: a hole may find no room later.
            os.fsync(self._handle)
        except OSError as error:
            kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else LogUnavailable
            raise kind(f"{self._path} could not grow: {error}. No topic was made; it is tried again.") from error
        self._map.close()
        self._map = mmap.mmap(self._handle, larger)

    def add(self, partitions: Sequence[Partition]) -> None:
        """Begin to hold partitions that were made; there is room for them (``reserve``)."""
        for partition in partitions:
            self._write(self._map, partition)
        self._dirty = True

    def note(self, partitions: Iterable[Partition]) -> None:
        """These partitions are durable up to their ``next``."""
        for partition in partitions:
            number = partition.place.id
            moving = _MOVING.pack(partition.next, partition.last_at_ms, 0)[:-4]
            at = number * SLOT_BYTES
            checksum = zlib.crc32(moving, self._checksums[number])
            self._map[at : at + _MOVING.size] = moving + checksum.to_bytes(4, "little")
        self._dirty = True

    def sync(self) -> None:
        """Make it survive a power cut, where the log does. Raises OSError where the disk fails."""
        if self._dirty and self._synced:
            self._dirty = False
            _sync(self._handle)

    def close(self) -> None:
        """Synced, and let go of."""
        try:
            self.sync()
        finally:
            self._map.close()
            os.close(self._handle)

    def _write(self, into: bytearray | mmap.mmap, partition: Partition) -> None:
        place = partition.place
        name = clipped(place.topic)
        static = _STATIC.pack(place.number, len(name)) + name
        at = place.id * SLOT_BYTES
        checksum = self._checksums[place.id] = _static_checksum(self._identity, place.id, static)
        moving = _MOVING.pack(partition.next, partition.last_at_ms, 0)[:-4]
        slot = moving + zlib.crc32(moving, checksum).to_bytes(4, "little") + static
        into[at : at + len(slot)] = slot


def _rounded(slots: int) -> int:
    return -(-slots // SLOTS_PER_GROWTH) * SLOTS_PER_GROWTH
