"""How far a restore is: a log line and two metrics every few seconds, so that a long one is seen to move."""

from __future__ import annotations

import logging
import time
from typing import Final

from penstock.telemetry import Telemetry, say

LOG: Final = logging.getLogger("penstock.lane")
TELL_EVERY_S: Final = 2.0


class Progress:
    """The progress of one lane's restore."""

    def __init__(self, telemetry: Telemetry, lane: int) -> None:
        self._telemetry = telemetry
        self._lane = lane
        self._began_s = self._told_s = time.monotonic()

    def at(self, facts: int, left: int) -> None:
        """So many facts were folded, so many records of the journal are left."""
        now_s = time.monotonic()
        if now_s - self._told_s < TELL_EVERY_S:
            return
        self._told_s = now_s
        rate = round(facts / (now_s - self._began_s))
        self._telemetry.set("penstock_restore_records_left", left, str(self._lane))
        say(LOG, "lane restoring", lane=self._lane, facts=facts, records_left=left, facts_per_s=rate)

    def done(self, facts: int) -> None:
        """The tables are as the journal says."""
        took_s = time.monotonic() - self._began_s
        self._telemetry.set("penstock_restore_records_left", 0, str(self._lane))
        self._telemetry.observe("penstock_restore_seconds", took_s)
        say(LOG, "lane restored", lane=self._lane, facts=facts, took_ms=round(took_s * 1000))
