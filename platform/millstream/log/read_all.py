"""Reading all records of a topic partition: from its start to the end it has at that moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from millstream.log.port import Log, Reader, Record

READ_RECORDS_MAX: Final = 2_000
READ_BYTES_MAX: Final = 16 * 1024 * 1024
HOLES_WAIT_S: Final = 0.05


async def read_all(log: Log, topic: str, partition: int) -> AsyncIterator[Sequence[Record]]:
    """The records of a partition now, in order, in pages.

    Raises LogUnavailable, and OffsetOutOfRange when it is trimmed meanwhile.
    """
    reader = log.reader(topic, partition, await log.start_offset(topic, partition))
    try:
        async for page in read_rest(log, topic, partition, reader):
            yield page
    finally:
        await reader.close()


async def read_rest(log: Log, topic: str, partition: int, reader: Reader) -> AsyncIterator[Sequence[Record]]:
    """The records behind a reader's position now, alike. The reader stays open, to read later ones."""
    end = await log.end_offset(topic, partition)
    while reader.position < end:
        page = await reader.read(max_records=READ_RECORDS_MAX, max_bytes=READ_BYTES_MAX, wait_s=HOLES_WAIT_S)
        if not page:
            continue  # It says nothing: the position may have moved over holes, or the brokers take their time.
        yield page
