"""A decision about one run while it is made: what is known (``Case``), and what it has led to so far (``Draft``).

A report may bring several operations. Each is a function of the case and the draft so far; it returns its facts and
the next draft. Both are frozen: the order of the operations is the only order there is.

    draft ──operation──> facts, draft ──operation──> facts, draft … ──close──> the decision   (``reports.py``)
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue
from millstream.model.facts import Fact
from millstream.model.function import HOLD, FunctionSpec
from millstream.model.rows import Hand, RunRow, StepRow


class Case(msgspec.Struct, frozen=True):
    """What a decision about a run may look at. ``dispatch`` is the hand-out that is answered; 0: none is."""

    tables: Tables
    run: RunRow
    dispatch: int
    now_ms: int

    @property
    def spec(self) -> FunctionSpec | None:
        """The run's function, None when it is no longer registered."""
        return catalogue(self.tables).functions.get(self.run.function)

    @property
    def holds(self) -> bool:
        """Whether its function wants runs held that would fail (``holding.py``)."""
        spec = self.spec
        return spec is not None and spec.on_exhausted == HOLD

    def step(self, step: str) -> StepRow | None:
        """The step's row, as it was before this decision; None where the run does not know the step.

        The run's own list is asked first: looking for a row that is not there would go down to the store.
        """
        if step not in self.run.steps:
            return None
        return self.tables.steps.get((self.run.run, step))


class Fate(enum.Enum):
    """What becomes of the run by this decision."""

    OPEN = "it goes on"
    RESTARTED = "its body failed, and starts again or is held: nothing else of this report counts"
    ENDED = "it is over: nothing may follow"


class Draft(msgspec.Struct, frozen=True):
    """What the operations before have led to.

    ``look_again``   something is resolved that the body has not seen: it must be handed out again.
    ``resolved``     a step was resolved by this decision.
    ``spoken``       the steps this report has spoken of, each once.
    ``found``        how many of them the run did not know.
    ``bytes``        of all step results of the run, with those of this decision.
    ``queued``       how many records this decision has queued for topics.
    """

    look_again: bool
    bytes: int
    fate: Fate = Fate.OPEN
    resolved: bool = False
    spoken: tuple[str, ...] = ()
    found: int = 0
    queued: int = 0

    @classmethod
    def of(cls, run: RunRow) -> Draft:
        """Before the first operation."""
        return cls(run.again, run.bytes)


Decided = tuple[Sequence[Fact], Draft]
"""What one operation leads to: its facts, and the draft for the next."""


def is_resolved(row: StepRow) -> bool:
    """Whether the step is done or failed for good."""
    return row.hand == Hand.DONE or row.hand == Hand.FAILED
