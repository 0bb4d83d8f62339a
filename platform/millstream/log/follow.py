"""Following a topic partition: what comes is handed on, for as long as the task lives.

Records that were trimmed are stepped over. Brokers that do not answer are asked again, with a line in the log. Whatever
``take`` raises ends it: whose task it is must say so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from millstream.errors import LogUnavailable, OffsetOutOfRange
from millstream.log.port import Reader, Record

READ_WAIT_S: Final = 1.0
TRY_AGAIN_S: Final = 0.5

_log = logging.getLogger(__name__)


async def follow(
    reader: Reader, take: Callable[[Sequence[Record]], None], *, what: str, records_max: int, bytes_max: int
) -> NoReturn:
    """Read on from where the reader is, and close it at the end. ``take`` gets empty pages, too: the position may have
    moved. ``what`` names the records in the log."""
    try:
        while True:
            try:
                page = await reader.read(max_records=records_max, max_bytes=bytes_max, wait_s=READ_WAIT_S)
            except OffsetOutOfRange as gap:
                reader.seek(gap.start)
                continue
            except LogUnavailable as passing:
                _log.warning("%s not readable now, trying again: %s", what, passing)
                await asyncio.sleep(TRY_AGAIN_S)
                continue
            take(page)
    finally:
        await reader.close()


def log_failure(follower: asyncio.Task[None]) -> None:
    """Log at once why a task that never ends has ended (it should not); who waits for it is told again."""
    if not follower.cancelled() and (error := follower.exception()) is not None:
        _log.critical("a task of this process's own has stopped: %s", error)
