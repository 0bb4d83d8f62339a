"""The port behind which every log stands: embedded (SQLite), memory (tests, simulation), Kafka.

A log holds **topics**; a topic has a fixed number of **partitions**; a partition is a sequence of
**records** numbered by **offset** from 0. Everything above this port deals in bytes, partitions and
offsets and knows no backend. The words and the guarantees are Kafka's, because Kafka is the backend
with the least freedom:

* ``Writer.append`` is *not* conditional. It answers with the offset the record got. A caller that must know
  that nobody wrote in between compares that offset with the expected one (lanes.md rule 2).
* An append has three outcomes: acknowledged with an offset; refused (``LogUnavailable``: certainly
  not written); or **unknown** (``OutcomeUnknown``: the record may be there, or may turn up later).
* Appends of one writer are applied in order. A writer that had an unknown outcome must be closed and
  a new one opened: after ``close`` returns, none of its records can turn up any more *through this process*.
* Readers read what is durable, in order, and keep their own position.
* Compacted topics keep at least the last value of every key; ``None`` is a tombstone, which a reader sees
  for a while (``TOMBSTONE_KEPT_MS`` at least) and then neither it nor its key. Their offsets have holes.
* A ``Transaction`` makes its records visible together or not at all, and only while the membership it
  was begun with still holds (the checkpoint is its one user).
* A ``Membership`` says which lanes this process owns, as the group sees it.

Add a backend: one file beside this one, one line in ``tests/contract/test_log.py``'s table, one branch in
``worker/``.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from millstream.errors import LogUnavailable

TOMBSTONE_KEPT_MS = 120_000
"""A reader of a compacted topic that takes longer than this from start to end can miss a deletion."""


class OutcomeUnknown(LogUnavailable):
    """An append may or may not have been written. Look at the log before doing anything else."""


class TransactionRefused(LogUnavailable):
    """The membership a transaction was begun with no longer holds. Nothing of it is visible."""


class TopicKind(enum.Enum):
    """What is kept of a topic."""

    STREAM = "stream"  # everything, until trimmed or past its retention
    COMPACTED = "compacted"  # the last value of every key


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is made. ``retention_ms`` -1 means: only trimming removes records.

    ``record_bytes_max`` is what a log says of a topic that is there: the largest record it takes; -1: it does not say.
    """

    name: str
    partitions: int
    kind: TopicKind = TopicKind.STREAM
    retention_ms: int = -1
    record_bytes_max: int = field(default=-1, compare=False)

    def __post_init__(self) -> None:
        if self.partitions < 1:
            raise ValueError(f"topic {self.name!r}: partitions must be at least 1, got {self.partitions}")


class Produced(msgspec.Struct, frozen=True, gc=False):
    """A record on its way in. ``value`` None is a tombstone: in a compacted topic it deletes its key.

    A Struct, like ``Record``: 0.1 µs to make against 1 µs for a frozen dataclass, and there is one per event.
    """

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record read back. ``at_ms`` is the log's own append time in Unix milliseconds."""

    offset: int
    at_ms: int
    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class Writer(Protocol):
    """Appends to one partition, in order. One user at a time."""

    def append(self, records: Sequence[Produced]) -> Awaitable[int | None]:
        """Hand the records over at once (before the first await); resolve when they are durable.

        Resolves to the offset of the *first* record; the others follow without a gap. ``None``: written,
        offset not told; treat it as an unknown outcome. Raises LogUnavailable (not written; DiskFull when
        there is no room) or OutcomeUnknown; and from the call itself, nothing written: Busy when too much
        waits already, LimitExceeded when the batch can never be taken.
        """
        ...

    async def close(self) -> None:
        """Forget what is still under way. Nothing of it turns up after this returns."""
        ...


class Reader(Protocol):
    """Reads one partition from a position on. ``position`` is the offset read next.

    It passes over the holes of a compacted topic, with no record to show for it: everything has been read
    once ``position`` has reached the end offset, whatever the last record's offset was.
    """

    position: int

    async def read(self, *, max_records: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        """The next records in order, at least one unless ``wait_s`` seconds passed without any, or the position
        moved over what has no record.

        Stops early at ``max_records`` or once ``max_bytes`` of values are reached (always ≥ 1 record).
        Raises OffsetOutOfRange when the position was trimmed away or lies behind the end, Corruption when a
        checksum fails.
        """
        ...

    def seek(self, offset: int) -> None: ...

    async def close(self) -> None: ...


class Transaction(Protocol):
    """Records for compacted topics that become visible together, or never."""

    async def send(self, topic: str, partition: int, records: Sequence[Produced]) -> None:
        """Add records. Nothing is visible before ``commit`` returns.

        Waits while much is under way: a transaction may be larger than memory. Raises LogUnavailable; then the
        transaction is to be aborted.
        """
        ...

    async def commit(self, inbox_positions: Mapping[int, int]) -> None:
        """Make all of it visible and commit the group's inbox position of each lane (lane → next offset).

        The group is the one this log's membership has joined; without one only empty positions are accepted.
        Raises TransactionRefused when the membership of the beginning no longer holds, LogUnavailable on any
        other failure; then nothing is visible and the transaction is over. (OutcomeUnknown: it may be.)
        """
        ...

    async def abort(self) -> None: ...


LanesChanged = Callable[[frozenset[int]], Awaitable[None]]


class Membership(Protocol):
    """This process's place in the group: which lanes it owns, as the group last told it."""

    @property
    def live(self) -> bool:
        """Whether this process is a member, as far as it knows. A membership that ends by itself (not by ``leave``)
        gives its lanes up and joins again."""
        ...

    async def join(self, *, on_assigned: LanesChanged, on_revoked: LanesChanged) -> None:
        """Join the group. ``on_assigned`` gets lanes that were added; ``on_revoked`` those taken away,
        before another member gets them where the group can say so, after the fact where it cannot."""
        ...

    async def still_owns(self, lane: int, *, inbox_position: int) -> bool:
        """lanes.md rule 3: poll the group, be in its current assignment, and have a synchronous commit of
        the lane's inbox position accepted. Only then may a fence be appended."""
        ...

    def reader(self, topic: str, partition: int, offset: int) -> Reader:
        """Read an input partition of a lane this member owns: the lane's inbox, or one of its sources.

        One reader of a partition at a time; the newest takes it over. It ends (LogUnavailable) with the lane's
        ownership of it: the group's consumer lets the partition go before another member may have it.
        """
        ...

    async def commit(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Commit positions ((topic, partition) → next offset) as offsets of the group, for those who watch it.

        Best effort: what counts is in the journal, so a commit that is lost costs nobody anything but a wrong lag
        until the next. Raises LogUnavailable when it was not accepted.
        """
        ...

    async def leave(self) -> None:
        """Leave the group: ``on_revoked`` gets every lane still held, then others may have them."""
        ...


class Log(Protocol):
    """A whole log."""

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Make the topics that are missing; refuse (ConfigError) one that exists with another shape."""
        ...

    async def topic(self, name: str) -> TopicSpec | None:
        """The topic as it is, or None."""
        ...

    async def topic_identity(self, name: str) -> str:
        """Tells this topic from every other that has had or will have its name; "" where the log knows none."""
        ...

    def writer(self, topic: str, partition: int) -> Writer: ...

    def reader(self, topic: str, partition: int, offset: int) -> Reader: ...

    async def start_offset(self, topic: str, partition: int) -> int:
        """The offset of the first record still there (the end offset when there is none).

        Compaction leaves holes and does not move it."""
        ...

    async def end_offset(self, topic: str, partition: int) -> int:
        """The offset the next durable record will get."""
        ...

    async def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        """The first offset whose append time is ≥ ``at_ms``; the end offset when there is none."""
        ...

    async def trim(self, topic: str, partition: int, before_offset: int) -> None:
        """Remove the records below ``before_offset`` of a stream. Never moves the start backwards; beyond the
        end it trims up to the end, and the end offset stays what it was."""
        ...

    async def transaction(self, name: str) -> Transaction:
        """Begin a transaction under a stable name; an unfinished one of the same name is aborted."""
        ...

    def membership(self, group: str, lanes: int) -> Membership: ...

    async def close(self) -> None: ...
