"""``RecordLimits``: asks a topic how large its records may be, before a step that publishes one counts as done.

    report ── publishes nothing, or what surely fits ──────────────────────────────> queue
       └── else: ask the log ── fits, or nobody knows ────────────────────────────> queue
                             └── too large: the operation says so, and fails its step ──> queue

A record is sent after its step was decided, and then it is too late to fail the step. The core may not ask, so the
lane's shell does, for the few reports that publish; what a topic takes is remembered as long as it is enough. Without
an answer the report goes on: what the log then refuses becomes a dead letter (``outbox.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from msgspec import structs

from millstream.errors import MillstreamError
from millstream.log.port import Log
from millstream.model.commands import Report
from millstream.model.event import NOT_SENT
from millstream.model.operations import PublishFound

OVERHEAD_BYTES: Final = 256
"""What a record has beside key, value and headers, our own header among it."""
TOPICS_KNOWN_MAX: Final = 10_000


class RecordLimits:
    """Passes commands on to ``submit``, reports that publish records perhaps a little later."""

    def __init__(self, log: Log, submit: Callable[[Any], None]) -> None:
        self._log = log
        self._submit = submit
        self._known: dict[str, int] = {}
        self._asking: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        """Whether no report is held back."""
        return not self._asking

    def submit(self, command: Any) -> None:
        """Queue a command of an executor."""
        if type(command) is Report:
            for operation in command.operations:
                if type(operation) is PublishFound and not self._surely_fits(operation):
                    task = asyncio.get_running_loop().create_task(self._ask(command))
                    self._asking.add(task)
                    task.add_done_callback(self._asking.discard)
                    return
        self._submit(command)

    def close(self) -> None:
        """Hold nothing back any more. What was held is handed out again by the lane's next owner."""
        for task in self._asking:
            task.cancel()

    def _surely_fits(self, found: PublishFound) -> bool:
        return size_of(found) <= self._known.get(found.topic, -1)

    async def _ask(self, report: Report) -> None:
        checked = [await self._checked(op) if type(op) is PublishFound else op for op in report.operations]
        self._submit(structs.replace(report, operations=tuple(checked)))

    async def _checked(self, found: PublishFound) -> PublishFound:
        if self._surely_fits(found):
            return found
        try:
            topic = await self._log.topic(found.topic)
        except (MillstreamError, ValueError):
            return found  # Nobody knows now.
        if topic is None or topic.record_bytes_max < 0:
            return found
        if len(self._known) >= TOPICS_KNOWN_MAX:
            self._known.clear()
        most = self._known[found.topic] = topic.record_bytes_max
        size = size_of(found)
        if size <= most:
            return found
        why = (
            f"step {found.step!r} refused: its record of {size} bytes is too large for topic {found.topic!r}, which "
            f"takes {most}. Raise max.message.bytes of the topic, or publish a reference."
        )
        return structs.replace(found, key=b"", value=b"", headers=((NOT_SENT, why.encode()),))


def size_of(found: PublishFound) -> int:
    """About how many bytes the record will have."""
    headers = sum(len(name) + len(value) for name, value in found.headers)
    return len(found.key) + len(found.value) + headers + OVERHEAD_BYTES
