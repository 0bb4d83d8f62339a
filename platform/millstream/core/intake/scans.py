"""Scans: a second cursor over a range of a topic, for one function, that never disturbs the live source.

    ScanStarted ─> effect Scan ─read─> AdvanceScan ─> runs start, ScanAdvanced ─> effect Scan … ─> ScanEnded

The position is a row, moved by a fact of the record that holds the runs: a crash anywhere goes on exactly there. An
advance that was decided before does not fit the position any more and leads to nothing.

Purposes: *since* (a first subscription that begins earlier than the live source; its runs have no cause, as if the
source had started them) and *backfill* (asked for; the request is the cause, so that its runs are runs of their own).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from millstream.core.handles import Handler, Handles
from millstream.core.intake import seen
from millstream.core.intake.dead_letters import Letter, set_aside
from millstream.core.intake.events import choose
from millstream.core.intake.topics import BACKFILL, SINCE, opened, since_scan
from millstream.core.messages import MessageKind
from millstream.core.origin import Origin, accepted, new_run_id
from millstream.core.requests import answer
from millstream.core.starting import start
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import Subscription, catalogue
from millstream.core.waits import interests
from millstream.errors import StoreFailed
from millstream.model import limits
from millstream.model.commands import AdvanceScan, BackfillFunction, CancelScan, ReadRecord
from millstream.model.effects import Effect, Scan
from millstream.model.event import Envelope
from millstream.model.facts import (
    CommandRefused,
    EventDeduplicated,
    Fact,
    RunStarted,
    ScanAdvanced,
    ScanBounded,
    ScanEnded,
    ScanStarted,
)
from millstream.model.function import SINCE_EARLIEST
from millstream.model.ids import lane_of_source
from millstream.model.rows import ScanRow

SCANS_MAX = 10_000


def advance(tables: Tables, command: AdvanceScan, now_ms: int) -> list[Fact]:
    """Start the scan's function on what was read, and move the scan on; both or neither."""
    row = tables.scans.get((command.scan, command.partition))
    if row is not None and row.purpose == interests.SEEK:
        return interests.advance(tables, row, command) if row.at == command.from_offset else []
    if row is None or row.at != command.from_offset or row.function not in catalogue(tables).functions:
        return []  # Cancelled, decided before, or its function is not deployed now.
    facts: list[Fact] = []
    taken: set[bytes] = set()
    letters = 0
    for read in command.reads:
        reason = read.reason
        if read.event is not None:
            try:
                facts += _start(tables, row, read.event, read.offset, taken)
                continue
            except StoreFailed:
                raise
            except Exception as error:  # As the lane refuses a command that raises: this record alone is set aside.
                reason = f"{type(error).__name__}: {error}"[: limits.ERROR_MESSAGE_CHARS_MAX]
        letter = Letter(row.topic, row.partition, read.offset, reason, read.key, read.value, read.headers)
        if read.event is None and _another_set_it_aside(tables, row, read):
            facts.append(CommandRefused("AdvanceScan", letter.subject, reason))
            continue
        facts += set_aside(tables, "AdvanceScan", letter, now_ms, queued=letters)
        letters += 1
    runs = sum(type(fact) is RunStarted for fact in facts)
    at = min(command.to_offset, row.upto)
    facts.append(ScanAdvanced(row.scan, row.partition, at, runs))
    if at >= row.upto:
        facts.append(ScanEnded(row.scan, row.partition, False, row.started + runs))
    return facts


def _start(tables: Tables, row: ScanRow, event: Envelope, offset: int, taken: set[bytes]) -> list[Fact]:
    """``taken`` are the given ids that started a run by the same decision, which no table knows yet."""
    hash = _given_id(tables, row, event)
    if hash and (hash in taken or _came_before(tables, row, event, hash)):
        return [EventDeduplicated(event.internal_id, event.id, event.name)]
    subscriptions = [s for s in _subscriptions(tables, row, event) if s.function.slug == row.function]
    starting, skipped = choose(event, subscriptions)
    if not starting:
        return list(skipped)
    if tables.runs.get(new_run_id(tables, row.function, event, row.cause)) is not None:
        return []
    taken.add(hash)
    origin, held = Origin(row.topic, row.partition, offset, hash), tables.events.get(event.internal_id)
    if held is not None and hash:
        # Accepted once more as it is held, for the fact that remembers the id.
        return [accepted(held.event, origin), *start(tables, event, starting, origin, cause=row.cause, is_held=True)]
    return start(tables, event, starting, origin, cause=row.cause, is_held=held is not None)


def _given_id(tables: Tables, row: ScanRow, event: Envelope) -> bytes:
    """What stands for an id that starts this function once, as live reading has it; empty where there is none.

    A backfill is asked for, to start functions again. The function is part of it: others have had their run.
    """
    if row.purpose != SINCE or not event.id_is_clients:
        return b""
    return seen.seen_hash(row.topic, row.partition, seen.scanned_id(event.id, row.function))


def _came_before(tables: Tables, row: ScanRow, event: Envelope, hash: bytes) -> bool:
    """By this scan, or live behind the border. Where the range had been read live for others, ids say nothing."""
    if seen.known(tables, hash, event.received_at_ms):
        return True
    was_read_live = row.from_offset < 0
    live = seen.seen_hash(row.topic, row.partition, event.id)
    return not was_read_live and seen.known(tables, live, event.received_at_ms)


def _another_set_it_aside(tables: Tables, row: ScanRow, read: ReadRecord) -> bool:
    """Whether a function that reads the topic in the same way, and began no later, has passed this record."""
    if row.purpose != SINCE:
        return False
    for function, trigger in catalogue(tables).subscribers(row.topic):
        begun = tables.subscriptions.get((function.slug, row.topic))
        if function.slug == row.function or begun is None or trigger.reading != read.reading:
            continue
        if not SINCE_EARLIEST <= begun.since_ms <= row.since_ms:
            continue
        scan = tables.scans.get((since_scan(function.slug, row.topic), row.partition))
        if scan is None or scan.at > read.offset:
            return True
    return False


def _subscriptions(tables: Tables, row: ScanRow, event: Envelope) -> Sequence[Subscription]:
    known = catalogue(tables)
    if row.topic == tables.place.events_topic:
        return known.subscriptions(event.name)
    return [s for reader in known.readers(row.topic) for s in reader.subscriptions]


def backfill(tables: Tables, command: BackfillFunction, now_ms: int) -> list[Fact]:
    """Begin to read the ranges of a backfill."""
    place = tables.place
    if command.function not in catalogue(tables).functions:
        return answer(command, {"status": "unknown_function", "function": command.function})
    if any(lane_of_source(command.topic, r.partition, place.lanes) != place.lane for r in command.ranges):
        return answer(command, {"status": "refused", "reason": f"lane {place.lane} does not read these partitions"})
    if len(tables.scans.scan(limit=SCANS_MAX)) + len(command.ranges) > SCANS_MAX:
        return answer(command, {"status": "refused", "reason": f"lane {place.lane} has {SCANS_MAX} scans already"})
    # No further than the live source has come: what lies behind that it will bring itself, in its own time.
    read = {row.partition: row.offset for row in opened(tables, command.topic)}
    facts: list[Fact] = [
        ScanStarted(
            command.scan, r.partition, command.function, command.topic, BACKFILL, command.scan, 0,
            r.from_offset, min(r.upto, read[r.partition]),
        )
        for r in command.ranges
        if 0 <= r.from_offset < min(r.upto, read.get(r.partition, 0))
        and tables.scans.get((command.scan, r.partition)) is None
    ]  # fmt: skip
    return [*facts, *answer(command, {"status": "started", "scan": command.scan})]


def cancel(tables: Tables, command: CancelScan, now_ms: int) -> list[Fact]:
    """End the partitions of a scan that this lane reads; the runs it has started go on.

    A scan that looks for events somebody waits for is nobody's to cancel.
    """
    if command.scan.startswith(f"{interests.SEEK}:"):
        return answer(command, {"status": "not_open", "scan": command.scan})
    rows = [row for (scan, _), row in tables.scans.scan((command.scan, 0), limit=SCANS_MAX) if scan == command.scan]
    facts: list[Fact] = [ScanEnded(row.scan, row.partition, True, row.started) for row in rows]
    return [*facts, *answer(command, {"status": "cancelled" if rows else "not_open", "scan": command.scan})]


# --- fold -----------------------------------------------------------------------------------------


def scan_started(tables: Tables, f: ScanStarted, at_ms: int) -> Sequence[Effect]:
    """A scan begins."""
    row = ScanRow(
        f.scan, f.partition, f.function, f.topic, f.purpose, f.cause, f.since_ms, f.from_offset, f.upto,
        f.from_offset, 0,
    )  # fmt: skip
    tables.scans.put((f.scan, f.partition), row)
    return (Scan(f.scan, f.partition, f.from_offset),)


def scan_advanced(tables: Tables, f: ScanAdvanced, at_ms: int) -> Sequence[Effect]:
    """A scan has read on."""
    row = tables.scans.get((f.scan, f.partition))
    assert row is not None, f"scan {f.scan}/{f.partition} advanced, but it is over"
    tables.scans.put(
        (f.scan, f.partition),
        replace(row, at=f.at, started=row.started + f.started),
    )
    return (Scan(f.scan, f.partition, f.at),)


def scan_bounded(tables: Tables, f: ScanBounded, at_ms: int) -> Sequence[Effect]:
    """Where it ends is known."""
    row = tables.scans.get((f.scan, f.partition))
    assert row is not None, f"scan {f.scan}/{f.partition} was bounded, but it is over"
    tables.scans.put((f.scan, f.partition), replace(row, upto=f.upto))
    return ()


def scan_ended(tables: Tables, f: ScanEnded, at_ms: int) -> Sequence[Effect]:
    """A scan is over."""
    tables.scans.delete((f.scan, f.partition))
    return ()


BACKFILL_FUNCTION = MessageKind(message=BackfillFunction, decide=backfill)
CANCEL_SCAN = MessageKind(message=CancelScan, decide=cancel)
HANDLES = Handles(
    commands={AdvanceScan: Handler(advance)},
    facts={ScanStarted: scan_started, ScanAdvanced: scan_advanced, ScanBounded: scan_bounded, ScanEnded: scan_ended},
)
