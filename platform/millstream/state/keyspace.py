"""The key space: every table of a lane, where its rows lie in the store and in which topic they are checkpointed.

A key in the store is one byte for the table, then the row's key in an encoding that keeps its order
(``state/keys.py``). The compacted topics use the same bytes as their record keys, so a checkpoint copies and never
translates. The first bytes:

    00         the lane's own notes: marker, epoch, flush under way, checkpoints committed
    01         dirty marks: 01 + the key of a row that changed since the last committed checkpoint
    10 … 7F    the tables below

A prefix is never given to another table: stores and compacted topics of older versions hold it.

Add a table: a row class in ``model/rows.py``, its schema, an attribute of ``Tables`` and one line here; tests compare
the four.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from millstream.model import rows
from millstream.model.gates import rows as gate_rows
from millstream.model.gates.overrides import LimitsRow
from millstream.model.rows import Row
from millstream.state.keys import Key, encoder, range_of

STEPS: Final = "steps"
TIMERS: Final = "timers"
KEYS: Final = "keys"
CHECKPOINT_TOPICS: Final = (STEPS, TIMERS, KEYS)
"""The compacted topics, by their short names; ``<group>.`` goes before them."""

NOTES: Final = b"\x00"
MARKS: Final = b"\x01"
MARKER_KEY: Final = NOTES + b"marker"
EPOCH_KEY: Final = NOTES + b"epoch"
FLUSHING_KEY: Final = NOTES + b"flushing"
CHECKPOINTED_KEY: Final = NOTES + b"checkpointed"


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table: its rows, what they are keyed by, and where they lie.

    ``fields``   where a row keeps its key, dotted for a field of a field.
    ``kinds``    the key's types, field by field.
    ``topic``    the compacted topic of its checkpoint.
    ``derived``  rebuilt from another table at a restore, never checkpointed.
    ``payload``  the field of the row that can be large, and is read again then rather than kept; empty: rows are small.
    ``versioned``  its version changes with every write, since values are derived from all its rows.
    ``grouped``  the rows whose keys begin with the same field are looked at together, see ``LayeredTable.within``.
    """

    name: str
    row: type[Row]
    prefix: bytes
    topic: str
    fields: tuple[str, ...]
    kinds: tuple[type, ...]
    derived: bool = False
    payload: str = ""
    versioned: bool = False
    grouped: bool = False

    def __post_init__(self) -> None:
        if len(self.prefix) != 1 or not 0x10 <= self.prefix[0] < 0x80:
            raise ValueError(f"table {self.name!r}: prefix must be one byte 10 … 7F, got {self.prefix.hex()}")
        if self.topic not in CHECKPOINT_TOPICS:
            raise ValueError(f"table {self.name!r}: topic must be one of {CHECKPOINT_TOPICS}, got {self.topic!r}")
        if len(self.fields) != len(self.kinds):
            raise ValueError(f"table {self.name!r}: {len(self.fields)} key fields, but {len(self.kinds)} kinds")

    @property
    def end(self) -> bytes:
        """Behind every key of this table."""
        return bytes((self.prefix[0] + 1,))

    def key_of(self) -> Callable[[Row], Key]:
        """The function that reads the key off a row."""
        return attrgetter(*self.fields)

    def encode(self) -> Callable[[Key], bytes]:
        """The function from a key to its bytes in the store."""
        return encoder(self.prefix, self.kinds)

    def range_of_group(self) -> Callable[[str], tuple[bytes, bytes]]:
        """The function from a key's first field to where such keys lie in the store: from, and before."""
        return range_of(self.prefix, self.kinds)


_S, _I, _B = (str,), (int,), (bytes,)
_SOURCE_KINDS = (str, bool, int)

KEYSPACE: Final[tuple[TableSpec, ...]] = (
    TableSpec("runs", rows.RunRow, b"\x10", STEPS, ("run",), _S),
    TableSpec("steps", rows.StepRow, b"\x11", STEPS, ("run", "step"), (str, str), payload="data"),
    TableSpec("events", rows.EventRow, b"\x12", STEPS, ("event.internal_id",), _S, payload="event.data"),
    TableSpec("timers", rows.TimerRow, b"\x20", TIMERS, ("at_ms", "kind", "id", "step"), (int, str, str, str)),
    TableSpec("crons", rows.CronRow, b"\x21", TIMERS, ("function", "cron"), (str, str)),
    TableSpec("apps", rows.AppRow, b"\x30", KEYS, ("app",), _S, versioned=True),
    TableSpec("positions", rows.PositionRow, b"\x31", KEYS, ("topic", "partition"), (str, int)),
    TableSpec("seen", rows.SeenRow, b"\x32", KEYS, ("hash",), _B, derived=True),
    TableSpec("seen_buckets", rows.SeenBucketRow, b"\x33", KEYS, ("source", "clients", "bucket"), _SOURCE_KINDS),
    TableSpec(
        "seen_chunks",
        rows.SeenChunkRow,
        b"\x34",
        KEYS,
        ("source", "clients", "bucket", "chunk"),
        (*_SOURCE_KINDS, int),
    ),
    TableSpec("requests", rows.RequestRow, b"\x35", KEYS, ("request",), _S),
    TableSpec("outbox", rows.OutboxRow, b"\x36", KEYS, ("to_lane", "seq"), (int, int)),
    TableSpec("outbox_cursors", rows.OutboxCursorRow, b"\x37", KEYS, ("to_lane",), _I),
    TableSpec("inbox_cursors", rows.InboxCursorRow, b"\x38", KEYS, ("from_lane",), _I),
    TableSpec("publishes", rows.PublishRow, b"\x39", KEYS, ("number",), _I, payload="value"),
    TableSpec("parked", rows.ParkedRow, b"\x3a", KEYS, ("function", "run", "step"), (str, str, str)),
    TableSpec("held", rows.HeldRow, b"\x3f", KEYS, ("function", "run", "step"), (str, str, str)),
    TableSpec("counters", rows.CounterRow, b"\x3b", KEYS, ("name",), _S),
    TableSpec("holders", rows.HolderRow, b"\x48", KEYS, ("holder",), _S),
    TableSpec("topics", rows.TopicRow, b"\x3c", KEYS, ("topic",), _S),
    TableSpec("subscriptions", rows.SubscriptionRow, b"\x3d", KEYS, ("function", "topic"), (str, str)),
    TableSpec("scans", rows.ScanRow, b"\x3e", KEYS, ("scan", "partition"), (str, int)),
    TableSpec(
        "waiters", rows.WaiterRow, b"\x40", KEYS, ("place", "run", "step", "index"), (str, str, str, int), grouped=True
    ),
    TableSpec("kept", rows.KeptRow, b"\x41", KEYS, ("received_at_ms", "internal_id"), (int, str), payload="event.data"),
    TableSpec(
        "kept_at",
        rows.KeptAtRow,
        b"\x42",
        KEYS,
        ("place", "received_at_ms", "internal_id"),
        (str, int, str),
        grouped=True,
    ),
    TableSpec("coverage", rows.CoverageRow, b"\x43", KEYS, ("event", "path"), (str, str)),
    TableSpec("interests", rows.InterestRow, b"\x44", KEYS, ("event", "path", "home"), (str, str, int), versioned=True),
    TableSpec("seeks", rows.SeekRow, b"\x45", KEYS, ("scan",), _S),
    TableSpec("signals", rows.SignalRow, b"\x46", KEYS, ("signal",), _S),
    TableSpec("gates", gate_rows.GateRow, b"\x50", KEYS, ("place",), _S),
    TableSpec("asks", gate_rows.AskRow, b"\x51", KEYS, ("place", "run", "step"), (str, str, str), grouped=True),
    TableSpec(
        "queues",
        gate_rows.QueueRow,
        b"\x52",
        KEYS,
        ("place", "function", "score_ms", "arrival"),
        (str, str, int, int),
        grouped=True,
    ),
    TableSpec("starts", gate_rows.StartsRow, b"\x53", KEYS, ("place",), _S),
    TableSpec("singletons", gate_rows.SingletonRow, b"\x54", KEYS, ("place",), _S),
    TableSpec("kept_starts", gate_rows.KeptStartRow, b"\x55", KEYS, ("place",), _S, payload="start.event.data"),
    TableSpec("batches", gate_rows.BatchRow, b"\x56", KEYS, ("place",), _S),
    TableSpec("limits", LimitsRow, b"\x57", KEYS, ("function",), _S, versioned=True),
    TableSpec("cancellations", rows.CancellationRow, b"\x4c", KEYS, ("cancellation",), _S),
)

BY_NAME: Final = {spec.name: spec for spec in KEYSPACE}
BY_PREFIX: Final = {spec.prefix: spec for spec in KEYSPACE}
