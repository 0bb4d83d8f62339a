"""A worker's follower of ``<group>.functions``: which apps are over HTTP, and where. It tells ``Endpoints``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from millstream.errors import Corruption, LogUnavailable, OffsetOutOfRange
from millstream.execute.endpoint.endpoints import Endpoints
from millstream.log.port import Log, Reader, Record
from millstream.log.read_all import read_rest
from millstream.model.messages import group_topic
from millstream.telemetry import say
from millstream.wire.callback_key import is_groups_own
from millstream.wire.messages import decode_app

LOG: Final = logging.getLogger("millstream.worker")
READ_RECORDS_MAX: Final = 100
READ_BYTES_MAX: Final = 16 * 1024 * 1024
READ_WAIT_S: Final = 1.0
TRY_AGAIN_S: Final = 0.5


class RemoteApps:
    """Follows the functions topic from ``start`` to ``close``."""

    def __init__(self, log: Log, group: str, endpoints: Endpoints) -> None:
        self._log = log
        self._topic = group_topic(group, "functions")
        self._endpoints = endpoints
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when every app that is there is known; follow from there. Raises LogUnavailable."""
        reader = self._log.reader(self._topic, 0, await self._log.start_offset(self._topic, 0))
        async for page in read_rest(self._log, self._topic, 0, reader):
            self._see(page)
        self._task = asyncio.get_running_loop().create_task(self._follow(reader), name="remote apps")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _follow(self, reader: Reader) -> None:
        try:
            while True:
                try:
                    self._see(
                        await reader.read(max_records=READ_RECORDS_MAX, max_bytes=READ_BYTES_MAX, wait_s=READ_WAIT_S)
                    )
                except OffsetOutOfRange as gap:
                    reader.seek(gap.start)
                except LogUnavailable as passing:
                    say(LOG, "functions topic not readable", level=logging.WARNING, why=str(passing))
                    await asyncio.sleep(TRY_AGAIN_S)
        finally:
            await reader.close()

    def _see(self, page: Sequence[Record]) -> None:
        for record in page:
            if record.key is None or is_groups_own(record.key):
                continue
            if record.value is None:
                self._endpoints.forget(record.key.decode(errors="replace"))
                continue
            with suppress(Corruption):  # The lanes say so, and keep the app as it was before.
                self._endpoints.see(decode_app(record.value))
