"""A worker's follower of ``<group>.functions``: which apps are over HTTP, and where. It tells ``Endpoints``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from millstream.errors import Corruption
from millstream.execute.endpoint.endpoints import Endpoints
from millstream.log.follow import follow, log_failure
from millstream.log.port import Log, Record
from millstream.log.read_all import read_rest
from millstream.model.messages import group_topic
from millstream.wire.callback_key import is_groups_own
from millstream.wire.messages import decode_app

READ_RECORDS_MAX: Final = 100
READ_BYTES_MAX: Final = 16 * 1024 * 1024


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
        following = follow(
            reader, self._see, what="functions topic", records_max=READ_RECORDS_MAX, bytes_max=READ_BYTES_MAX
        )
        self._task = asyncio.get_running_loop().create_task(following, name="remote apps")
        self._task.add_done_callback(log_failure)

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _see(self, page: Sequence[Record]) -> None:
        for record in page:
            if record.key is None or is_groups_own(record.key):
                continue
            if record.value is None:
                self._endpoints.forget(record.key.decode(errors="replace"))
                continue
            with suppress(Corruption):  # The lanes say so, and keep the app as it was before.
                self._endpoints.see(decode_app(record.value))
