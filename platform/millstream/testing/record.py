"""``Record``: the runs, notices and records of a test, read from the lane's journal, as the history reads it.

Only what is durable is there, so a crash changes nothing a test has seen. The journal is read when a view is asked for:
a test that asks for none pays nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from millstream.history import trail
from millstream.history.fold import STATUSES, Changes, Notice, RunChange
from millstream.log.memory.log import MemoryCluster
from millstream.model.event import INTERNAL_PREFIX, TOMBSTONE, Envelope, Event
from millstream.model.facts import PublishQueued
from millstream.wire.journal import Validity, decode_record

READ_RECORDS_MAX: Final = 10_000
READ_BYTES_MAX: Final = 64 * 1024 * 1024


class Published(msgspec.Struct, frozen=True):
    """A record that a function published. ``json`` is its value decoded; a tombstone has the value None."""

    topic: str
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def json(self) -> Any:
        """The value as JSON. Raises msgspec.DecodeError where it is none."""
        return msgspec.json.decode(self.value or b"")


class Record:
    """The fold of one journal partition of a memory log; ``dead_letters`` is the topic not counted as published."""

    def __init__(self, cluster: MemoryCluster, journal: str, dead_letters: str) -> None:
        self._cluster = cluster
        self._journal = journal
        self._dead_letters = dead_letters
        self._position = 0
        self._validity = Validity()
        self._changes = Changes()
        self._sent: list[Event] = []
        self._published: list[Published] = []
        self._steps: dict[str, tuple[tuple[int, int], list[trail.StepSeen]]] = {}

    @property
    def end(self) -> int:
        """The number of records in the journal: it moves whenever anything happens."""
        found = self._cluster.partitions.get((self._journal, 0))
        return found.end if found is not None else 0

    @property
    def runs(self) -> Mapping[str, RunChange]:
        """All runs by id, in order of their start."""
        self._catch_up()
        return self._changes.runs

    @property
    def notices(self) -> list[Notice]:
        """The events that started nothing, each with the reason."""
        self._catch_up()
        return self._changes.notices

    @property
    def sent(self) -> list[Event]:
        """Events sent by steps, in order."""
        self._catch_up()
        return self._sent

    @property
    def published(self) -> list[Published]:
        """Records published by steps, in order."""
        self._catch_up()
        return self._published

    def steps(self, run: str) -> list[trail.StepSeen]:
        """The steps of a run in order of appearance; the body, where something befell it, has an empty id."""
        change = self.runs[run]
        version = (len(change.entries), change.ended_ms)
        known = self._steps.get(run)
        if known is None or known[0] != version:
            steps = trail.read([trail.pack(change.entries)])
            if change.ended_ms:
                trail.close(steps, STATUSES[change.status], change.ended_ms)
            known = self._steps[run] = (version, steps)
        return known[1]

    def _catch_up(self) -> None:
        while self._position < self.end:
            partition = self._cluster.partitions[self._journal, 0]
            page, self._position = partition.read(self._position, READ_RECORDS_MAX, READ_BYTES_MAX)
            for record in page:
                assert record.value is not None, "a journal record has a value"
                complete = self._validity.take(decode_record(record.value))
                if complete is None:
                    continue
                self._changes.fold(complete)
                for fact in complete.facts:
                    if isinstance(fact, PublishQueued):
                        self._queued(fact)

    def _queued(self, fact: PublishQueued) -> None:
        if fact.event is None:
            if fact.topic != self._dead_letters:
                value = None if TOMBSTONE in fact.headers else fact.value
                headers = tuple(header for header in fact.headers if not header[0].startswith("millstream-"))
                self._published.append(Published(fact.topic, fact.key, value, headers))
        elif not fact.event.name.startswith(INTERNAL_PREFIX):
            self._sent.append(_as_sent(fact.event))


def _as_sent(envelope: Envelope) -> Event:
    """The event as the function wrote it: what was filled in on the way is left out."""
    return Event(
        envelope.name,
        msgspec.json.decode(envelope.data),
        id=envelope.id if envelope.id_is_clients else None,
        ts=envelope.ts_ms if envelope.ts_ms != envelope.received_at_ms else None,
        key=envelope.key or None,
        user=msgspec.json.decode(envelope.user) if envelope.user else None,
        v=envelope.v or None,
        meta=msgspec.json.decode(envelope.meta) if envelope.meta else None,
    )
