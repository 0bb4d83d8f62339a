"""A log whose topics have a prefix, so that one broker serves many tests. Names come back without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from millstream.log.port import LanesChanged, Log, Membership, Produced, Reader, TopicSpec, Transaction, Writer


class Prefixed:
    """A ``Log``. Words of errors keep the prefix."""

    def __init__(self, log: Log, prefix: str) -> None:
        self.log = log
        self._prefix = prefix

    def own(self, name: str) -> str:
        return f"{self._prefix}.{name}"

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        await self.log.create_topics([replace(spec, name=self.own(spec.name)) for spec in specs])

    async def topic(self, name: str) -> TopicSpec | None:
        found = await self.log.topic(self.own(name))
        return None if found is None else replace(found, name=name)

    def writer(self, topic: str, partition: int) -> Writer:
        return self.log.writer(self.own(topic), partition)

    def reader(self, topic: str, partition: int, offset: int) -> Reader:
        return self.log.reader(self.own(topic), partition, offset)

    async def start_offset(self, topic: str, partition: int) -> int:
        return await self.log.start_offset(self.own(topic), partition)

    async def end_offset(self, topic: str, partition: int) -> int:
        return await self.log.end_offset(self.own(topic), partition)

    async def topic_identity(self, name: str) -> str:
        return await self.log.topic_identity(self.own(name))

    async def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        return await self.log.offset_at(self.own(topic), partition, at_ms)

    async def trim(self, topic: str, partition: int, before_offset: int) -> None:
        await self.log.trim(self.own(topic), partition, before_offset)

    async def transaction(self, name: str) -> Transaction:
        return _Transaction(self, await self.log.transaction(name))

    def membership(self, group: str, lanes: int) -> Membership:
        return _Membership(self, self.log.membership(self.own(group), lanes))

    async def close(self) -> None:
        await self.log.close()


class _Transaction:
    def __init__(self, log: Prefixed, inner: Transaction) -> None:
        self._log = log
        self._inner = inner
        self.commit = inner.commit
        self.abort = inner.abort

    async def send(self, topic: str, partition: int, records: Sequence[Produced]) -> None:
        await self._inner.send(self._log.own(topic), partition, records)


class _Membership:
    def __init__(self, log: Prefixed, inner: Membership) -> None:
        self._log = log
        self._inner = inner
        self.still_owns = inner.still_owns
        self.leave = inner.leave

    @property
    def live(self) -> bool:
        return bool(self._inner.live)

    async def join(self, *, on_assigned: LanesChanged, on_revoked: LanesChanged) -> None:
        await self._inner.join(on_assigned=on_assigned, on_revoked=on_revoked)

    def reader(self, topic: str, partition: int, offset: int) -> Reader:
        return self._inner.reader(self._log.own(topic), partition, offset)

    async def commit(self, positions: Mapping[tuple[str, int], int]) -> None:
        await self._inner.commit({(self._log.own(topic), p): offset for (topic, p), offset in positions.items()})
