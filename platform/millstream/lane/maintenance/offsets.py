"""A lane's positions as offsets of its group, so that what watches the group sees how far it is.

The positions that count are in the journal; these are copies, made once they are durable there, for lag tools and
autoscalers. They begin with the take-over, so that a commit which the last owner no longer made is made good, and go on
at most once a second. A commit that fails is tried again with whatever the positions are then; nothing waits for one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from millstream.core.tables import Tables
from millstream.errors import LogUnavailable
from millstream.lane.parts import LaneParts, Source

COMMIT_EVERY_S: Final = 1.0


async def commit_offsets(parts: LaneParts, durable: Tables, reading: Collection[Source]) -> None:
    """Commit the durable positions of what is being read, for ever."""
    committed: dict[Source, int] = {}
    while True:
        moved: dict[Source, int] = {}
        for source in tuple(reading):
            row = durable.positions.get(source)
            if row is not None and committed.get(source) != row.offset:
                moved[source] = row.offset
        if moved:
            try:
                await parts.membership.commit(moved)
            except LogUnavailable:
                pass  # The next round has the same, or newer ones.
            else:
                committed |= moved
        await parts.surroundings.sleep(COMMIT_EVERY_S)
