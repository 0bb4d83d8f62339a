"""Holds every fold against the table of transitions: what moves, and what may change, of a run and its steps.

``Watch`` looks at the rows of the fact's run before and after each fold. It also remembers which moves were seen.
"""

from __future__ import annotations

from typing import Final

from millstream.core.runs.moves import Move
from millstream.core.runs.transitions import ENDS, transitions
from millstream.core.tables import Tables
from millstream.model.facts import Fact
from millstream.model.rows import Hand, RunRow, StepRow

Rows = tuple[RunRow | None, dict[str, StepRow | None]]


class Watch:
    """``body`` and ``step``: the moves that were seen."""

    def __init__(self) -> None:
        self.body: set[Move] = set()
        self.step: set[Move] = set()
        self._table: Final = transitions()

    def rows(self, tables: Tables, fact: Fact) -> Rows:
        """The rows of the run that the fact is about."""
        run = tables.runs.get(getattr(fact, "run", ""))
        return run, {step: tables.steps.get((run.run, step)) for step in run.steps} if run is not None else {}

    def check(self, fact: Fact, before: Rows, after: Rows) -> None:
        """Raise AssertionError where the fold did what the table does not say."""
        (run, steps), (run_after, steps_after) = before, after
        if isinstance(fact, ENDS):
            assert run is not None and run_after is None and not steps_after, f"{fact} left rows of the run"
            return
        if _moved(run, run_after):
            self.body.add(_known(Move(_hand(run), type(fact), _hand(run_after)), self._table.body, "a body"))
        if run is not None and run_after is not None:
            _kept(fact, run, run_after, self._table.run_fields.get(type(fact), frozenset()))
        for id in steps.keys() | steps_after.keys():
            step, step_after = steps.get(id), steps_after.get(id)
            if step == step_after:
                continue
            self.step.add(_known(Move(_hand(step), type(fact), _hand(step_after)), self._table.step, "a step"))
            if step is not None and step_after is not None:
                _kept(fact, step, step_after, self._table.step_fields.get(type(fact), frozenset()))


def _known(move: Move, table: tuple[Move, ...], who: str) -> Move:
    assert move in table, f"{who} moved as core/runs/transitions.py does not say: {move}"
    return move


def _moved(before: RunRow | None, after: RunRow | None) -> bool:
    if before is None or after is None:
        return before is not after
    return (before.body, before.body_dispatch) != (after.body, after.body_dispatch)


def _hand(row: RunRow | StepRow | None) -> Hand | None:
    if row is None:
        return None
    return Hand(row.body if isinstance(row, RunRow) else row.hand)


def _kept(fact: Fact, before: RunRow | StepRow, after: RunRow | StepRow, may_change: frozenset[str]) -> None:
    changed = {name for name in before.__struct_fields__ if getattr(before, name) != getattr(after, name)}
    assert changed <= may_change, f"{fact} changed {sorted(changed - may_change)} of {before}, which is not its own"
