"""Which event ids were seen: 16-byte hashes in buckets by source time, dropped a chunk at a time (lanes.md rule 19).

Ids that clients gave are remembered for 24 hours in hourly buckets, ids we generated for 10 minutes in buckets of one.
A bucket is a row that names its chunks; a chunk is a row of up to ``CHUNK_IDS`` hashes, so that a checkpoint writes new
ids in blobs and not row by row. ``tables.seen`` is an index derived from the chunks: until when each id is known.

The hours count by the source: what matters is how far apart two records of one partition were received, not when they
are read. A lane that comes back after two days, or reads a topic from its beginning, goes through old hours one after
another, and must still know in the last of them what it took in the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from millstream.core.handles import Handles
from millstream.core.tables import Tables
from millstream.model import limits
from millstream.model.effects import Effect
from millstream.model.facts import EventAccepted, EventNoted, SeenDropped
from millstream.model.rows import SeenBucketRow, SeenChunkRow, SeenRow
from millstream.model.seen import HASH_BYTES, begins_ms, bucket_of, until_ms

SOURCES_KEPT_MAX: Final = 4_096
_SOURCES: Final[dict[tuple[str, int], bytes]] = {}
CHUNK_IDS: Final = 512
BUCKETS_MAX: Final = 10_000
CHUNKS_DROPPED_AT_ONCE_MAX: Final = 16


def seen_hash(topic: str, partition: int, id: str) -> bytes:
    """What stands for an id of a source partition."""
    source = _SOURCES.get((topic, partition)) or _source(topic, partition)
    return blake2b(source + id.encode(), digest_size=HASH_BYTES).digest()


def scanned_id(id: str, function: str) -> str:
    """The id that a scan for one function remembers: others have had their run, or have one yet to come."""
    return f"{id}\0{function}"


def _source(topic: str, partition: int) -> bytes:
    """What comes before the id in what is hashed."""
    if len(_SOURCES) >= SOURCES_KEPT_MAX:
        _SOURCES.clear()
    _SOURCES[topic, partition] = source = f"{topic}\0{partition}\0".encode()
    return source


def known(tables: Tables, hash: bytes, received_at_ms: int) -> bool:
    """Whether this id came before, within its time, on its source."""
    row = tables.seen.get(hash)
    return row is not None and received_at_ms < row.until_ms


def remember(tables: Tables, fact: EventAccepted | EventNoted) -> None:
    """Fold the id of an event that was taken into its bucket."""
    source, clients, hash = f"{fact.topic}/{fact.partition}", fact.id_is_clients, fact.seen
    bucket = bucket_of(clients, fact.received_at_ms)
    tables.seen.put(hash, SeenRow(hash, until_ms(clients, bucket)))
    key = (source, clients, bucket)
    held = tables.seen_buckets.get(key)
    if held is None:
        tables.seen_buckets.put(key, SeenBucketRow(source, clients, bucket, 0, 0))
        number = 0
    else:
        number = held.chunk
    place = (source, clients, bucket, number)
    chunk = tables.seen_chunks.get(place)
    hashes = hash if chunk is None else chunk.hashes + hash
    tables.seen_chunks.put(place, SeenChunkRow(source, clients, bucket, number, hashes))
    if len(hashes) >= CHUNK_IDS * HASH_BYTES:
        first = 0 if held is None else held.first
        tables.seen_buckets.put(key, SeenBucketRow(source, clients, bucket, first, number + 1))


def expired(tables: Tables, now_ms: int) -> list[SeenDropped]:
    """Facts that drop what is past its time, at most ``CHUNKS_DROPPED_AT_ONCE_MAX`` chunks.

    A source has got as far as its newest bucket says. One that has brought nothing for ``SEEN_IDLE_MS`` is taken to
    have got as far as the clock: nothing as old is waiting to be read any more. A scan reads a source a second time,
    further back: while it is open, what is old for the source counts by the newest of it, which is where the scan is.
    """
    facts: list[SeenDropped] = []
    rows = tables.seen_buckets.scan(limit=BUCKETS_MAX)
    reached_ms: dict[str, int] = {}
    for (source, clients, bucket), _ in rows:
        reached_ms[source] = max(begins_ms(clients, bucket), reached_ms.get(source, 0))
    scanned = {f"{row.topic}/{row.partition}" for _, row in tables.scans.scan(limit=BUCKETS_MAX)}
    scanned_ms: dict[str, int] = {}
    for (source, clients, bucket), _ in rows:
        if source in scanned and until_ms(clients, bucket) <= min(now_ms, reached_ms[source]):
            scanned_ms[source] = max(begins_ms(clients, bucket), scanned_ms.get(source, 0))
    for (source, clients, bucket), row in rows:
        over_ms = until_ms(clients, bucket)
        if over_ms > min(now_ms, max(reached_ms[source], now_ms - limits.SEEN_IDLE_MS)):
            continue
        if source in scanned and over_ms > scanned_ms.get(source, 0):
            continue
        for chunk in range(row.first, row.chunk + 1):
            if len(facts) == CHUNKS_DROPPED_AT_ONCE_MAX:
                return facts
            facts.append(SeenDropped(source, clients, bucket, chunk, chunk == row.chunk))
    return facts


def forget(tables: Tables, fact: SeenDropped, at_ms: int) -> Sequence[Effect]:
    """Fold: the chunk's ids are forgotten, and the bucket with its last chunk. Ids that came again later are kept."""
    key = (fact.source, fact.clients, fact.bucket)
    over_ms = until_ms(fact.clients, fact.bucket)
    chunk = tables.seen_chunks.get((*key, fact.chunk))
    if chunk is not None:
        for i in range(0, len(chunk.hashes), HASH_BYTES):
            hash = chunk.hashes[i : i + HASH_BYTES]
            held = tables.seen.get(hash)
            if held is not None and held.until_ms <= over_ms:
                tables.seen.delete(hash)
        tables.seen_chunks.delete((*key, fact.chunk))
    row = tables.seen_buckets.get(key)
    if row is None:
        return ()
    if fact.last:
        tables.seen_buckets.delete(key)
    else:
        tables.seen_buckets.put(key, SeenBucketRow(*key, fact.chunk + 1, row.chunk))
    return ()


HANDLES = Handles(facts={SeenDropped: forget})
