"""The door's view of the catalogue: it follows ``<group>.functions``.

``end`` is what events are stamped with (lanes.md rule 23): a lane that is behind the stamp waits for it, so that a
function registered before an event was sent is started by it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Final

from millstream.errors import Corruption, LogUnavailable
from millstream.log.follow import READ_WAIT_S, follow, log_failure
from millstream.log.port import Log, Reader, Record
from millstream.model.function import AppSpec, FunctionSpec
from millstream.model.gates.overrides import FunctionLimits
from millstream.model.messages import group_topic
from millstream.wire.callback_key import is_groups_own, key_in
from millstream.wire.limits_record import decode_limits, is_limits
from millstream.wire.messages import decode_app

READ_RECORDS_MAX: Final = 100
READ_BYTES_MAX: Final = 16 << 20
REACHED_S_MAX: Final = 10.0


class Catalogue:
    """The apps as the functions topic tells them, by id."""

    def __init__(self, log: Log, group: str) -> None:
        self._log = log
        self._topic = group_topic(group, "functions")
        self._task: asyncio.Task[None] | None = None
        self.apps: dict[str, AppSpec] = {}
        self.limits: dict[str, FunctionLimits] = {}
        """What operators have set of the functions' limits, by the functions' ids."""
        self.changed_at_ms: dict[str, int] = {}
        """When each app was last written, by the log's clock."""
        self.end = 0
        self._moved = asyncio.Event()
        self.callback_key = b""
        """The group's key; empty: no worker has made one yet."""

    async def start(self) -> None:
        """Read what is there, then follow. Raises Corruption or LogUnavailable where it cannot be read."""
        start = await self._log.start_offset(self._topic, 0)
        upto = await self._log.end_offset(self._topic, 0)
        reader = self._log.reader(self._topic, 0, start)
        while reader.position < upto:
            await self._read(reader)
        self.end = reader.position
        following = follow(
            reader,
            partial(self._take, reader),
            what="functions topic",
            records_max=READ_RECORDS_MAX,
            bytes_max=READ_BYTES_MAX,
        )
        self._task = asyncio.create_task(following)
        self._task.add_done_callback(log_failure)

    def function(self, slug: str) -> FunctionSpec | None:
        """A function as it is declared; None: there is none of this id."""
        return next((spec for app in self.apps.values() for spec in app.functions if spec.slug == slug), None)

    async def reached(self, offset: int) -> None:
        """Return when everything before this offset is known here. Raises LogUnavailable after a while."""
        try:
            async with asyncio.timeout(REACHED_S_MAX):
                while self.end < offset:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise LogUnavailable(
                f"the functions topic was written, and could not be read again in {REACHED_S_MAX:.0f} s. Nothing is "
                "lost: the same request may be sent again."
            ) from None

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _read(self, reader: Reader) -> None:
        self._take(
            reader, await reader.read(max_records=READ_RECORDS_MAX, max_bytes=READ_BYTES_MAX, wait_s=READ_WAIT_S)
        )

    def _take(self, reader: Reader, records: Sequence[Record]) -> None:
        for record in records:
            if record.key is not None and is_limits(record.key):
                with contextlib.suppress(Corruption):  # The lanes say so, and keep what was set before.
                    limits = decode_limits(record.key, record.value)
                    self.limits[limits.function] = limits
                continue
            if is_groups_own(record.key):
                self.callback_key = self.callback_key or key_in(record.key, record.value) or b""
                continue
            app_id = (record.key or b"").decode()
            if record.value is None:
                self.apps.pop(app_id, None)
            else:
                app = decode_app(record.value)
                self.apps[app.id] = app
                self.changed_at_ms[app.id] = record.at_ms
        self.end = reader.position
        self._moved.set()
