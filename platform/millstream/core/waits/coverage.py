"""What a home asks of the lanes that read events: forward those of a name, by a path; and look for earlier ones.

    CoverageAsked ──SeekEvents to every lane──> … ──EventsSought of each──> CoverageAnswered

A wait depends on one request. When all lanes have answered that one, nothing that was received since the wait's
``since_ms`` can still be unknown here. One request is under way at a time, for each event name and path; those who need
to look further back share the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from millstream.core.handles import Handles
from millstream.core.messages import MessageKind
from millstream.core.tables import Tables
from millstream.core.waits.interests import FORWARD_NO_MORE
from millstream.core.waits.kept import kept_from_ms
from millstream.model import limits
from millstream.model.commands import EventsSought, SeekEvents
from millstream.model.effects import Effect
from millstream.model.facts import CoverageAnswered, CoverageAsked, CoverageDropped, CoverageWanted, Fact, Post
from millstream.model.rows import CoverageRow, WaiterRow

IDLE_MS = 7 * limits.DAY_MS
"""After so long without a wait the lanes are told to forward no more."""
ROWS_MAX = 100_000


def need(tables: Tables, event: str, path: str, since_ms: int) -> tuple[list[Fact], int]:
    """What must be asked so that a wait that begins now misses nothing, and the request that it depends on."""
    row = tables.coverage.get((event, path))
    if row is None:
        return _ask(tables, event, path, 1, since_ms), 1
    if row.since_ms <= since_ms and kept_from_ms(tables) <= since_ms:
        return [], row.seek  # What was forwarded before is kept here, what was not yet will meet the waiter.
    if is_answered(row, row.seek):
        return _ask(tables, event, path, row.seek + 1, since_ms), row.seek + 1
    if 0 <= row.next_ms <= since_ms:
        return [], row.seek + 1
    return [CoverageWanted(event, path, since_ms)], row.seek + 1


def is_covered(tables: Tables, waiter: WaiterRow) -> bool:
    """Whether every lane has looked as far back as the waiter needs."""
    row = tables.coverage.get((waiter.event, waiter.path))
    return row is not None and is_answered(row, waiter.seek)


def is_answered(row: CoverageRow, seek: int) -> bool:
    """Whether all lanes have carried out a request."""
    return all(answered >= seek for answered in row.answered)


def _ask(tables: Tables, event: str, path: str, seek: int, since_ms: int) -> list[Fact]:
    return [CoverageAsked(event, path, seek, since_ms), *_to_all(tables, event, path, seek, since_ms)]


def _to_all(tables: Tables, event: str, path: str, seek: int, since_ms: int) -> list[Fact]:
    place = tables.place
    message = SeekEvents(event, path, place.lane, seek, since_ms)
    return [Post(lane, message) for lane in range(place.lanes)]


def sought(tables: Tables, command: EventsSought, now_ms: int) -> list[Fact]:
    """A lane has looked."""
    row = tables.coverage.get((command.event, command.path))
    if row is None or command.seek <= row.answered[command.lane]:
        return []
    facts: list[Fact] = [CoverageAnswered(command.event, command.path, command.lane, command.seek)]
    others = (answered for lane, answered in enumerate(row.answered) if lane != command.lane)
    if row.next_ms >= 0 and min(command.seek, *others) >= row.seek:
        facts += _ask(tables, command.event, command.path, row.seek + 1, row.next_ms)
    return facts


def tended(tables: Tables, now_ms: int) -> Iterator[Fact]:
    """Let go of what nobody has waited for for long.

    The lanes forward until they are told, by a message behind the last request: none of them judges by its own time,
    which may have stood still.
    """
    for _, row in tables.coverage.scan(limit=ROWS_MAX):
        if not row.waiters and now_ms - row.used_at_ms > IDLE_MS and is_answered(row, row.seek):
            yield CoverageDropped(row.event, row.path)
            yield from _to_all(tables, row.event, row.path, row.seek, FORWARD_NO_MORE)


EVENTS_SOUGHT = MessageKind(message=EventsSought, decide=sought, answers=False)


# --- fold -----------------------------------------------------------------------------------------


def coverage_asked(tables: Tables, f: CoverageAsked, at_ms: int) -> Sequence[Effect]:
    """The lanes are asked."""
    held = tables.coverage.get((f.event, f.path))
    if held is None:
        row = CoverageRow(f.event, f.path, f.seek, f.since_ms, (0,) * tables.place.lanes, at_ms)
    else:
        row = replace(held, seek=f.seek, since_ms=f.since_ms, next_ms=-1)
    tables.coverage.put((f.event, f.path), row)
    return ()


def coverage_wanted(tables: Tables, f: CoverageWanted, at_ms: int) -> Sequence[Effect]:
    """The next request looks further back."""
    _change(tables, f.event, f.path, next_ms=f.since_ms)
    return ()


def coverage_answered(tables: Tables, f: CoverageAnswered, at_ms: int) -> Sequence[Effect]:
    """A lane has looked."""
    row = _row(tables, f.event, f.path)
    _change(tables, f.event, f.path, answered=(*row.answered[: f.lane], f.seek, *row.answered[f.lane + 1 :]))
    return ()


def coverage_dropped(tables: Tables, f: CoverageDropped, at_ms: int) -> Sequence[Effect]:
    """It is forgotten."""
    tables.coverage.delete((f.event, f.path))
    return ()


def count_waiters(tables: Tables, event: str, path: str, more: int, at_ms: int) -> None:
    """One more or one less depends on it."""
    row = tables.coverage.get((event, path))
    assert row is not None, f"somebody waits for {event!r} by {path!r}, and nothing was asked"
    tables.coverage.put((event, path), replace(row, waiters=row.waiters + more, used_at_ms=at_ms))


def _row(tables: Tables, event: str, path: str) -> CoverageRow:
    row = tables.coverage.get((event, path))
    assert row is not None, f"a fact about the coverage of {event!r} by {path!r}, which was not asked for"
    return row


def _change(tables: Tables, event: str, path: str, **changes: object) -> None:
    tables.coverage.put((event, path), replace(_row(tables, event, path), **changes))


HANDLES = Handles(
    facts={
        CoverageAsked: coverage_asked,
        CoverageWanted: coverage_wanted,
        CoverageAnswered: coverage_answered,
        CoverageDropped: coverage_dropped,
    }
)
