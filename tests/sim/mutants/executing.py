"""Faults in carrying out, and in time (lanes.md rules 24 to 27, and 32)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from millstream.core import decide as core_decide
from millstream.core.runs import reports
from millstream.execute.changed import ChangedDispatches
from millstream.execute.local.body import Body
from millstream.execute.local.executor import LocalExecutor
from millstream.lane import lane as lane_lane
from millstream.lane.output import timers
from millstream.lane.ownership import draining, previous_owners, takeover
from millstream.model.commands import FireTimer, Report
from millstream.model.facts import Fact
from millstream.model.rows import Hand
from millstream.worker.worker import Worker
from tests.execute import test_lifetime
from tests.lane import test_handover, test_lane
from tests.sim.mutants.mutant import Mutant, Patch, on_loop, on_rig

NO_ROOM = on_rig(test_lane.test_what_a_dead_owner_ran_comes_back_no_faster_than_there_is_room)


def _on_shop(test: Callable[[test_handover.Shop], Coroutine[None, None, None]]) -> Callable[[], None]:
    async def play() -> None:
        async with test_handover.opened() as shop:
            await test(shop)

    return on_loop(play)


LONG_STEP = _on_shop(test_handover.test_a_step_under_way_goes_on_and_is_not_run_twice)
UNREAD = _on_shop(test_handover.test_a_former_owner_whose_words_lie_unread_is_not_taken_for_dead)
MOVED_ON = _on_shop(test_handover.test_a_lane_that_goes_on_while_it_is_taken_over_runs_nothing_again)
DEAD_HOLDER = _on_shop(test_handover.test_a_worker_that_dies_after_it_let_go_is_missed)
LOST_HAND_OUT = _on_shop(test_handover.test_a_hand_out_that_a_living_former_owner_has_lost_is_handed_out_again)
TOO_LONG = test_lifetime.test_an_attempt_that_takes_too_long_is_stopped_and_tried_again


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


def _try_again_the_code_that_does_not_fit(patch: Patch) -> None:
    patch.set(ChangedDispatches, "holds", lambda self, wanted: False)


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


def _take_over_what_others_still_run(patch: Patch) -> None:
    patch.set(previous_owners.PreviousOwners, "load", lambda self: None)


def _drop_the_last_reports(patch: Patch) -> None:
    patch.set(draining.DrainingLane, "submit", lambda self, command: None)


def _keep_quiet_about_what_is_lost(patch: Patch) -> None:
    patch.set(draining.DrainingLane, "_report_lost", lambda self: None)


def _fall_silent(patch: Patch) -> None:
    patch.set(draining.DrainingLane, "_heartbeat", lambda self: self._wake.set())


def _wait_for_the_dead(patch: Patch) -> None:
    async def tend(self: Any) -> None:
        """Nobody is ever taken for dead."""

    patch.set(previous_owners.PreviousOwners, "tend", tend)


def _go_on_with_owed_work_while_releasing(patch: Patch) -> None:
    real = lane_lane.Lane.begin_release

    def begin_release(self: Any) -> bool:
        close, self._owed_work.close = self._owed_work.close, lambda: None
        try:
            return real(self)
        finally:
            self._owed_work.close = close

    patch.set(lane_lane.Lane, "begin_release", begin_release)


def _take_the_unread_for_silent(patch: Patch) -> None:
    real = previous_owners.PreviousOwners.__init__

    def begin(self: Any, *args: Any, **named: Any) -> None:
        real(self, *args, **{**named, "inbox_read": lambda: 2**62})

    patch.set(previous_owners.PreviousOwners, "__init__", begin)


def _stop_what_runs_when_a_lane_goes(patch: Patch) -> None:
    """A hand-over is a crash: what runs is cancelled, and said to be still out."""
    real = Worker._drain

    def drain(self: Any, lane: Any, released: Any, executor: Any) -> None:
        for body in tuple(executor._bodies.values()):
            executor.abandon(body.run_id)
        real(self, lane, released, executor)

    patch.set(Worker, "_drain", drain)


def _let_attempts_take_for_ever(patch: Patch) -> None:
    patch.set(Body, "watch", lambda self, now_ms: None)


def _release_all_owed_work_at_once(patch: Patch) -> None:
    real = takeover.OwedWork.start

    def start(self: Any, tasks: Any, release: Any, runs_per_turn: int) -> None:
        async def no_wait() -> None:
            """There is always room."""

        self._wait_to_accept_work = no_wait
        real(self, tasks, release, runs_per_turn)

    patch.set(takeover.OwedWork, "start", start)


MUTANTS: tuple[Mutant, ...] = (
    Mutant("accept late answers", "24", _accept_late_answers),
    Mutant("forget what a dead worker ran", "24", _forget_lost_dispatches),
    Mutant("forget executions at a reopen", "25", _forget_executions_at_reopen),
    Mutant("take over what others still run", "25", _take_over_what_others_still_run),
    Mutant("drop what a former owner reports", "25", _drop_the_last_reports),
    Mutant("fall silent about what still runs", "25", _fall_silent, LONG_STEP),
    Mutant("wait for a dead former owner for ever", "25", _wait_for_the_dead, DEAD_HOLDER),
    Mutant("take the unread for silent", "25", _take_the_unread_for_silent, UNREAD),
    Mutant("go on with owed work while releasing", "25", _go_on_with_owed_work_while_releasing, MOVED_ON),
    Mutant("stop what runs when a lane goes", "25", _stop_what_runs_when_a_lane_goes),
    Mutant("try again the code that does not fit", "23", _try_again_the_code_that_does_not_fit),
    Mutant("let attempts take for ever", "26", _let_attempts_take_for_ever, TOO_LONG),
    Mutant("release all owed work at once", "27", _release_all_owed_work_at_once, NO_ROOM),
    Mutant("keep quiet about a lost hand-out", "32", _keep_quiet_about_what_is_lost, LOST_HAND_OUT),
    Mutant("forget timers at a restart", "32", _forget_timers_at_restart),
    Mutant("lose a timer", "32", _lose_a_timer),
)
