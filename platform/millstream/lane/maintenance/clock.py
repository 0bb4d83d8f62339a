"""Is this machine's clock right? A clock far off the log's fires no timers: they would be early or late by as much
(lanes.md rule 8).

The log's time of the lane's last record is compared with our own at that moment.
"""

from __future__ import annotations

from typing import Final

from millstream.errors import LogUnavailable, OffsetOutOfRange
from millstream.lane.journal import Journal

CLOCK_CHECK_MS: Final = 30_000


async def clock_off_ms(journal: Journal, appended_at_ms: int) -> int | None:
    """How far our time of the last append is off the log's; None where that cannot be said now."""
    last = journal.expected - 1
    try:
        found = await journal.read(last, last + 1)
    except (LogUnavailable, OffsetOutOfRange):
        return None  # Another time.
    if last != journal.expected - 1:
        return None  # Something was appended meanwhile; the next check looks at that.
    return abs(found[0].at_ms - appended_at_ms)
