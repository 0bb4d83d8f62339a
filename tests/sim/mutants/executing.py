"""Faults in carrying out, and in time (lanes.md rules 24 to 27, and 32)."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.core import decide as core_decide
from penstock.core import reports
from penstock.execute.local import LocalExecutor
from penstock.lane import lane as lane_lane
from penstock.lane import timers
from penstock.model.commands import FireTimer, Report
from penstock.model.facts import Fact
from penstock.model.rows import Hand
from tests.sim.mutants.mutant import Mutant, Patch


def _accept_late_answers(patch: Patch) -> None:
    def report(lane_tables: Any, command: Report, now_ms: int) -> list[Fact]:
        if command.step:
            row = lane_tables.steps.get((command.run, command.step))
            if row is not None and row.hand in (Hand.OUT, Hand.BACKOFF):
                late = msgspec.structs.replace(command, attempt=row.attempt, dispatch=row.dispatch)
                return reports.report(lane_tables, late, now_ms)
        run = lane_tables.runs.get(command.run)
        if run is not None and not command.step and run.body == Hand.OUT:
            late = msgspec.structs.replace(command, attempt=run.attempt, dispatch=run.body_dispatch)
            return reports.report(lane_tables, late, now_ms)
        return reports.report(lane_tables, command, now_ms)

    patch.set(core_decide.DECIDE, Report, report)  # type: ignore[arg-type]


def _forget_lost_dispatches(patch: Patch) -> None:
    real = lane_lane.Lane.submit

    def submit(self: Any, command: Any) -> None:
        if not isinstance(command, lane_lane.LoseDispatch):
            real(self, command)

    patch.set(lane_lane.Lane, "submit", submit)


def _forget_executions_at_reopen(patch: Patch) -> None:
    patch.set(LocalExecutor, "holds", lambda self, run, step, dispatch: False)
    patch.set(lane_lane.Lane, "_reopen", _reopen_with_new_executor(lane_lane.Lane._reopen))


def _reopen_with_new_executor(real: Any) -> Any:
    async def reopen(self: Any, turn: Any, why: str) -> None:
        self.executor._bodies = {}
        await real(self, turn, why)

    return reopen


def _forget_timers_at_restart(patch: Patch) -> None:
    async def load(self: Any, start_ms: int, until_ms: int) -> None:
        self._horizon_ms = until_ms

    patch.set(timers.Timers, "_load", load)


def _lose_a_timer(patch: Patch) -> None:
    """A timer that fires while an append is under way is dropped."""
    real = timers.Timers._fire

    def fire(self: Any) -> None:
        submit, numbers = self._submit, [0]

        def some(command: FireTimer) -> None:
            numbers[0] += 1
            if hash((command.at_ms, command.step)) % 5:
                submit(command)

        self._submit = some
        try:
            real(self)
        finally:
            self._submit = submit

    patch.set(timers.Timers, "_fire", fire)


MUTANTS: tuple[Mutant, ...] = (
    Mutant("accept late answers", "24", _accept_late_answers),
    Mutant("forget what a dead worker ran", "24", _forget_lost_dispatches),
    Mutant("forget executions at a reopen", "25", _forget_executions_at_reopen),
    Mutant("forget timers at a restart", "32", _forget_timers_at_restart),
    Mutant("lose a timer", "32", _lose_a_timer),
)
