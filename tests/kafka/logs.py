"""Logs on the tests' broker, with a group's topics of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from millstream.log.kafka.admin.client import Admin
from millstream.log.kafka.admin.topics import HEARTBEAT, SESSION
from millstream.log.kafka.group import KafkaMembership
from millstream.log.kafka.log import KafkaLog, KafkaOptions
from millstream.log.kafka.settings import KafkaSettings
from millstream.log.port import Produced, Reader, Record, TopicKind, TopicSpec
from tests.kafka.broker import Broker, fresh

SOON_S = 30.0


def settings_for(broker: Broker, protocol: str = "consumer", session_ms: int = 6_000) -> KafkaSettings:
    return KafkaSettings(
        brokers=broker.bootstrap,
        group_protocol=protocol,
        session_timeout_ms=session_ms,
        replication_factor=1,
        min_insync=1,
    )


@contextlib.asynccontextmanager
async def opened(settings: KafkaSettings, name: str | None = None, watchdog_s: float = 15.0) -> AsyncIterator[KafkaLog]:
    log = await KafkaLog.open(settings, KafkaOptions(name=name or fresh("w"), watchdog_s=watchdog_s))
    try:
        yield log
    finally:
        await log.close()


async def group_topics(log: KafkaLog, settings: KafkaSettings, lanes: int = 4, session_ms: int = 2_000) -> str:
    """A fresh group with its topics and an events topic ``<group>.events``; its members hear of changes soon."""
    group = fresh("g")
    soon = {HEARTBEAT: "400", SESSION: f"{session_ms}"}
    await asyncio.get_running_loop().run_in_executor(None, lambda: Admin(settings).set_group(group, soon))
    await log.create_topics(
        [
            TopicSpec(f"{group}.journal", lanes),
            TopicSpec(f"{group}.inbox", lanes),
            TopicSpec(f"{group}.steps", lanes, TopicKind.COMPACTED),
            TopicSpec(f"{group}.events", lanes, retention_ms=3_600_000),
        ]
    )
    return group


@dataclass
class Member:
    """A member that takes notes."""

    log: KafkaLog
    group: str
    lanes: int = 4
    told: list[tuple[str, list[int]]] = field(default_factory=list)
    held: set[int] = field(default_factory=set)
    let_go_s: float = 0.0
    membership: KafkaMembership = field(init=False)

    async def join(self) -> None:
        self.membership = self.log.membership(self.group, self.lanes)
        await self.membership.join(on_assigned=self._assigned, on_revoked=self._revoked)

    async def _assigned(self, lanes: frozenset[int]) -> None:
        self.told.append(("assigned", sorted(lanes)))
        self.held |= lanes

    async def _revoked(self, lanes: frozenset[int]) -> None:
        await asyncio.sleep(self.let_go_s)
        self.told.append(("revoked", sorted(lanes)))
        self.held -= lanes


async def until(what: Callable[[], object], within_s: float = SOON_S) -> None:
    """Wait until it is true."""
    async with asyncio.timeout(within_s):
        while not what():  # noqa: ASYNC110 - of brokers nobody tells
            await asyncio.sleep(0.02)


async def read_upto(reader: Reader, end: int) -> list[Record]:
    records: list[Record] = []
    async with asyncio.timeout(SOON_S):
        while reader.position < end:
            records += await reader.read(max_records=1_000, max_bytes=1 << 20, wait_s=1.0)
    return records


def values(*texts: str) -> list[Produced]:
    return [Produced(text.encode()) for text in texts]
