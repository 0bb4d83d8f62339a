"""What may go wrong in a memory log, as values: the simulation decides, the log obeys.

A ``Faults`` object is asked once per append and once per transaction and answers with a ``Verdict``; it is asked
again for each append still under way when a client crashes. Without faults nothing is asked and every append is
acknowledged in the next turn of the loop. All delays are loop seconds, so a virtual clock makes them free.

Everything a verdict can say has been seen on a real log (kafka.md): acknowledgements without an offset or with a
wrong one, failures of records that turn up all the same, now or later, and records lost behind a report of failure.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol


class Fate(enum.Enum):
    """How an append or a transaction is answered."""

    ACKNOWLEDGED = "acknowledged"
    WITHOUT_OFFSET = "without offset"  # written, answered with None
    WRONG_OFFSET = "wrong offset"  # written, answered with 0: what lies there is another's
    REFUSED = "refused"  # LogUnavailable, never written
    NO_ROOM = "no room"  # DiskFull, never written
    UNKNOWN = "unknown"  # OutcomeUnknown; written or not as ``written_after_s`` says, perhaps after the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What happens to one append. ``written_after_s`` None: never written.

    An UNKNOWN with ``written_after_s`` behind ``answered_after_s`` is a record that turns up late. Closing its writer
    drops it unless ``outlives_writer`` (it is on the wire already).
    """

    fate: Fate = Fate.ACKNOWLEDGED
    written_after_s: float | None = 0.0
    answered_after_s: float = 0.0
    outlives_writer: bool = False

    def __post_init__(self) -> None:
        if self.fate is Fate.UNKNOWN:
            return
        if (self.written_after_s is None) != (self.fate in (Fate.REFUSED, Fate.NO_ROOM)):
            raise ValueError(f"a verdict {self.fate.value!r} cannot have written_after_s={self.written_after_s}")
        if self.written_after_s is not None and self.answered_after_s < self.written_after_s:
            raise ValueError(
                f"a verdict {self.fate.value!r} is answered after it is written, got written_after_s="
                f"{self.written_after_s} and answered_after_s={self.answered_after_s}"
            )


ACKNOWLEDGED = Verdict()
REFUSED = Verdict(fate=Fate.REFUSED, written_after_s=None)
NO_ROOM = Verdict(fate=Fate.NO_ROOM, written_after_s=None)
UNKNOWN_WRITTEN = Verdict(fate=Fate.UNKNOWN)
UNKNOWN_NOT_WRITTEN = Verdict(fate=Fate.UNKNOWN, written_after_s=None)


class Faults(Protocol):
    """Decides what goes wrong. Deterministic if its answers are: the log adds no randomness."""

    def on_append(self, client: str, topic: str, partition: int) -> Verdict:
        """Called while the append is handed over."""
        ...

    def on_transaction(self, client: str, name: str) -> Verdict:
        """Called when ``commit`` begins. Answered without an offset, so the two offset fates mean ACKNOWLEDGED."""
        ...

    def survives_crash(self, client: str, topic: str, partition: int, records: int) -> int:
        """How many of an append's records are written, from the first on. Called for each append not yet written when
        its client crashes, in order."""
        ...
