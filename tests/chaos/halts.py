"""Processes that were halted and went on: what they may still do, in the world though never in the record.

A process that is halted between "this may begin" and beginning it will begin it when it goes on, though the lane has
long been somebody else's: user code is run at least once. It has to notice within ``NOTICED_WITHIN_S``; and whatever it
returns must not be recorded, which the tokens in the ledger show.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

NOTICED_WITHIN_S: Final = 10.0


@dataclass
class Halts:
    """For each process, when it went on after a halt (``time.monotonic_ns``)."""

    went_on: dict[int, list[int]] = field(default_factory=dict)

    def note(self, pid: int, at_ns: Iterable[int]) -> None:
        """This process went on at these times."""
        self.went_on.setdefault(pid, []).extend(at_ns)

    def excuses(self, pid: int, at_ns: int) -> bool:
        """Whether what this process began then may be what it was about to begin when it was halted."""
        return any(0 <= at_ns - on_ns <= NOTICED_WITHIN_S * 1e9 for on_ns in self.went_on.get(pid, ()))
