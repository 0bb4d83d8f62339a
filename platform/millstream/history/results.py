"""Results in the history: how a run ended, without its steps, for those who wait for nothing else."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from millstream.history.fold import COMPLETED, STATUSES

_OF_RUN: Final = "FROM run r JOIN function f ON f.id = r.function WHERE r.run = ?"
IN_FULL: Final = f"SELECT r.run, f.slug, r.status, r.result, r.error {_OF_RUN}"
STATUS_ALONE: Final = f"SELECT r.run, f.slug, r.status, x'', x'' {_OF_RUN}"


class ResultSeen(msgspec.Struct, frozen=True):
    """A run and how it ended. ``result`` and ``error`` are JSON; empty where it has none, or none yet."""

    run: str
    function: str
    status: str
    result: bytes = b""
    error: bytes = b""

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, well or not."""
        return STATUSES.index(self.status) >= COMPLETED

    @property
    def has_end(self) -> bool:
        """Whether it says how the run has ended; the question for the status alone leaves that out."""
        return bool(self.result or self.error)


def result_seen(row: tuple[Any, ...]) -> ResultSeen:
    """What a row of either question says."""
    run, function, status, result, error = row
    return ResultSeen(run, function, STATUSES[status], result, error)
