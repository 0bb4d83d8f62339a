"""Rows to test with."""

from __future__ import annotations

from millstream.model.commands import HandOut
from millstream.model.event import Envelope
from millstream.model.gates.declared import RunFlow
from millstream.model.gates.messages import AdmitStart
from millstream.model.gates.overrides import LimitsRow
from millstream.model.gates.rows import AskRow, BatchRow, GateRow, KeptStartRow, QueueRow, SingletonRow, StartsRow
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
    Row,
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
from millstream.model.run_requests import CancelRun
from millstream.model.seen import until_ms


def envelope(id: str) -> Envelope:
    return Envelope(id, id, True, "order/placed", b'{"n":1}', 1_000, 2_000)


def run(id: str, dispatch: int = 0) -> RunRow:
    return RunRow(id, "confirm-order", ("e" + id,), "", 1_000, dispatch=dispatch, steps=("charge",))


KEPT = AdmitStart(
    "shop-bill", envelope("e2"), "", 0, ("00ff/singleton/1a2b3c4d/shop-bill/null",), 0, RunFlow(score_ms=2_000), 1
)

ONE_OF_EACH: dict[str, Row] = {
    "runs": run("r1"),
    "steps": StepRow("r1", "s1", "charge", "run", 5, data=b"{}"),
    "events": EventRow(envelope("e1"), 1),
    "timers": TimerRow(1_700_000_000_000, "sleep", "r1", "s1"),
    "crons": CronRow("nightly", "0 3 * * *", 5),
    "apps": AppRow("shop", b"{}", 7),
    "limits": LimitsRow("shop-f", b"[]", 8),
    "positions": PositionRow("events", 3, 99),
    "seen": SeenRow(b"0123456789abcdef", until_ms(True, 4)),
    "seen_buckets": SeenBucketRow("events-0", True, 4, 0, 1),
    "seen_chunks": SeenChunkRow("events-0", True, 4, 1, b"0123456789abcdef"),
    "requests": RequestRow(request="q1", reply_to=1, reply=b"{}"),
    "outbox": OutboxRow(2, 1, CancelRun("r1", "because")),
    "outbox_cursors": OutboxCursorRow(2, 1, 0),
    "inbox_cursors": InboxCursorRow(2, 1),
    "publishes": PublishRow(1, "invoices", b"k", b"v", (("h", b"x"),), None),
    "parked": ParkedRow("f", "r1", "s1", 3),
    "held": HeldRow("f", "r1", "s1", 5, "E", "boom", ""),
    "counters": CounterRow("publishes", 1),
    "waiters": WaiterRow("00ff", "r1", "s1", 0, "order/paid", "data.id", 1_000, "", b"", b"12345678", 1),
    "kept": KeptRow(2_000, "e1", envelope("e1"), ("00ff",)),
    "kept_at": KeptAtRow("00ff", 2_000, "e1"),
    "coverage": CoverageRow("order/paid", "data.id", 1, 1_000, (0, 1), 2_000),
    "interests": InterestRow("order/paid", "data.id", 0),
    "seeks": SeekRow("seek:0:1:order/paid:data.id", "order/paid", "data.id", 0, 1, 2),
    "signals": SignalRow("approve", "r1", "s1"),
    "gates": GateRow("00ff/runs/1a2b3c4d/shop-bill/null", 1, 1, "shop-bill", 0, 1_000),
    "asks": AskRow("00ff/runs/1a2b3c4d/shop-bill/null", "r1", "s1", "shop-bill", 3, 1_000, 1, False),
    "queues": QueueRow("00ff/runs/1a2b3c4d/shop-bill/null", "shop-bill", 1_000, 1, "r1", "s1"),
    "starts": StartsRow("00ff/rate_limit/1a2b3c4d/shop-bill/null", "shop-bill", bytes(20), 1, "r1", 1_000),
    "singletons": SingletonRow("00ff/singleton/1a2b3c4d/shop-bill/null", 2_000, "e1", KEPT, True),
    "kept_starts": KeptStartRow("00ff/debounce/1a2b3c4d/shop-bill/", KEPT, 1_000, 2_000),
    "batches": BatchRow("00ff/batch/1a2b3c4d/shop-bill/", "shop-bill", ("e1", "e2"), 20, RunFlow(("00ff/g",)), 2_000),
    "cancellations": CancellationRow("c1", "shop-bill", 1_000, 2_000, "event.data.n > 3", "tests", 3_000, 3_000),
    "holders": HolderRow("w1-00ff", "w1", (HandOut("r1", "s1", 3),)),
    "topics": TopicRow("payments", 3),
    "subscriptions": SubscriptionRow("shop-bill", "payments", 0),
    "scans": ScanRow("s1", 2, "shop-bill", "payments", "since", "", 0, -1, 90, -1, 0),
}
"""A row for each table."""
