"""What waits for a lane: how many records its sources have that it has yet to take in, and since when the oldest waits.

A record is taken in once a journal record holds a position behind it. What was read and is not taken in yet is known by
page; where intake pauses, nothing is read, and the oldest record is looked at with a reader of its own. So a lane that
takes nothing in for an hour shows an hour, and an idle one 0.

Everything here is looked at now and then: the hot path pays for one tuple a page.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from millstream.core.tables import Tables
from millstream.errors import Corruption, OperatorError, StoreDamaged, StoreUnavailable
from millstream.lane.input.positions import position_of
from millstream.lane.parts import LaneParts, Source
from millstream.log.port import Record

LOOK_EVERY_S: Final = 5.0


class Page(NamedTuple):
    """Records that were read at once: when the log took the first, and the position behind the last."""

    at_ms: int
    behind: int


class Waiting(NamedTuple):
    """What waits: records of all sources, and the age of the oldest; ``taken_in`` since this was asked last."""

    records: int
    oldest_s: float
    taken_in: int


class Backlog:
    """The backlog of one lane. ``sources`` gives the topic partitions that it reads now."""

    def __init__(self, parts: LaneParts, durable: Tables, sources: Callable[[], Collection[Source]]) -> None:
        self._log = parts.log
        self._surroundings = parts.surroundings
        self._durable = durable
        self._sources = sources
        self._pages: dict[Source, deque[Page]] = {}
        self._ends: dict[Source, int] = {}
        self._positions: dict[Source, int] = {}  # Up to where ``waiting`` has told ``taken_in``.

    def note(self, topic: str, partition: int, page: Sequence[Record]) -> None:
        """These records were read, and are about to be queued."""
        if page:
            pages = self._pages.setdefault((topic, partition), deque())
            pages.append(Page(page[0].at_ms, page[-1].offset + 1))
            self._positions.setdefault((topic, partition), page[0].offset)

    def waiting(self) -> Waiting:
        """What waits now, as far as was looked. To be asked often: it forgets the pages that are taken in."""
        records, oldest_ms, taken_in, now_ms = 0, 0, 0, self._surroundings.now_ms()
        sources = self._sources()
        for source in sources:
            try:
                position = position_of(self._durable, *source)
            except StoreUnavailable:
                continue  # Who needs the store says so.
            taken_in += max(position - self._positions.get(source, position), 0)
            self._positions[source] = position
            pages = self._pages.get(source)
            while pages and pages[0].behind <= position:
                pages.popleft()
            read = pages[-1].behind if pages else position
            records += max(self._ends.get(source, 0), read) - position
            if pages:
                oldest_ms = min(oldest_ms or now_ms, pages[0].at_ms)
        for known in (self._pages, self._ends, self._positions):
            for source in known.keys() - set(sources):
                del known[source]
        return Waiting(records, (now_ms - oldest_ms) / 1000 if oldest_ms else 0.0, taken_in)

    async def look(self) -> None:
        """Look for ever where the sources end, and at the oldest record of one from which nothing is being read."""
        while True:
            for source in tuple(self._sources()):
                try:
                    self._ends[source] = await self._log.end_offset(*source)
                    if self._ends[source] > position_of(self._durable, *source) and not self._pages.get(source):
                        await self._look_at_oldest(source)
                except (Corruption, StoreDamaged):
                    raise
                except OperatorError:
                    continue  # Who reads the source says so; the figures stay as they are.
            await self._surroundings.sleep(LOOK_EVERY_S)

    async def _look_at_oldest(self, source: Source) -> None:
        position = position_of(self._durable, *source)
        reader = self._log.reader(*source, position)
        try:
            page = await reader.read(max_records=1, max_bytes=1, wait_s=0)
        finally:
            await reader.close()
        if (
            not self._pages.get(source) and position_of(self._durable, *source) == position
        ):  # Else it has been read meanwhile.
            self.note(*source, page)
