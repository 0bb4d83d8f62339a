"""The port between a lane and its executors: what an executor is told, what it may look at, and how it answers.

    lane ── start(Execute), abandon(run) ──> executor ── report(Report), park(ParkDispatch) ──> lane's queue

The rules both sides keep:

* Every ``Execute`` is a dispatch with a number. It is answered by exactly one report that carries the number, or
  parked. Losing it is allowed (a worker that dies): the lane asks ``holds`` and hands out again under a new number.
* A body dispatch (``step`` empty) is answered by what the body did: steps done or found, its end, or nothing new.
  A body that lives and finds more steps afterwards reports them under the same number, until it is out again.
* ``LocalExecutor`` runs code in this process, ``ChildrenExecutor`` in child processes; one suite of tests for both.
* What an executor looks at is durable only. A row it was never told of may be there; one it was told of is.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from millstream.model.commands import HandOut, LoseDispatch, ParkDispatch, Report, Unpark
from millstream.model.effects import Execute
from millstream.model.event import Envelope
from millstream.model.rows import RunRow, StepRow


class RunView(msgspec.Struct, frozen=True):
    """An open run as it is recorded: its row, the events that started it, and all its steps."""

    run: RunRow
    events: tuple[Envelope, ...]
    steps: tuple[StepRow, ...]


class RunSource(Protocol):
    """What an executor needs of the lane that owns its runs. No call blocks or raises."""

    def view(self, run: str) -> RunView | None:
        """A run as recorded; None when it is over."""
        ...

    def step(self, run: str, step: str) -> StepRow | None:
        """One step of a run as recorded."""
        ...

    def report(self, report: Report, /) -> None:
        """Queue what came of a dispatch. Late ones are harmless."""
        ...

    def park(self, park: ParkDispatch, /) -> None:
        """Queue that there is no code here for a dispatch."""
        ...

    def lose(self, lost: LoseDispatch, /) -> None:
        """Queue that what ran a dispatch has died (lanes.md rule 24)."""
        ...

    def unpark(self, unpark: Unpark, /) -> None:
        """Queue that there is code again for a dispatch that was parked here."""
        ...

    def now_ms(self) -> int:
        """Unix milliseconds: the clock that timeouts and start times go by."""
        ...


class Executor(Protocol):
    """Carries out ``Execute``. Its methods are called on the event loop; none but ``close`` waits, none raises."""

    def start(self, effect: Execute) -> None:
        """Begin. The same dispatch twice is begun once; a newer number for what is under way takes its place."""
        ...

    def abandon(self, run: str) -> None:
        """The run is over: stop what executes for it and report nothing more of it."""
        ...

    def holds(self, run: str, step: str, dispatch: int) -> bool:
        """Whether this dispatch is under way here and not yet reported."""
        ...

    def knows(self, function: str) -> bool:
        """Whether there is code for the function here."""
        ...

    @property
    def full(self) -> bool:
        """Whether so much is under way that nothing new should be started; what is started all the same is taken."""
        ...

    @property
    def executing(self) -> int:
        """How much of what is under way runs code at this moment."""
        ...

    def let_go(self) -> None:
        """The lane goes to another worker: begin nothing, give back (park) whatever runs no code at this moment.

        What does run goes on and is reported; ``out`` names it, ``executing`` counts what is left of it.
        """
        ...

    def out(self) -> tuple[HandOut, ...]:
        """The dispatches that are under way here."""
        ...

    async def close(self, grace_s: float) -> None:
        """Take nothing new, give running steps this long to end and be reported, then stop the rest."""
        ...
