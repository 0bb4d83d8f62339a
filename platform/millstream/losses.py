"""What happens where something acknowledged is missing: refuse to start, or go on because the operator accepts it.

Whoever finds evidence of a loss (the log its mark, a lane its store, a server its history) says so to one ``Losses``:

    not accepted ──> AcknowledgedLost, exit code 6; nothing was changed
    accepted ──────> a line in ``losses.jsonl``, a line in the log, and the start goes on with what is there
    excused ───────> the same: a documented price, such as a power cut under ``--durability os``

Evidence is never thrown away before one of the three has happened.
"""

from __future__ import annotations

import json
import logging
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from millstream.disk import sync_directory
from millstream.errors import AcknowledgedLost
from millstream.telemetry import say

LOG: Final = logging.getLogger("millstream.losses")
FILE_NAME: Final = "losses.jsonl"
FLAG: Final = "--accept-loss"


class Losses:
    """Refuses losses, or writes down those that were accepted.

    ``excuse`` is why a loss was to be expected; whoever knows that sets it before others look.
    """

    def __init__(self, directory: Path | None = None, *, accepted: bool = False) -> None:
        """``directory`` gets the record of accepted losses; None: the log lines are all there is."""
        self._directory = directory
        self.accepted = accepted
        self.excuse = ""
        self.count = 0

    @property
    def go_on(self) -> bool:
        """Whether a loss does not stop the start."""
        return self.accepted or bool(self.excuse)

    def found(self, what: str, remedy: str) -> None:
        """Something acknowledged is missing. Raises AcknowledgedLost, or records it durably and returns."""
        if not self.go_on:
            raise AcknowledgedLost(
                f"{what} Nothing was changed. {remedy} Or accept the loss and go on with what is there: start once "
                f"with {FLAG}; what was lost is then written down in {self._place}."
            )
        self.count += 1
        why = FLAG if self.accepted else self.excuse
        if self._directory is not None:
            self._append({"at": time_text(time.time_ns() // 1_000_000), "accepted": why, "lost": what})
        say(LOG, "loss accepted", level=logging.ERROR, why=why, lost=what)

    def say_if_needless(self) -> None:
        """After a start: an acceptance that stays in a unit file would accept the next loss unseen."""
        if self.accepted and not self.count:
            say(LOG, "nothing is missing", level=logging.WARNING, advice=f"{FLAG} changed nothing: leave it out")

    @property
    def _place(self) -> str:
        return str(self._directory / FILE_NAME) if self._directory is not None else "the log"

    def _append(self, line: dict[str, str]) -> None:
        assert self._directory is not None
        path = self._directory / FILE_NAME
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, json.dumps(line).encode() + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
        sync_directory(self._directory)


def time_text(at_ms: int) -> str:
    """A time as messages print it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
