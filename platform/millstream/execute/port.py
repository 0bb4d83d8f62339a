"""The port between a lane and its executors: the calls that go each way, and what an executor may look at.

    lane ── start(Execute), abandon(run), drain() ──> Executor ── report(Report), park(ParkDispatch), … ──> RunSource

Both protocols are here, since one cannot be understood without the other. A lane imports this module and nothing else
of ``execute``: what executes is given to it (``lane.parts.LaneParts``), as a log is.

The rules both sides keep:

* Every ``Execute`` is a dispatch with a number. It is answered by exactly one report that carries the number, or
  parked. Losing it is allowed (a worker that dies): the lane asks ``holds`` and hands out again under a new number.
* A body dispatch (``step`` empty) is answered by what the body did: steps done or found, its end, or nothing new.
  A body that lives and finds more steps afterwards reports them under the same number, until its next dispatch.
* ``LocalExecutor`` runs code in this process, ``ChildrenExecutor`` in child processes, ``EndpointExecutor`` in apps
  over HTTP; one suite of tests for all.
* An executor sees durable rows only: each row that a dispatch is about, and perhaps newer ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from millstream.model.commands import HandOut, LoseDispatch, ParkDispatch, Report, Unpark
from millstream.model.effects import CodeWanted, Execute
from millstream.model.event import Envelope
from millstream.model.rows import RunRow, StepRow


class RunView(msgspec.Struct, frozen=True):
    """An open run as it is recorded: its row, the events that started it, and all its steps."""

    run: RunRow
    events: tuple[Envelope, ...]
    steps: tuple[StepRow, ...]


class RunSource(Protocol):
    """The lane that owns the runs, as its executor sees it. No call blocks or raises."""

    def view(self, run: str) -> RunView | None:
        """A run as recorded; None when it is over."""
        ...

    def step(self, run: str, step: str) -> StepRow | None:
        """One step of a run as recorded."""
        ...

    def parked_of(self, function: str, behind: tuple[str, str], limit: int) -> Sequence[CodeWanted]:
        """At most ``limit`` parked dispatches of a function, in the order of (run, step), behind this one."""
        ...

    def report(self, report: Report, /) -> None:
        """Queue the answer to a dispatch. Late ones are harmless."""
        ...

    def park(self, park: ParkDispatch, /) -> None:
        """Queue that there is no code here for a dispatch, or that the code has changed (``reason``)."""
        ...

    def lose(self, lost: LoseDispatch, /) -> None:
        """Queue that the process which ran a dispatch has died (lanes.md rule 24)."""
        ...

    def unpark(self, unpark: Unpark, /) -> None:
        """Queue that there is code again for a dispatch that was parked here."""
        ...

    def now_ms(self) -> int:
        """Unix milliseconds: the clock of timeouts and start times."""
        ...


class Executor(Protocol):
    """Carries out ``Execute``. Its methods are called on the event loop; none but ``close`` waits, none raises."""

    def start(self, effect: Execute) -> None:
        """Begin. The same dispatch twice is begun once; a newer number for what is under way replaces the older."""
        ...

    def abandon(self, run: str) -> None:
        """Stop everything that executes for this run, which is over, and report nothing more of it."""
        ...

    def holds(self, run: str, step: str, dispatch: int) -> bool:
        """Whether this dispatch is under way here and not yet reported."""
        ...

    def knows(self, function: str) -> bool:
        """Whether there is code for the function here."""
        ...

    def takes_up(self, wanted: CodeWanted) -> bool:
        """Whether to hand out a parked dispatch again: there is code for it, and not the code that has parked it."""
        ...

    @property
    def full(self) -> bool:
        """Whether the limit of what may be under way is reached. A hint: ``start`` takes more all the same."""
        ...

    @property
    def executing(self) -> int:
        """The number of dispatches under way that run code at this moment."""
        ...

    def drain(self) -> None:
        """Begin nothing more and give back (park) every dispatch that runs no code: another worker takes the lane over.

        Dispatches that run code go on and are reported; ``dispatches`` names them, ``executing`` counts those left.
        """
        ...

    def dispatches(self) -> tuple[HandOut, ...]:
        """The dispatches that are under way here."""
        ...

    async def close(self, grace_s: float) -> None:
        """Begin nothing more, give running steps this long to end and be reported, then stop and give back the rest."""
        ...
