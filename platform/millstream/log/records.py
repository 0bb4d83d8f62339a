"""What every log asks of the records of an append: their shape, and how many bytes they count for; and what those who
fold a journal ask of the records they read: that none is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from millstream.errors import Corruption, LimitExceeded
from millstream.log.port import Produced, TopicKind

HEADERS_MAX: Final = 256
HEADER_NAME_BYTES_MAX: Final = 1_024
RECORD_OVERHEAD_BYTES: Final = 100


def size_of(records: Sequence[Produced]) -> int:
    """About how many bytes the records take: what the limits on waiting and cached bytes count.

    Raises LimitExceeded for headers that cannot be packed, here, where the caller still is.
    """
    size = 0
    for record in records:
        size += RECORD_OVERHEAD_BYTES
        if record.value is not None:
            size += len(record.value)
        if record.key is not None:
            size += len(record.key)
        if record.headers:
            size += _size_of_headers(record.headers)
    return size


def check_shape(records: Sequence[Produced], kind: TopicKind) -> None:
    """Compacted topics take only records with keys. Raises ValueError.

    A record without a value is taken everywhere, as Kafka does: in a stream it deletes nothing.
    """
    if kind is TopicKind.COMPACTED and any(record.key is None for record in records):
        raise ValueError("a record for a compacted topic needs a key")


def record_missing(topic: str, partition: int, expected: int, got: int) -> Corruption:
    """The error that stops the fold of a journal when another record comes than the next one. Journals have no holes:
    they are not compacted, and no transaction writes to them."""
    return Corruption(
        f"journal {topic}/{partition} gave offset {got} where {expected} was expected: a record is missing or came out "
        "of order. Nothing from there on was taken. Start again; where that does not help, the topic is not what was "
        "written: look at it with millstream lanes verify, and compare it with another replica."
    )


def _size_of_headers(headers: tuple[tuple[str, bytes], ...]) -> int:
    names = [len(name.encode()) for name, _ in headers]
    if len(headers) > HEADERS_MAX or max(names) > HEADER_NAME_BYTES_MAX:
        raise LimitExceeded(
            f"a record has {len(headers)} headers, the longest name {max(names)} bytes; at most {HEADERS_MAX} headers "
            f"with names of {HEADER_NAME_BYTES_MAX} bytes are taken. Put the rest into the value."
        )
    return sum(names) + sum(len(content) for _, content in headers)
