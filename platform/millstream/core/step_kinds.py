"""Step kinds: what the engine knows of each, as one value a kind. ``core/steps/<kind>.py`` exports it.

Everything that must treat kinds differently asks here: the decision about a report, the fold, timers, liveness, the
quick path, the history. No list elsewhere names kinds. ``core/steps/__init__.py`` registers those of the product.

An operation about a step either *finds* it (the body asks for it the first time) or *answers* it (an attempt ended).

A row or report may name a kind that this version does not know: a newer worker's. It is then a kind without hands:
what is resolved stays, and nothing of it waits here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from millstream.core.handles import FoldFact, Handler, Handles
from millstream.core.runs.deciding import Case, Decided, Draft
from millstream.core.runs.moves import Moves
from millstream.core.tables import Tables
from millstream.model.announcement import RunEnd
from millstream.model.commands import FireTimer
from millstream.model.effects import Effect
from millstream.model.facts import Fact
from millstream.model.rows import RunRow, StepRow
from millstream.model.trail import Entry

# ``Any`` because each function takes its own operation or fact; the key in the mapping says which.
Find = Callable[[Case, Draft, Any], Decided]
"""(case, draft, operation) -> the facts of a step that the run did not know, and the next draft."""
AnswerStep = Callable[[Case, Draft, Any, StepRow | None], Decided]
"""(case, draft, operation, the step's row; None: this is the first the run hears of it)."""
Hear = Callable[[Case, StepRow, Any], list[Fact]]
"""(case, the row of a step that waits, the answer) -> the decision."""
TimeOut = Callable[[Case, StepRow], list[Fact]]
"""(case, the row of a step that waits) -> what the end of its time means."""
Withdraw = Callable[[Tables, RunRow, StepRow, RunEnd], list[Fact]]
"""(tables, run, the row of a step that waits, how the run ends) -> what those who would answer are told."""
Show = Callable[[Any, int], Entry | None]
"""(fact, at_ms) -> the fact's entry in the trail of its run; None: it adds nothing to what is shown."""
QuickTimer = Callable[[Tables, FireTimer, RunRow, StepRow, int], tuple[Fact, Sequence[Effect]] | None]
"""A due timer of a step that the body alone waits for, decided and folded at once; see ``runs/quick.py``.

The last argument is the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepKind:
    """One kind of step.

    ``name``           as it stands in ``StepRow.kind`` and in the history.
    ``finds``          operation → decision, for operations with which a body finds such a step.
    ``answers``        operation → decision, for operations that say how an attempt ended.
    ``counts_late``    those of them that count when they come too late: the work was done.
    ``facts``          fact → fold, for facts that only this kind makes.
    ``hears``          answer → decision, for a kind that waits (``runs/awaiting.py``).
    ``times_out``      what the end of its time means.
    ``withdraws``      what is told to those who would answer, where the run ends before.
    ``timers``         timer kind → handler, for timers of its own.
    ``hands``          hand → timer kind: where a step of this kind may be while it is not resolved, and the timer that
                       wakes it there; "" where something else brings it on (an executor, a parking place, a message).
    ``moves``          how its facts move a body and a step from hand to hand (``runs/transitions.py``).
    ``shows``          fact → entry of the run's trail, for facts that only this kind makes.
    ``shows_done``     the entry of a resolved row in a history that is rebuilt from rows; None: its result.
    ``shows_result``   of a resolved row: its result as people see it; None: as it is.
    ``problem``        what keeps a step that waits from being answered, for those who look after liveness; "": nothing.
    ``timed_out_result``  the result that says that its time was over; None: such a step has failed, or has no such end.
    ``quick_result``   whether the quick path may record a result of it.
    ``quick_timer``    how the quick path wakes a step of it.
    """

    name: str
    finds: Mapping[type, Find] = field(default_factory=dict)
    answers: Mapping[type, AnswerStep] = field(default_factory=dict)
    counts_late: frozenset[type] = frozenset()
    facts: Mapping[type, FoldFact] = field(default_factory=dict)
    hears: Mapping[type, Hear] = field(default_factory=dict)
    times_out: TimeOut | None = None
    withdraws: Withdraw | None = None
    timers: Mapping[str, Handler] = field(default_factory=dict)
    hands: Mapping[int, str] = field(default_factory=dict)
    moves: Moves = field(default_factory=Moves)
    shows: Mapping[type, Show] = field(default_factory=dict)
    shows_done: Callable[[StepRow], Entry] | None = None
    shows_result: Callable[[StepRow], bytes] | None = None
    problem: Callable[[Tables, StepRow], str] | None = None
    timed_out_result: bytes | None = None
    quick_result: bool = False
    quick_timer: QuickTimer | None = None

    @property
    def handles(self) -> Handles:
        """What this kind adds to the tables of ``decide`` and ``fold``."""
        return Handles(timers=self.timers, facts=self.facts)


KINDS: Final[dict[str, StepKind]] = {}
FINDS: Final[dict[type, Find]] = {}
ANSWERS: Final[dict[type, AnswerStep]] = {}
COUNTS_LATE: Final[set[type]] = set()
SHOWS: Final[dict[type, Show]] = {}
QUICK_TIMERS: Final[dict[str, QuickTimer]] = {}
_UNKNOWN: Final = StepKind(name="")


def add(kind: StepKind) -> None:
    """Register a kind. Its name, operations, facts and timers are its own: a second owner is refused."""
    assert kind.name not in KINDS, f"two step kinds are called {kind.name!r}"
    tables: tuple[tuple[dict[Any, Any], Mapping[Any, Any]], ...] = (
        (FINDS, kind.finds), (ANSWERS, kind.answers), (SHOWS, kind.shows),
    )  # fmt: skip
    for table, own in tables:
        taken = table.keys() & own.keys()
        assert not taken, f"step kind {kind.name!r} claims what another kind has: {taken}"
    for table, own in tables:
        table.update(own)
    COUNTS_LATE.update(kind.counts_late)
    if kind.quick_timer is not None:
        (timer,) = kind.timers
        QUICK_TIMERS[timer] = kind.quick_timer
    KINDS[kind.name] = kind


def kind_of(name: str) -> StepKind:
    """The kind of this name; one without hands where this version does not know it."""
    return KINDS.get(name, _UNKNOWN)


def timer_of_step(row: StepRow) -> str | None:
    """The timer that wakes this step in the hand it is in; None where no timer does."""
    return kind_of(row.kind).hands.get(row.hand) or None
