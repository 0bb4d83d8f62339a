"""``Replay``: the recorded steps that a new body of an old run is led over, in the order they were resolved.

The body runs from its beginning; a step that it asks for and that is recorded is not run. Results are given to it one
at a time, in recorded order, and the next only when the body is quiescent, so that every race ends as it did. A step
that was recorded must be asked for again at the latest when everything resolved before it has been delivered; otherwise
the code has changed.
"""

from __future__ import annotations

from millstream.model.rows import Hand, StepRow


class Replay:
    """The rows of a run, and which of them the body has asked for again or been given."""

    __slots__ = ("_asked", "_rows", "_undelivered")

    def __init__(self, steps: tuple[StepRow, ...]) -> None:
        self._rows = {row.step: row for row in steps}
        self._asked: set[str] = set()
        resolved = [row for row in steps if row.hand == Hand.DONE or row.hand == Hand.FAILED]
        self._undelivered = sorted(resolved, key=lambda row: row.order, reverse=True)

    @property
    def delivering(self) -> bool:
        """Whether results are still to be delivered."""
        return bool(self._undelivered)

    def ask(self, step: str) -> StepRow | None:
        """The body asks for this step; its row where it is recorded."""
        self._asked.add(step)
        return self._rows.get(step)

    def next(self) -> StepRow | None:
        """The result to deliver next; None when the one in turn was not asked for, or none is left.

        No result is delivered out of turn: what it sets off might overtake.
        """
        if self._undelivered and self._undelivered[-1].step in self._asked:
            return self._undelivered.pop()
        return None

    def postpone(self, row: StepRow) -> None:
        """The result was not delivered after all: it is the next one again."""
        self._undelivered.append(row)

    def unasked(self) -> StepRow | None:
        """The first recorded step that the body has not asked for: in turn of results, then those under way."""
        for row in (*reversed(self._undelivered), *self._rows.values()):
            if row.step not in self._asked:
                return row
        return None
