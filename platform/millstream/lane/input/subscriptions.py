"""The sources of a lane: the events topic and the topics its functions subscribe to, with all their partitions.

    look (every few seconds, and when the catalogue has moved) ─> SeeTopic ─durable─> positions ─> one reader each

A source is read only once its position is durable (lanes.md rule 18), and from there; so looking often does no harm,
and the next look makes up for a failed one. A missing topic is logged once, and looked for again. A topic without
subscribers is not read on; its position stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import Catalogue, catalogue
from millstream.errors import MillstreamError, StoreDamaged
from millstream.lane.parts import LaneParts, Source
from millstream.log.port import Log
from millstream.model.commands import Opening, ScanStart, SeeTopic
from millstream.model.function import SINCE_EARLIEST, SINCE_LATEST
from millstream.model.ids import lane_of_source
from millstream.model.messages import group_topic
from millstream.model.rows import TopicRow
from millstream.telemetry import say

LOG: Final = logging.getLogger("millstream.lane.subscriptions")
LOOK_S: Final = 3.0
CREATE: Final = "create it, or correct its name in the function; it is looked for again and again"
CORRECT: Final = "subscribe the function to another topic"
AGAIN: Final = "nothing, if the brokers answer again soon: it is tried again and again"
OWN_TOPICS: Final = ("journal", "inbox", "steps", "timers", "keys", "functions", "replies")
"""Topics of the group that no function may subscribe to: each record read would write another one."""


class Subscriptions:
    """Keeps one reader for each source. ``read`` reads a source from an offset on; ``submit`` queues a command."""

    def __init__(
        self,
        parts: LaneParts,
        tables: Tables,
        submit: Callable[[SeeTopic], None],
        read: Callable[[str, int, int], Coroutine[Any, Any, None]],
    ) -> None:
        self._log = parts.log
        self._place = parts.place
        self._call_later = parts.surroundings.call_later
        self._telemetry = parts.telemetry
        self._durable = tables
        self._submit = submit
        self._read = read
        self._functions = (group_topic(parts.place.group, "functions"), 0)
        self._readers: dict[Source, asyncio.Task[None]] = {}
        self._missing: set[str] = set()
        self._moved = asyncio.Event()
        self.seen = -1
        """The functions-topic offset up to which every topic subscribed to is being read, or is missing."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """The topic partitions that are being read."""
        return tuple(self._readers)

    def moved(self) -> None:
        """The catalogue or what is open has changed: look at once."""
        self._moved.set()

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Look, for ever. The readers are tasks of the group."""
        while True:
            self._moved.clear()
            await self._look(tasks)
            alarm = self._call_later(LOOK_S, self._moved.set)
            await self._moved.wait()
            alarm.cancel()

    def close(self) -> None:
        """Read no more."""
        for task in self._readers.values():
            task.cancel()

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        row = self._durable.positions.get(self._functions)
        upto = row.offset if row is not None else 0
        known = catalogue(self._durable)
        topics = {self._place.events_topic, *known.topics}
        for source in [source for source in self._readers if source[0] not in topics]:
            self._readers.pop(source).cancel()
        complete = True
        for topic in sorted(topics):
            if topic in {group_topic(self._place.group, which) for which in OWN_TOPICS}:
                self._alarm(topic, "it is one of the group's own topics, which nobody may subscribe to", CORRECT)
                continue
            try:
                complete = await self._look_at(topic, known, tasks) and complete
            except StoreDamaged:
                raise  # No fault of the topic: the lane is opened again on an empty store.
            except MillstreamError as error:
                complete = False
                self._alarm(topic, str(error), AGAIN)
        if complete:
            self.seen = upto
        self._telemetry.set("millstream_topics_missing", len(self._missing), str(self._place.lane))

    async def _look_at(self, topic: str, known: Catalogue, tasks: asyncio.TaskGroup) -> bool:
        """Whether all of a topic is being read."""
        spec = await self._log.topic(topic)
        partitions = spec.partitions if spec is not None else 0
        if partitions:
            self._missing.discard(topic)
        else:
            self._alarm(topic, "a function subscribes to it, and there is no such topic", CREATE)
        held = self._durable.topics.get(topic)
        place, positions = self._place, self._durable.positions
        mine = [p for p in range(partitions) if lane_of_source(topic, p, place.lanes) == place.lane]
        unopened = [p for p in mine if positions.get((topic, p)) is None]
        if unopened or held is None or held.partitions < partitions:
            openings = [await self._opening(topic, p, known, held) for p in unopened]
            self._submit(SeeTopic(topic, partitions, tuple(openings)))
            return False
        for partition in mine:
            source, row = (topic, partition), positions.get((topic, partition))
            reader = self._readers.get(source)
            if row is not None and (reader is None or reader.done()):
                self._readers[source] = tasks.create_task(self._read(topic, partition, row.offset))
        for source in [s for s in self._readers if s[0] == topic and s[1] not in mine]:
            self._readers.pop(source).cancel()  # The topic was made anew, with fewer of them.
        return True

    async def _opening(self, topic: str, partition: int, known: Catalogue, held: TopicRow | None) -> Opening:
        """Where a partition is opened: a new one at its beginning, else at the latest a function asks for."""
        if held is not None or topic == self._place.events_topic:
            return Opening(partition, await self._log.start_offset(topic, partition))
        subscribers = known.subscribers(topic)
        offsets: dict[int, int] = {}
        for since_ms in sorted({trigger.since_ms for _, trigger in subscribers}):
            offsets[since_ms] = await offset_since(self._log, topic, partition, since_ms)
        starts = tuple(ScanStart(function.slug, offsets[trigger.since_ms]) for function, trigger in subscribers)
        return Opening(partition, max(offsets.values()), starts)

    def _alarm(self, topic: str, why: str, todo: str) -> None:
        if topic not in self._missing:
            self._missing.add(topic)
            say(LOG, "topic not read", level=logging.ERROR, lane=self._place.lane, topic=topic, why=why, todo=todo)


async def offset_since(log: Log, topic: str, partition: int, since_ms: int) -> int:
    """The offset that ``since_ms`` stands for."""
    if since_ms == SINCE_LATEST:
        return await log.end_offset(topic, partition)
    if since_ms == SINCE_EARLIEST:
        return await log.start_offset(topic, partition)
    return await log.offset_at(topic, partition, since_ms)
