"""Changed code: the reason why a run whose recorded steps are not asked for is parked, and what is not tried again.

    a body is led over its steps ── one does not fit ──> its dispatches are parked, each with the reason
    parked with a reason ── the lane's next owner, a child with newly loaded code, ``add_app`` ──> tried once more

Nothing is lost: with the steps given back, the run goes on. The code that has just parked a dispatch would park it
again, so an executor remembers what it has parked for this (``ChangedDispatches``) and does not take it up.
"""

from __future__ import annotations

from millstream.model import limits
from millstream.model.commands import ParkDispatch, Unpark
from millstream.model.effects import CodeWanted
from millstream.model.rows import StepRow
from millstream.model.text.storable import storable

CHANGED = "its code has changed"
_TODO = "Give the function this step back, and the run goes on from what is recorded; or cancel the run."


def not_asked(row: StepRow, instead: str) -> str:
    """The reason of a run whose code no longer asks for a recorded step, and what it does instead."""
    return _reason(f"step {row.step!r} of kind {row.kind!r} is recorded and was not asked for: {instead}")


def other_kind(row: StepRow, kind: str) -> str:
    """The reason of a run whose code asks for a step of another kind under a recorded id."""
    return _reason(f"step {row.step!r} is recorded as one of kind {row.kind!r}, and the code asks for kind {kind!r}")


def not_awaited(step: str) -> str:
    """The reason of a dispatch for a step that the body did not ask for."""
    return _reason(f"step {step!r} is recorded and was not asked for")


def _reason(what: str) -> str:
    return storable(f"{CHANGED}: {what}. {_TODO}", limits.ERROR_MESSAGE_CHARS_MAX)


class ChangedDispatches:
    """The dispatches that one lane's executor has parked because their code has changed, by run."""

    def __init__(self) -> None:
        self._parked: dict[str, dict[str, int]] = {}

    def note(self, park: ParkDispatch) -> None:
        """Remember one that is parked with a reason; others are passed over."""
        if park.reason:
            self._parked.setdefault(park.run, {})[park.step] = park.dispatch

    def holds(self, wanted: CodeWanted) -> bool:
        """Whether the code that is here has parked this very dispatch."""
        return self._parked.get(wanted.run, {}).get(wanted.step) == wanted.dispatch

    def forget(self, run: str) -> None:
        """The run is over."""
        self._parked.pop(run, None)

    def take_all(self) -> list[Unpark]:
        """Forget all, since the code is another now: the commands that hand them out again."""
        parked, self._parked = self._parked, {}
        return [Unpark(run, step, dispatch) for run, steps in parked.items() for step, dispatch in steps.items()]
