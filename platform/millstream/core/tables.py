"""The tables the core needs, as it sees them. ``state/`` provides them; the core does not care where rows lie.

A table maps keys to immutable rows. What ``fold`` puts is seen by the next ``decide`` at once. Keys are strings, ints
or tuples of them, ordered as Python orders them.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from millstream.model.gates.overrides import LimitsRow
from millstream.model.gates.rows import AskRow, BatchRow, GateRow, KeptStartRow, QueueRow, SingletonRow, StartsRow
from millstream.model.place import Place
from millstream.model.rows import (
    AppRow,
    CancellationRow,
    CounterRow,
    CoverageRow,
    CronRow,
    EventRow,
    HeldRow,
    HolderRow,
    InboxCursorRow,
    InterestRow,
    KeptAtRow,
    KeptRow,
    OutboxCursorRow,
    OutboxRow,
    ParkedRow,
    PositionRow,
    PublishRow,
    RequestRow,
    RunRow,
    ScanRow,
    SeekRow,
    SeenBucketRow,
    SeenChunkRow,
    SeenRow,
    SignalRow,
    StepRow,
    SubscriptionRow,
    TimerRow,
    TopicRow,
    WaiterRow,
)

K = TypeVar("K")
R = TypeVar("R")


class Table(Protocol[K, R]):
    """Rows of one type by key."""

    def get(self, key: K, /) -> R | None: ...

    def put(self, key: K, row: R, /) -> None: ...

    def add(self, key: K, row: R, /) -> None:
        """As ``put``, for a key that is certainly new. Cheaper for rows that come and go; wrong for any other."""
        ...

    def delete(self, key: K, /) -> None: ...

    def scan(self, start: K | None = None, *, limit: int) -> list[tuple[K, R]]:
        """At most ``limit`` rows with key ≥ ``start`` in key order."""
        ...

    def within(self, group: str, start: K | None = None, *, limit: int) -> list[tuple[K, R]]:
        """As ``scan``, of those whose key begins with ``group``: cheap however many rows the table has.

        Where the key space says so only (``grouped`` in ``state/keyspace.py``).
        """
        ...

    @property
    def version(self) -> int:
        """Changes whenever a row of this table may have changed; for values derived from all its rows.

        Between two records only where the key space says so (``versioned`` in ``state/keyspace.py``).
        """
        ...


StepKey = tuple[str, str]  # (run, step)
TimerKey = tuple[int, str, str, str]  # (at_ms, kind, id, step)
CronKey = tuple[str, str]  # (function, cron)
SourceKey = tuple[str, int]  # (topic, partition)
SubscriptionKey = tuple[str, str]  # (function, topic)
ScanKey = tuple[str, int]  # (scan, partition)
BucketKey = tuple[str, bool, int]  # (source, clients, bucket)
ChunkKey = tuple[str, bool, int, int]  # (source, clients, bucket, chunk)
MessageKey = tuple[int, int]  # (to_lane, seq)
ParkedKey = tuple[str, str, str]  # (function, run, step)
HeldKey = tuple[str, str, str]  # (function, run, step)
WaiterKey = tuple[str, str, str, int]  # (place, run, step, index)
KeptKey = tuple[int, str]  # (received_at_ms, internal_id)
KeptAtKey = tuple[str, int, str]  # (place, received_at_ms, internal_id)
CoverageKey = tuple[str, str]  # (event, path)
InterestKey = tuple[str, str, int]  # (event, path, home)
AskKey = tuple[str, str, str]  # (place, run, step)
QueueKey = tuple[str, str, int, int]  # (place, function, score_ms, arrival)


class Tables(Protocol):
    """All tables of a lane."""

    @property
    def place(self) -> Place: ...

    @property
    def memo(self) -> dict[str, tuple[int, object]]:
        """Values derived from a whole table: name → (the table's version, value)."""
        ...

    @property
    def runs(self) -> Table[str, RunRow]: ...

    @property
    def steps(self) -> Table[StepKey, StepRow]: ...

    @property
    def events(self) -> Table[str, EventRow]: ...

    @property
    def timers(self) -> Table[TimerKey, TimerRow]: ...

    @property
    def crons(self) -> Table[CronKey, CronRow]: ...

    @property
    def apps(self) -> Table[str, AppRow]: ...

    @property
    def limits(self) -> Table[str, LimitsRow]: ...

    @property
    def positions(self) -> Table[SourceKey, PositionRow]: ...

    @property
    def topics(self) -> Table[str, TopicRow]: ...

    @property
    def subscriptions(self) -> Table[SubscriptionKey, SubscriptionRow]: ...

    @property
    def scans(self) -> Table[ScanKey, ScanRow]: ...

    @property
    def seen(self) -> Table[bytes, SeenRow]: ...

    @property
    def seen_buckets(self) -> Table[BucketKey, SeenBucketRow]: ...

    @property
    def seen_chunks(self) -> Table[ChunkKey, SeenChunkRow]: ...

    @property
    def requests(self) -> Table[str, RequestRow]: ...

    @property
    def outbox(self) -> Table[MessageKey, OutboxRow]: ...

    @property
    def outbox_cursors(self) -> Table[int, OutboxCursorRow]: ...

    @property
    def inbox_cursors(self) -> Table[int, InboxCursorRow]: ...

    @property
    def publishes(self) -> Table[int, PublishRow]: ...

    @property
    def parked(self) -> Table[ParkedKey, ParkedRow]: ...

    @property
    def held(self) -> Table[HeldKey, HeldRow]: ...

    @property
    def counters(self) -> Table[str, CounterRow]: ...

    @property
    def holders(self) -> Table[str, HolderRow]: ...

    @property
    def waiters(self) -> Table[WaiterKey, WaiterRow]: ...

    @property
    def kept(self) -> Table[KeptKey, KeptRow]: ...

    @property
    def kept_at(self) -> Table[KeptAtKey, KeptAtRow]: ...

    @property
    def coverage(self) -> Table[CoverageKey, CoverageRow]: ...

    @property
    def interests(self) -> Table[InterestKey, InterestRow]: ...

    @property
    def seeks(self) -> Table[str, SeekRow]: ...

    @property
    def signals(self) -> Table[str, SignalRow]: ...

    @property
    def gates(self) -> Table[str, GateRow]: ...

    @property
    def asks(self) -> Table[AskKey, AskRow]: ...

    @property
    def queues(self) -> Table[QueueKey, QueueRow]: ...

    @property
    def starts(self) -> Table[str, StartsRow]: ...

    @property
    def singletons(self) -> Table[str, SingletonRow]: ...

    @property
    def kept_starts(self) -> Table[str, KeptStartRow]: ...

    @property
    def batches(self) -> Table[str, BatchRow]: ...

    @property
    def cancellations(self) -> Table[str, CancellationRow]: ...
