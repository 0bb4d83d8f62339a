"""The topics and partitions of an embedded log's file: found at the start, and made later.

A partition's object is made once and shared by the loop and the writer thread (``partition.py``). The rule:
a topic's shape never changes but for how long it is kept, so what was found stays true and needs no lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from millstream.errors import ConfigError, LimitExceeded
from millstream.log.embedded.file import PARTITIONS_MAX, bounds, check_tail, last_time, places, prepare, topics
from millstream.log.embedded.jobs import Job, Sweep, Trim
from millstream.log.embedded.partition import Partition
from millstream.log.embedded.tail import TailBudget
from millstream.log.port import TopicKind, TopicSpec


class Topics:
    """What a log holds."""

    def __init__(self, directory: Path, tail_bytes_max: int) -> None:
        self.specs: dict[str, TopicSpec] = {}
        self.partitions: dict[tuple[str, int], Partition] = {}
        self.identity = b""
        self._directory = directory
        self._budget = TailBudget(tail_bytes_max)

    def find(self, topic: str, partition: int) -> Partition:
        """The partition, or ConfigError."""
        found = self.partitions.get((topic, partition))
        if found is None:
            known = self.specs.get(topic)
            detail = "there is no such topic" if known is None else f"the topic has {known.partitions} partitions"
            raise ConfigError(
                f"topic {topic!r} partition {partition}: {detail}. A server makes the topics of its group "
                "when it starts, and another when a step publishes to it."
            )
        return found

    def missing(self, specs: Sequence[TopicSpec]) -> list[TopicSpec]:
        """Those that are to be made; ConfigError if one exists with another shape."""
        wanted: dict[str, TopicSpec] = {}
        for spec in specs:
            known = self.specs.get(spec.name) or wanted.setdefault(spec.name, spec)
            if known != spec:
                raise ConfigError(
                    f"topic {spec.name!r} exists with another shape: expected {spec}, got {known}. A topic's shape is "
                    "fixed when it is made: use the same settings as then, or another data directory."
                )
        if len(self.partitions) + sum(spec.partitions for spec in wanted.values()) > PARTITIONS_MAX:
            raise LimitExceeded(f"a log has at most {PARTITIONS_MAX} partitions. Make fewer topics or partitions.")
        return list(wanted.values())

    def load(self, connection: sqlite3.Connection) -> list[Job]:
        """At the start of the writing process: learn everything, check the last batches, find unfinished work."""
        self.identity = prepare(connection, self._directory)
        self.learn(connection)
        for partition in self.partitions.values():
            check_tail(connection, partition.place)
        return [*self._cut_short_trims(connection), *self._cut_short_sweeps(connection)]

    def learn(self, connection: sqlite3.Connection) -> None:
        """Take in topics that are in the file and not known yet."""
        for spec in topics(connection):
            if spec.name in self.specs:
                continue
            for place in places(connection, self._directory, spec):
                partition = Partition(place, spec, self._budget)
                partition.start, partition.end = bounds(connection, place)
                partition.kept_from, partition.next = partition.start, partition.end
                partition.last_at_ms = last_time(connection, place)
                self.partitions[spec.name, place.number] = partition
            self.specs[spec.name] = spec

    def make(self, connection: sqlite3.Connection, specs: Sequence[TopicSpec]) -> list[Partition]:
        """On the writer thread, in a transaction: write the topics; ``made`` takes them in once that is durable."""
        partitions: list[Partition] = []
        for spec in specs:
            connection.execute(
                "INSERT INTO topic (name, partitions, kind, retention_ms) VALUES (?, ?, ?, ?)",
                (spec.name, spec.partitions, spec.kind.value, spec.retention_ms),
            )
            connection.executemany(
                "INSERT INTO topic_partition (topic, number) VALUES (?, ?)",
                [(spec.name, number) for number in range(spec.partitions)],
            )
            partitions += [Partition(place, spec, self._budget) for place in places(connection, self._directory, spec)]
        return partitions

    def made(self, specs: Sequence[TopicSpec], partitions: Sequence[Partition]) -> None:
        """On the loop: the topics exist from now on."""
        for partition in partitions:
            self.partitions[partition.place.topic, partition.place.number] = partition
        self.specs |= {spec.name: spec for spec in specs}

    def kept_otherwise(self, specs: Sequence[TopicSpec]) -> list[TopicSpec]:
        """The topics that are there and are to be kept for another time, as they are to be."""
        held = ((self.specs.get(spec.name), spec.retention_ms) for spec in specs)
        return [replace(known, retention_ms=ms) for known, ms in held if known is not None and known.retention_ms != ms]

    def keep(self, connection: sqlite3.Connection, specs: Sequence[TopicSpec]) -> None:
        """On the writer thread, in a transaction: the topics' retentions are these. ``made`` takes them in."""
        for spec in specs:
            connection.execute("UPDATE topic SET retention_ms = ? WHERE name = ?", (spec.retention_ms, spec.name))
            for number in range(spec.partitions):
                self.partitions[spec.name, number].retention_ms = spec.retention_ms

    def _cut_short_trims(self, connection: sqlite3.Connection) -> list[Trim]:
        trims = []
        for partition in self.partitions.values():
            base, start = partition.place.base, partition.start
            row = connection.execute(
                "SELECT position, count FROM batch WHERE position >= ? AND position < ? ORDER BY position LIMIT 1",
                (base, base + start),
            ).fetchone()
            if row is not None and row[0] - base + row[1] <= start:
                trims.append(Trim(partition, start, None))
        return trims

    def _cut_short_sweeps(self, connection: sqlite3.Connection) -> list[Sweep]:
        swept = dict(connection.execute("SELECT id, swept_to FROM topic_partition"))
        return [
            Sweep(partition, swept[partition.place.id], partition.end)
            for partition in self.partitions.values()
            if partition.place.kind is TopicKind.COMPACTED and swept[partition.place.id] < partition.end
        ]
