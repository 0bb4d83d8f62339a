"""``Body``: one run's handler as a living coroutine: the dispatches the engine hands it, and when each is answered.

    made ── hand_out ──> OUT ── report ──> WAITING ── hand_out ──> OUT ──> …
                          └── the handler ends ──> over

    OUT       under a dispatch that is to be answered. A new body of an old run is led over what is recorded first
              (``replay.py``), and asks for nothing new until then.
    WAITING   answered: it waits for the results of steps. Where the handler ends here, the next dispatch reports it.
    over      it has ended or was given up. Attempts that still run are reported.
    closed    from any: parked or abandoned. Nothing more is reported.

One task for the handler, made when the run is first handed out; between steps it is suspended on the future of an
``Op`` (``open_steps.py``). A result resolves the future and the same task goes on: no task per step, no replay while it
lives.

**What answers a body dispatch** (exactly one report carries its number):

1. A step asked for from the handler's own task while nothing else is under way is run at once, *inline*; its end is
   the answer.
2. Else the steps found are collected until the body is *quiescent* (``quiescence.py``) and reported together. One step
   alone is run inline all the same.
3. The handler's return or exception.
4. Nothing new, but only where a step is under way that will bring the body back. A body that waits for something
   foreign and has no such step stays out: there is nothing to say yet.

Steps found while the body is not out, behind a foreign wait, are reported under the number it answered last; those
found while one runs inline, with its end, or together with it where it takes long. Of several results at one dispatch
one after another is delivered, in recorded order, each when the body is quiescent: a race ends in a replay as it did at
first.

Code between steps must do the same every time. A step that ``asyncio.timeout`` has cancelled is cancelled again in a
replay, at once (``deadlines.py``); a timer that has not rung yet starts anew.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Collection
from types import CoroutineType
from typing import Any, Final, cast

from millstream.errors import FunctionError
from millstream.execute import changed, failures
from millstream.execute.local.deadlines import ring
from millstream.execute.local.driver import LocalDriver
from millstream.execute.local.host import WATCH_EVERY_S, BodyHost
from millstream.execute.local.op import INLINE, RUNNING, Op
from millstream.execute.local.open_steps import OpenSteps
from millstream.execute.local.quiescence import AnswerDelay, QuiescenceCheck
from millstream.execute.local.replay import Replay
from millstream.execute.local.tasks import coroutine_of
from millstream.execute.local.threads import is_thrown_away
from millstream.execute.port import RunView
from millstream.model.commands import ParkDispatch, Report
from millstream.model.effects import Execute
from millstream.model.operations import BodyDone, BodyErrored, Operation, StepErrored
from millstream.model.rows import Hand, StepRow
from millstream.sdk.context import Context, RunInfo, SyncContext
from millstream.sdk.current import CURRENT, Current
from millstream.sdk.function import Function
from millstream.sdk.payloads import encode
from millstream.sdk.steps import Async

CHECKS: Final = 2
"""Checks in a row that must find a body quiescent: what a task's end sets off needs one more turn of the loop."""

_FAILED: Final = int(Hand.FAILED)


class Body:
    """A run's handler, alive."""

    def __init__(self, view: RunView, function: Function, host: BodyHost, running: dict[str, Op]) -> None:
        """``running`` are steps of an earlier body of this run that have not ended yet; they become this one's."""
        self.run_id = view.run.run
        self.function = function
        self.host = host
        self.steps = OpenSteps(running)
        self.dispatch = 0  # The body's; 0: it is not out.
        self.attempt = view.run.attempt
        self.current = Current(self.run_id, "", self.attempt)
        self.answered_tick = 0
        self.check_due = False
        self.over = False  # It has ended or was given up; steps that still run are reported.
        self.closed = False  # Parked or abandoned: nothing more is reported.
        self.delay = AnswerDelay(host.loop)
        self._last_dispatch = 0  # The last one that was answered: what is found later is reported under it.
        self._replay: Replay | None = Replay(view.steps) if view.steps else None
        self._results: list[StepRow] = []  # To be delivered, in this order.
        self._postponed: dict[str, Execute] = {}  # Hand-outs of steps that came during the replay.
        self._end: Operation | None = None  # How the handler has ended.
        self._checks = 0
        self._hold_since_tick = 0  # Since when the replay waits for the body to cancel a step; 0: it does not.
        self.threaded = function.spec.slug in host.threaded
        self._task: asyncio.Task[object] = host.loop.create_task(self._main(view), context=host.context.copy())

    # --- what the executor does with it ---------------------------------------------------------

    def hand_out(self, effect: Execute) -> None:
        """The body is out under this dispatch: give it what has been resolved, and answer."""
        if self.dispatch == effect.dispatch:
            return
        self.dispatch, self.attempt = effect.dispatch, effect.attempt
        self.delay.end()
        if self._end is not None:
            self._finish(self._end)
        else:
            if self._replay is None:
                self._collect()
            if self.steps.awaited or self._results or self._replay is not None:
                self._check_soon()  # Else what it does next comes by itself: a step, or its end.

    def hand_out_step(self, effect: Execute) -> None:
        """Run an attempt of one step, in the coroutine that asked for it."""
        step, steps = effect.step, self.steps
        running = steps.running.get(step)
        if running is not None:
            running.dispatch, running.attempt = effect.dispatch, effect.attempt  # Thought lost, but here it is.
            if running.ended is not None:
                self.attempt_ended(running, running.ended)
            return
        if self._replay is not None and self._end is None:
            self._postponed[step] = effect
            self._check_soon()
            return
        if steps.hand_out(effect):
            return
        op, now_ms = steps.awaited.get(step), self.host.source.now_ms()
        operation: Operation
        if op is not None:
            operation = failures.cancelled(step, op.name, now_ms)
        elif isinstance(self._end, BodyErrored):
            operation = StepErrored(
                step, step, self._end.failure, now_ms, self._end.retriable, is_final=self._end.is_final
            )
        else:
            self.host.park(ParkDispatch(self.run_id, step, effect.dispatch, changed.not_awaited(step)))
            return
        self.host.source.report(Report(self.run_id, step, effect.attempt, effect.dispatch, (operation,)))

    def holds(self, step: str, dispatch: int) -> bool:
        """Whether this dispatch is under way."""
        if not step:
            return self.dispatch == dispatch and not self.over
        op = self.steps.running.get(step)
        postponed = self._postponed.get(step)
        return (op is not None and op.dispatch == dispatch) or (
            postponed is not None and postponed.dispatch == dispatch
        )

    def dispatches(self) -> list[tuple[str, int]]:
        """The dispatches, as (step, number), that are under way here."""
        steps = self.steps.dispatches()
        steps += [(step, effect.dispatch) for step, effect in self._postponed.items()]
        return [("", self.dispatch), *steps] if self.dispatch and not self.over else steps

    def give_back(self) -> list[tuple[str, int]]:
        """Drop the dispatches that run no code of a step; the dispatches, as (step, number)."""
        run_code = {*self.steps.running} if self.steps.inline is None else {*self.steps.running, ""}
        back = [(step, number) for step, number in self.dispatches() if step not in run_code]
        self._postponed.clear()
        if self.steps.inline is None:
            self.dispatch = 0
        return back

    @property
    def executing(self) -> bool:
        """Whether a step of it runs under its own dispatch."""
        return bool(self.steps.running)

    @property
    def idle(self) -> bool:
        """Whether it only waits: it may be parked."""
        return not (self.dispatch or self.steps.running or self._postponed or self.steps.inline is not None)

    def close(self) -> None:
        """Park or abandon it: everything of it is cancelled (``finally`` blocks run), nothing more is reported.

        Code that swallows the cancellation goes on without us: its next step tool raises CancelledError again.
        """
        self.closed = True
        self.steps.cancel()
        self._task.cancel()

    def watch(self, now_ms: int) -> None:
        """Stop attempts that take too long, and give up those that will not stop."""
        for op in self.steps.stop_overdue(now_ms, self.function.spec.step_timeout_ms):
            ran_ms = op.stopped_at_ms - op.started_at_ms
            self.attempt_ended(op, failures.timed_out(op.step, op.name, op.started_at_ms, ran_ms, op.retry))
            op.given_up = True
            self._retire()
        if self.delay.over or self._hold_over:
            self._check_soon()

    def answer_if_quiescent(self) -> bool:
        """Answer where nothing more can come before the answer. True: check again next turn."""
        steps, replay = self.steps, self._replay
        if self.closed or self.over or self._end is not None:
            return False
        if steps.inline is not None:
            if steps.found and self.dispatch and self.delay.over:  # It takes its time, and other steps wait for it.
                self._report(steps.run_apart(steps.inline), *steps.take_found())
            return False
        if replay is None and not ((self._results or steps.awaited) if self.dispatch else self._last_dispatch):
            return False  # Nothing to say yet (4. above), or no number to say it under.
        foreign = False
        tasks: Collection[object] = ()
        if self.threaded:
            if not any(op.wait is not None for op in steps.awaited.values()):
                return False  # The handler's thread is at work; it will ask or end.
        else:
            waits = {op.wait for op in steps.awaited.values()}
            check = QuiescenceCheck(waits, {op.task for op in steps.running.values()})
            check.follow(self._task)
            if check.busy:
                self._checks = 0
                return True
            foreign, tasks = bool(check.foreign), check.tasks
            if foreign:
                self.delay.watch(check.foreign, self._check_soon)
                if self.dispatch or replay is not None:
                    self.delay.begin()
                    if not self.delay.over:
                        return False
        if not self.dispatch and replay is None and not steps.found:
            return False
        self._checks += 1
        if self._checks < CHECKS:
            return True
        self._checks = 0
        if replay is not None:
            return self._replay_on(replay, foreign, tasks)
        if self._results:
            self._deliver()
            return True
        if steps.found or not steps.runs_ended_step(self.run_id, self.host.source.step):
            self._answer()
        return False

    # --- the handler's task ---------------------------------------------------------------------

    async def _main(self, view: RunView) -> None:
        CURRENT.set(self.current)
        handler, spec, host = self.function.handler, self.function.spec, self.host
        driver = LocalDriver(self, host)
        operation: Operation
        try:
            info = RunInfo(self.run_id, spec.slug, view.run.attempt, spec.retries + 1)
            reader = host.payloads.get(spec.slug)
            if self.threaded:
                plain: SyncContext[object] = SyncContext(driver, info, view.events, reader)
                result = await host.handler_threads.run(lambda: handler(plain))
                if inspect.isawaitable(result):  # ``lambda ctx: work(ctx.event)``
                    result = await result
            else:
                context: Context[object] = Context(driver, info, view.events, reader)
                result = await cast("Async[object]", handler(context))
                self._check_awaited(context.step.unawaited.left())
            operation = BodyDone(encode(result, f"the result of function {spec.slug!r}"))
        except BaseException as error:
            if type(error) is GeneratorExit and is_thrown_away(self._task):
                raise
            if self.closed or self.over:
                return
            operation = failures.body_errored(error, host.source.now_ms())
        self._handler_ended(operation)

    def _check_awaited(self, left: list[tuple[CoroutineType[Any, Any, Any], str]]) -> None:
        """Fail a handler that returned without awaiting a step that it asked for."""
        if not left:
            return
        owners = {coroutine_of(task): task for task in asyncio.all_tasks(self.host.loop)}
        for step, _ in left:  # Python would warn of each beside this error.
            owner = owners.get(step)
            step.close() if owner is None else owner.cancel()
        raise FunctionError(
            f"function {self.function.spec.slug!r} has returned, and {len(left)} of its steps were never awaited: "
            f"they have not run. Write `await` in front of the step at {left[0][1]}, or gather them."
        )

    # --- what the driver does with it (``driver.AskingBody``) ---------------------------------------

    @property
    def replaying(self) -> bool:
        """Whether results of steps that were finished earlier are still to be delivered."""
        return self._replay is not None and self._replay.delivering

    def ask(self, op: Op) -> None:
        """The handler asks for this step. Run at once (1. above), recorded, or found."""
        replay, steps = self._replay, self.steps
        if replay is None and op.call is not None and self.dispatch and not steps.awaited and op.task is self._task:
            steps.add_inline(op)
            return
        row = replay.ask(op.step) if replay is not None else None
        if row is None:
            steps.add_found(op)
            if steps.inline is not None:
                self.delay.begin()
        else:
            steps.add_recorded(op)
            if row.kind != op.kind and row.hand != _FAILED:
                self._park_as_changed(changed.other_kind(row, op.kind))
                op.task.cancel()
        self._check_soon()

    def attempt_ended(self, op: Op, operation: Operation) -> None:
        """Report how an attempt has ended: the body's answer where it ran inline, else under the step's own number."""
        if op.given_up or op.muted:
            return
        if op.state is INLINE:
            self.steps.attempt_ended(op)
            if self.dispatch:
                self._report(operation, *self.steps.take_found()) if self.steps.found else self._report(operation)
            return
        if not op.dispatch:  # Its number is not here yet.
            op.ended = op.ended or operation
            return
        self.steps.attempt_ended(op)
        self.host.source.report(Report(self.run_id, op.step, op.attempt, op.dispatch, (operation,)))
        if self.over:
            self.host.forget(self)

    def deliver_results(self) -> None:
        """After an attempt: deliver the result of its step where that was recorded meanwhile (``runs_ended_step``)."""
        if self.dispatch and self._replay is None and not (self.closed or self.over):
            self._collect()
            self._check_soon()

    def forsake(self, op: Op) -> None:
        """The body's own code has cancelled the branch that waited for this step."""
        if self.closed or self.over:
            return
        if op.state is RUNNING:
            self.attempt_ended(op, failures.cancelled(op.step, op.name, self.host.source.now_ms()))
        else:
            self.steps.forsake(op)
        self._check_soon()

    # --- results ----------------------------------------------------------------------------------

    def _collect(self) -> None:
        """See which of the awaited steps have ended, and deliver the first."""
        steps, row_of = self.steps, self.host.source.step
        if len(steps.awaited) == 1 and not self._results and steps.resolve_single(self.run_id, row_of):
            return
        self._results += steps.results(self.run_id, row_of)
        if len(self._results) > 1:
            self._results = sorted({row.step: row for row in self._results}.values(), key=lambda row: row.order)
        self._deliver()

    def _deliver(self) -> None:
        while self._results:
            if self.steps.resolve(self._results.pop(0)):
                self._checks = 0
                self.delay.end()
                return

    def _replay_on(self, replay: Replay, unsure: bool, tasks: Collection[object]) -> bool:
        row = replay.next()
        if row is not None:
            if failures.is_cancelled(row) and self.steps.waits_for(row.step) and not self._hold_over:
                # The body has cancelled this step itself, so it must do it again: nothing is delivered for it.
                replay.postpone(row)
                rang = ring(self.host.loop, tasks)
                self._hold_since_tick = self._hold_since_tick or self.host.tick + 1
                return rang
            self._hold_since_tick = 0
            self._results = [row]
            self._deliver()
            return True
        unasked = replay.unasked()
        if unasked is not None:
            if ring(self.host.loop, tasks):
                return True  # The body went on without waiting for a step, so it asked for the next one.
            if unsure:
                return False  # It waits for something foreign first; when that is done, it is checked again.
            instead = ", ".join(repr(op.step) for op in self.steps.found) or "no new step"
            self._park_as_changed(changed.not_asked(unasked, f"the code asks for {instead} instead"))
            return False
        self._replay = None
        self._hand_out_postponed()
        if self.dispatch:
            self._collect()
        return True

    @property
    def _hold_over(self) -> bool:
        """Whether the replay has waited long enough for the body to cancel a step; then the step has just failed."""
        limit_s = self.function.spec.step_timeout_ms / 1_000
        return bool(self._hold_since_tick) and (self.host.tick - self._hold_since_tick) * WATCH_EVERY_S > limit_s

    def _hand_out_postponed(self) -> None:
        postponed, self._postponed = self._postponed, {}
        for effect in postponed.values():
            self.hand_out_step(effect)

    def _check_soon(self) -> None:
        self._checks = 0
        if not self.check_due:
            self.check_due = True
            self.host.check_soon(self)

    # --- answers ----------------------------------------------------------------------------------

    def _answer(self) -> None:
        steps = self.steps
        if self.dispatch and len(steps.found) == 1 and len(steps.awaited) == 1 and steps.found[0].call is not None:
            self.delay.end()
            steps.run_inline(steps.found[0])
        else:
            self._report(*steps.take_found())

    def _report(self, *operations: Operation) -> None:
        self._last_dispatch, self.dispatch = self.dispatch or self._last_dispatch, 0
        self.delay.end()
        self.answered_tick = self.host.tick
        self.host.source.report(Report(self.run_id, "", self.attempt, self._last_dispatch, operations))

    # --- ends -------------------------------------------------------------------------------------

    def _handler_ended(self, operation: Operation) -> None:
        """The handler has returned or raised."""
        if self.closed or self.over or self._end is not None:
            return
        replay = self._replay
        unasked = replay.unasked() if replay is not None and isinstance(operation, BodyDone) else None
        if unasked is not None:
            self._park_as_changed(changed.not_asked(unasked, "the function returned without it"))
            return
        self._finish(operation)

    def _park_as_changed(self, reason: str) -> None:
        """The code does not fit what is recorded. No attempt is used; steps that run already end and are reported."""
        self._retire(reason)
        self._task.cancel()  # Does nothing to one that is done.

    def _finish(self, operation: Operation) -> None:
        self._end = operation
        self._hand_out_postponed()
        if self.dispatch:
            self._report(operation)
            self._retire()
        elif self._replay is not None:
            self._retire()  # Led here for the sake of one step: the next dispatch of the body begins afresh.

    def _retire(self, reason: str = "") -> None:
        """It has ended, or is given up: stop what waits, let what runs be reported."""
        for step, number in self.dispatches():  # Given up while these were out: nothing else would answer them.
            if step not in self.steps.running:
                self.host.park(ParkDispatch(self.run_id, step, number, reason, given_back=not reason))
        self._postponed.clear()
        self.over = True
        self.steps.cancel_waiting()
        self.host.forget(self)
