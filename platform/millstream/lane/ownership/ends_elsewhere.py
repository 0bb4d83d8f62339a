"""Ends of runs that a former owner still executes steps of: it reads them in the lane's journal (lanes.md rule 25).

    the next owner ──RunCancelled, …──> journal[lane] ──> here ──> the former owner stops what executes for the run

Only records with the id of such a run somewhere in their bytes are decoded, so that a step of hours costs no decoding
of a busy lane's journal. Whether a record counts is not looked into: a void one stops what need not have stopped, that
is reported lost, and handed out again. What cannot be read is passed over: a late result counts for nothing anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from millstream.errors import Corruption, LogUnavailable, OffsetOutOfRange
from millstream.lane.port import Surroundings
from millstream.log.port import Log
from millstream.model.facts import RunCancelled, RunCompleted, RunFailed
from millstream.model.messages import group_topic
from millstream.model.place import Place
from millstream.wire.journal import decode_if_ours

READ_RECORDS_MAX: Final = 500
READ_BYTES_MAX: Final = 4 * 1024 * 1024
READ_WAIT_S: Final = 1.0
RETRY_S: Final = 0.5
ENDS: Final = (RunCancelled, RunCompleted, RunFailed)


class EndsElsewhere:
    """Reads a lane's journal from ``since`` on. ``executed`` says which runs matter, ``ended`` is told of each end."""

    def __init__(
        self, log: Log, place: Place, since: int, executed: Callable[[], Iterable[str]], ended: Callable[[str], None]
    ) -> None:
        self._log = log
        self._place = place
        self._since = since
        self._executed = executed
        self._ended = ended

    async def follow(self, surroundings: Surroundings) -> None:
        """Until cancelled."""
        reader = self._log.reader(group_topic(self._place.group, "journal"), self._place.lane, self._since)
        try:
            while True:
                try:
                    records = await reader.read(
                        max_records=READ_RECORDS_MAX, max_bytes=READ_BYTES_MAX, wait_s=READ_WAIT_S
                    )
                except OffsetOutOfRange as gap:
                    reader.seek(gap.start)
                except (LogUnavailable, Corruption):
                    await surroundings.sleep(RETRY_S)
                else:
                    for record in records:
                        self._look(record.value)
        finally:
            await reader.close()

    def _look(self, value: bytes | None) -> None:
        runs = set(self._executed())
        if value is None or not any(run.encode() in value for run in runs):
            return
        try:
            record = decode_if_ours(value)
        except Corruption:
            return
        for fact in record.facts if record is not None else ():
            if isinstance(fact, ENDS) and fact.run in runs:
                self._ended(fact.run)
