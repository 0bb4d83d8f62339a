"""A real door on a loopback port over a memory log, and a history that folds on demand."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from millstream.api.door import DoorConfig
from millstream.api.server import Served, build_app, serve
from millstream.history.index import Index, prepare
from millstream.history.service import Follows, History
from millstream.log.memory.log import MemoryLog
from millstream.log.port import Log, Produced, TopicKind, TopicSpec
from millstream.model.event import Envelope
from millstream.model.facts import Fact, LaneFenced
from millstream.model.journal import JournalRecord
from millstream.wire.journal import encode_record
from millstream.wire.messages import decode_envelope

GROUP = "shop"
NOW_MS = 1_795_356_850_000
OWNER = b"owner-01"


@dataclass
class World:
    """What a test of the door holds. ``journal`` is written as a lane would."""

    log: Log
    served: Served
    http: aiohttp.ClientSession
    index: Path
    seq: int = 0

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, Any, aiohttp.ClientResponse]:
        """Status, JSON body (None for none) and the answer itself."""
        async with self.http.request(method, self.served.url + path, allow_redirects=False, **more) as response:
            text = await response.text()
            body = await response.json(content_type=None) if text[:1] in ("{", "[") else text
            return response.status, body, response

    async def stored(self, partitions: int = 1) -> list[Envelope]:
        """The events in the events topic."""
        events = []
        for partition in range(partitions):
            end = await self.log.end_offset("events", partition)
            reader = self.log.reader("events", partition, 0)
            while reader.position < end:
                for record in await reader.read(max_records=10_000, max_bytes=1 << 30, wait_s=0):
                    events.append(decode_envelope(record.value or b""))
            await reader.close()
        return events

    async def decided(self, *facts: Fact, at_ms: int = NOW_MS) -> int:
        """Append a journal record with these facts; its offset."""
        writer = self.log.writer(f"{GROUP}.journal", 0)
        if self.seq == 0:
            fence = JournalRecord(OWNER, 0, at_ms, (LaneFenced("test"),))
            await writer.append([Produced(encode_record(fence))])
        self.seq += 1
        offset = await writer.append([Produced(encode_record(JournalRecord(OWNER, self.seq, at_ms, facts)))])
        await writer.close()
        assert offset is not None, "the memory log tells offsets"
        return offset

    async def fold(self) -> None:
        """Bring the history up to the log's end."""
        index = Index(self.index)
        await History(self.log, index, Follows(group=GROUP, lanes=1, events=("events",))).catch_up()
        index.close()


@contextlib.asynccontextmanager
async def open_world(path: Path, log: Log | None = None, **config: Any) -> AsyncIterator[World]:
    """A door that runs, with everything ended afterwards."""
    log = log or MemoryLog()
    partitions = config.get("event_partitions", 1)
    await log.create_topics(
        [TopicSpec("events", partitions), TopicSpec(f"{GROUP}.functions", 1, TopicKind.COMPACTED)]
        + [TopicSpec(f"{GROUP}.{name}", 1) for name in ("journal", "inbox", "replies")]
    )
    index = path / "history.db"
    prepare(index)
    door = DoorConfig(log=log, group=GROUP, lanes=1, index=index, **({"now_ms": lambda: NOW_MS} | config))
    served = await serve(build_app(door), port=0)
    async with aiohttp.ClientSession() as http:
        try:
            yield World(log, served, http, index)
        finally:
            await served.close()
            await log.close()
