"""How far a restore is: a log line and two metrics every few seconds, so that a long one is seen to move."""

from __future__ import annotations

import logging
import time
from typing import Final

from millstream.telemetry import Telemetry, say

LOG: Final = logging.getLogger("millstream.lane")
TELL_EVERY_S: Final = 2.0


class Progress:
    """The progress of one lane's restore."""

    def __init__(self, telemetry: Telemetry, lane: int) -> None:
        self._telemetry = telemetry
        self._lane = lane
        self._began_s = self._told_s = time.monotonic()
        self._rows = 0
        self._rows_s = 0.0

    def at(self, done: int, left: int) -> None:
        """So many rows of a checkpoint were taken; or so many facts folded, with records of the journal left."""
        now_s = time.monotonic()
        if left < 0:
            self._rows, self._rows_s = done, now_s - self._began_s
        if now_s - self._told_s < TELL_EVERY_S:
            return
        self._told_s = now_s
        self._telemetry.set("millstream_restore_records_left", max(left, 0), str(self._lane))
        what = {"rows": done} if left < 0 else {"facts": done, "records_left": left}
        say(LOG, "lane restoring", lane=self._lane, **what, per_s=round(done / (now_s - self._began_s)))

    def done(self, facts: int) -> None:
        """The tables are as the journal says."""
        took_s = time.monotonic() - self._began_s
        self._telemetry.set("millstream_restore_records_left", 0, str(self._lane))
        self._telemetry.observe("millstream_restore_seconds", took_s)
        rows = {"rows": self._rows, "rows_per_s": round(self._rows / max(self._rows_s, 0.001))} if self._rows else {}
        say(LOG, "lane restored", lane=self._lane, facts=facts, **rows, took_ms=round(took_s * 1000))
