"""``fold(tables, fact, at_ms) -> effects``: apply one fact. The only way state changes, live and at restore alike.

A fold reads and writes rows, decides nothing, and never fails on a fact that ``decide`` can make: an exception here
stops the lane. ``at_ms`` is the time in the fact's record. The effects are what should follow once the record is
durable.

Add a fact: its class in ``model/facts.py``, a function here or in the module of its noun, one line in ``FOLD``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from millstream.core import handover, scans, seen, timers
from millstream.core.runs import fold_runs as runs
from millstream.core.tables import Tables
from millstream.model.effects import Answer, Deliver, Effect, Publish
from millstream.model.event import Envelope
from millstream.model.facts import (
    BodyAttemptFailed,
    CatalogueSeen,
    CommandRefused,
    CronArmed,
    CronDisarmed,
    CronTicked,
    DiscoveryAnswered,
    DispatchLost,
    DispatchParked,
    DispatchUnparked,
    EventAccepted,
    EventDeduplicated,
    Fact,
    FunctionSkipped,
    FunctionSubscribed,
    HolderGone,
    LaneFenced,
    LaneReleased,
    MessagesDelivered,
    MessageSent,
    MessageTaken,
    PublishesSent,
    PublishQueued,
    RequestAnswered,
    RequestsDropped,
    RetryDue,
    RunCancelled,
    RunCompleted,
    RunDue,
    RunFailed,
    RunStarted,
    ScanAdvanced,
    ScanEnded,
    ScanStarted,
    SeenDropped,
    SleepEnded,
    SleepStarted,
    SourceGap,
    SourceOpened,
    StepAttemptFailed,
    StepCompleted,
    StepFailed,
    StepPlanned,
    TopicSeen,
)
from millstream.model.rows import (
    AppRow,
    CounterRow,
    CronRow,
    EventRow,
    InboxCursorRow,
    OutboxCursorRow,
    OutboxRow,
    PositionRow,
    PublishRow,
    RequestRow,
    SubscriptionRow,
    TopicRow,
)

NOTHING: Final[Sequence[Effect]] = ()


def fold(tables: Tables, fact: Fact, at_ms: int) -> Sequence[Effect]:
    """Apply the fact; say what should follow."""
    return FOLD[type(fact)](tables, fact, at_ms)


def _event_accepted(tables: Tables, f: EventAccepted, at_ms: int) -> Sequence[Effect]:
    envelope = Envelope(
        f.internal_id, f.id, f.id_is_clients, f.name, f.data, f.ts_ms, f.received_at_ms, f.key, f.user, f.v, f.meta
    )
    held = tables.events.get(f.internal_id)
    tables.events.put(f.internal_id, EventRow(envelope, held.runs if held is not None else 0))
    if f.seen:
        seen.remember(tables, f)
    return NOTHING


def _catalogue_seen(tables: Tables, f: CatalogueSeen, at_ms: int) -> Sequence[Effect]:
    tables.apps.put(f.app, AppRow(f.app, f.spec, f.offset))
    return NOTHING


def _cron_armed(tables: Tables, f: CronArmed, at_ms: int) -> Sequence[Effect]:
    effects = list(_cron_disarmed(tables, CronDisarmed(f.function, f.cron), at_ms))
    tables.crons.put((f.function, f.cron), CronRow(f.function, f.cron, f.at_ms))
    effects.append(timers.arm(tables, f.at_ms, timers.CRON, f.function, f.cron))
    return effects


def _cron_disarmed(tables: Tables, f: CronDisarmed, at_ms: int) -> Sequence[Effect]:
    row = tables.crons.get((f.function, f.cron))
    if row is None:
        return NOTHING
    tables.crons.delete((f.function, f.cron))
    return (timers.disarm(tables, row.at_ms, timers.CRON, f.function, f.cron),)


def _cron_ticked(tables: Tables, f: CronTicked, at_ms: int) -> Sequence[Effect]:
    return _cron_armed(tables, CronArmed(f.function, f.cron, f.next_at_ms), at_ms)


def _publish_queued(tables: Tables, f: PublishQueued, at_ms: int) -> Sequence[Effect]:
    tables.publishes.put(f.number, PublishRow(f.number, f.topic, f.key, f.value, f.headers, f.event))
    tables.counters.put("publishes", CounterRow("publishes", f.number))
    return (Publish(f.number),)


def _publishes_sent(tables: Tables, f: PublishesSent, at_ms: int) -> Sequence[Effect]:
    for number in f.numbers:
        tables.publishes.delete(number)
    return NOTHING


def _message_sent(tables: Tables, f: MessageSent, at_ms: int) -> Sequence[Effect]:
    cursor = tables.outbox_cursors.get(f.to_lane)
    delivered = cursor.delivered if cursor is not None else 0
    tables.outbox_cursors.put(f.to_lane, OutboxCursorRow(f.to_lane, f.seq, delivered))
    tables.outbox.put((f.to_lane, f.seq), OutboxRow(f.to_lane, f.seq, f.message))
    return (Deliver(f.to_lane, f.seq),)


def _messages_delivered(tables: Tables, f: MessagesDelivered, at_ms: int) -> Sequence[Effect]:
    cursor = tables.outbox_cursors.get(f.to_lane)
    assert cursor is not None and f.upto <= cursor.sent, f"delivered {f.upto} to lane {f.to_lane}, never sent"
    for seq in range(cursor.delivered + 1, f.upto + 1):
        tables.outbox.delete((f.to_lane, seq))
    tables.outbox_cursors.put(f.to_lane, OutboxCursorRow(f.to_lane, cursor.sent, f.upto))
    return NOTHING


def _message_taken(tables: Tables, f: MessageTaken, at_ms: int) -> Sequence[Effect]:
    tables.inbox_cursors.put(f.from_lane, InboxCursorRow(f.from_lane, f.seq))
    return NOTHING


def _request_answered(tables: Tables, f: RequestAnswered, at_ms: int) -> Sequence[Effect]:
    tables.requests.put(f.request, RequestRow(f.request, f.reply_to, f.reply))
    return (Answer(f.request, f.reply_to, f.reply),) if f.reply_to >= 0 else NOTHING


def _requests_dropped(tables: Tables, f: RequestsDropped, at_ms: int) -> Sequence[Effect]:
    for request, _ in tables.requests.scan(limit=f.count):
        if request < f.before:
            tables.requests.delete(request)
    return NOTHING


def _seen_dropped(tables: Tables, f: SeenDropped, at_ms: int) -> Sequence[Effect]:
    seen.forget(tables, f)
    return NOTHING


def _source_opened(tables: Tables, f: SourceOpened, at_ms: int) -> Sequence[Effect]:
    tables.positions.put((f.topic, f.partition), PositionRow(f.topic, f.partition, f.offset))
    return NOTHING


def _source_gap(tables: Tables, f: SourceGap, at_ms: int) -> Sequence[Effect]:
    tables.positions.put((f.topic, f.partition), PositionRow(f.topic, f.partition, f.to_offset))
    return NOTHING


def _topic_seen(tables: Tables, f: TopicSeen, at_ms: int) -> Sequence[Effect]:
    tables.topics.put(f.topic, TopicRow(f.topic, f.partitions))
    return NOTHING


def _function_subscribed(tables: Tables, f: FunctionSubscribed, at_ms: int) -> Sequence[Effect]:
    tables.subscriptions.put((f.function, f.topic), SubscriptionRow(f.function, f.topic, f.since_ms))
    return NOTHING


def _noted(tables: Tables, f: Fact, at_ms: int) -> Sequence[Effect]:
    """A fact that is for readers of the journal only."""
    return NOTHING


# ``Any`` because each function takes its own fact; the keys say which.
FOLD: Final[dict[type, Callable[[Tables, Any, int], Sequence[Effect]]]] = {
    StepCompleted: runs.step_completed,
    EventAccepted: _event_accepted,
    RunStarted: runs.run_started,
    RunCompleted: runs.run_ended,
    StepPlanned: runs.step_planned,
    DiscoveryAnswered: runs.discovery_answered,
    SleepStarted: runs.sleep_started,
    SleepEnded: runs.sleep_ended,
    StepAttemptFailed: runs.step_attempt_failed,
    StepFailed: runs.step_failed,
    BodyAttemptFailed: runs.body_attempt_failed,
    RetryDue: runs.retry_due,
    RunDue: runs.run_due,
    RunFailed: runs.run_ended,
    RunCancelled: runs.run_ended,
    DispatchLost: runs.dispatch_lost,
    DispatchParked: runs.dispatch_parked,
    DispatchUnparked: runs.dispatch_unparked,
    PublishQueued: _publish_queued,
    PublishesSent: _publishes_sent,
    MessageSent: _message_sent,
    MessageTaken: _message_taken,
    MessagesDelivered: _messages_delivered,
    CatalogueSeen: _catalogue_seen,
    CronArmed: _cron_armed,
    CronDisarmed: _cron_disarmed,
    CronTicked: _cron_ticked,
    EventDeduplicated: _noted,
    FunctionSkipped: _noted,
    CommandRefused: _noted,
    RequestAnswered: _request_answered,
    RequestsDropped: _requests_dropped,
    SeenDropped: _seen_dropped,
    SourceOpened: _source_opened,
    SourceGap: _source_gap,
    LaneFenced: _noted,
    LaneReleased: handover.lane_released,
    HolderGone: handover.holder_gone,
    TopicSeen: _topic_seen,
    FunctionSubscribed: _function_subscribed,
    ScanStarted: scans.scan_started,
    ScanAdvanced: scans.scan_advanced,
    ScanEnded: scans.scan_ended,
}
