"""``Body``: one run's handler as a living coroutine, and the answers to the dispatches it is out under.

One task for the handler, made when the run is first handed out; between steps it is suspended on the future of an
``Op``. A finished step resolves the future and the same task goes on: no task per step, no replay while it lives.

**What answers a body dispatch** (exactly one report carries its number):

1. A step asked for from the handler's own task while nothing else is under way is run at once, *inline*; its end is
   the answer.
2. Else the steps found are collected until the body has *settled* (``settled.py``) and reported together. One step
   alone is run inline all the same.
3. The handler's return or exception.
4. Nothing new, but only where a step is under way that will bring the body back. A body that waits for something
   foreign and has no such step stays out: there is nothing to say yet.

Steps found while the body is not out, behind a foreign wait, are reported under the number it answered last; those
found while one runs inline, with its end, or as its likes where it takes long. Of several results at one dispatch one
after another is delivered, in recorded order, the body settling in between: a race ends in a replay as it did at first.

Code between steps must do the same every time. ``asyncio.timeout`` around a step is such code only if its outcome does
not matter to the steps that follow: use the function's step_timeout instead.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from millstream.errors import StepError
from millstream.execute import failures
from millstream.execute.local.driver import LocalDriver
from millstream.execute.local.op import FOUND, GO, INLINE, KNOWN, RUNNING, Op, attempt, overtaken
from millstream.execute.local.replay import Replay
from millstream.execute.local.settled import Hold, Look
from millstream.execute.local.shared import Shared
from millstream.execute.local.threads import Escaped
from millstream.execute.port import RunView
from millstream.model.commands import ParkDispatch, Report
from millstream.model.effects import Execute
from millstream.model.operations import BodyDone, Operation, StepFound, failure_of
from millstream.model.rows import Hand, StepRow
from millstream.sdk.context import Context, RunInfo, SyncContext
from millstream.sdk.current import CURRENT, Current
from millstream.sdk.function import Function
from millstream.sdk.payloads import encode
from millstream.sdk.steps import Async

LOOKS: Final = 2
"""Looks in a row that must find a body settled: what a task's end sets off needs one more turn of the loop."""
CANCEL_GRACE_MS: Final = 5_000  # How long a step that was told to stop may take to do so.

_DONE, _FAILED = int(Hand.DONE), int(Hand.FAILED)


class Body:
    """A run's handler, alive."""

    def __init__(self, view: RunView, function: Function, shared: Shared, running: dict[str, Op]) -> None:
        """``running`` are steps of an earlier body of this run that have not ended yet; they become this one's."""
        self.run_id = view.run.run
        self.function = function
        self.shared = shared
        self.running = running
        self.ops: dict[str, Op] = {}  # Asked for, and the body has no result yet.
        self.found: list[Op] = []  # Those of them that the engine does not know.
        self.inline: Op | None = None
        self.dispatch = 0  # The body's; 0: it is not out.
        self.attempt = view.run.attempt
        self.answered_tick = 0
        self.touched = False
        self.over = False  # It has ended or was given up; steps that still run are reported.
        self.closed = False  # Parked or abandoned: nothing more is reported.
        self.hold = Hold(shared.loop)
        self._answered = 0  # The last dispatch that was answered: what is found later is reported under it.
        self._replay: Replay | None = Replay(view.steps) if view.steps else None
        self._due: list[StepRow] = []
        self._wanted: dict[str, Execute] = {}
        self._ended: Operation | None = None
        self._looks = 0
        self._current = Current(self.run_id, "", self.attempt)
        self.threaded = function.spec.slug in shared.threaded
        self._task: asyncio.Task[object] = shared.loop.create_task(self._main(view), context=shared.context.copy())

    # --- what the executor does with it ---------------------------------------------------------

    def hand_out(self, effect: Execute) -> None:
        """The body is out under this dispatch: give it what has been resolved, and answer."""
        if self.dispatch == effect.dispatch:
            return
        self.dispatch, self.attempt = effect.dispatch, effect.attempt
        self.hold.end()
        if self._ended is not None:
            self._finish(self._ended)
        else:
            if self._replay is None:
                self._collect()
            if self.ops or self._due or self._replay is not None:
                self._touch()  # Else what it does next comes by itself: a step, or its end.

    def hand_out_step(self, effect: Execute) -> None:
        """Run an attempt of one step, in the coroutine that asked for it."""
        step = effect.step
        running = self.running.get(step)
        if running is not None:
            running.dispatch, running.attempt = effect.dispatch, effect.attempt  # Thought lost, but here it is.
            if running.ended is not None:
                self._report_attempt(running, running.ended)
            return
        if self._replay is not None and self._ended is None:
            self._wanted[step] = effect
            self._touch()
            return
        op = self.ops.get(step)
        if op is not None and op.wait is not None and not op.wait.done():
            if op.state is FOUND:  # It was told after all: by a record that was thought void and turned up late.
                self.found.remove(op)
            op.state, op.attempt, op.dispatch = RUNNING, effect.attempt, effect.dispatch
            op.started_at_ms = -1
            self.running[step] = op
            op.wait.set_result(GO)
            return
        if op is not None:
            operation = failures.cancelled(step, op.name, self.shared.source.now_ms())
        else:
            operation = failures.not_asked(step, self._ended, self.shared.source.now_ms())
        self.shared.source.report(Report(self.run_id, step, effect.attempt, effect.dispatch, (operation,)))

    def holds(self, step: str, dispatch: int) -> bool:
        """Whether this dispatch is under way."""
        if not step:
            return self.dispatch == dispatch and not self.over
        op = self.running.get(step)
        wanted = self._wanted.get(step)
        return (op is not None and op.dispatch == dispatch) or (wanted is not None and wanted.dispatch == dispatch)

    def out(self) -> list[tuple[str, int]]:
        """The dispatches, as (step, number), that are under way here."""
        steps = [(step, op.dispatch) for step, op in self.running.items() if op.dispatch]
        steps += [(step, effect.dispatch) for step, effect in self._wanted.items()]
        return [("", self.dispatch), *steps] if self.dispatch and not self.over else steps

    def give_back(self) -> list[tuple[str, int]]:
        """Stop what runs no code of a step: its dispatches, which are nobody's from here on."""
        back = [(step, number) for step, number in self.out() if not (step in self.running if step else self.inline)]
        self._wanted.clear()
        if self.inline is None:
            self.dispatch = 0
        return back

    @property
    def executing(self) -> bool:
        """Whether a step of it runs under its own dispatch."""
        return bool(self.running)

    @property
    def idle(self) -> bool:
        """Whether it only waits: it may be parked."""
        return not (self.dispatch or self.running or self._wanted or self.inline is not None)

    def close(self) -> None:
        """Park or abandon it: everything of it is cancelled (``finally`` blocks run), nothing more is reported.

        Code that swallows the cancellation is left to itself: its next step tool raises CancelledError again.
        """
        self.closed = True
        for op in (*self.running.values(), *([self.inline] if self.inline is not None else [])):
            op.muted = True
            op.task.cancel()
        for op in self.ops.values():
            if op.wait is not None:
                op.task.cancel()
        self._task.cancel()

    def watch(self, now_ms: int) -> None:
        """Stop attempts that take too long, and give up those that will not stop."""
        timeout_ms = self.function.spec.step_timeout_ms
        inline = (self.inline,) if self.inline is not None else ()
        for op in (*self.running.values(), *inline):
            if op.started_at_ms < 0 or op.ended is not None:
                continue
            if not op.stopped_at_ms:
                if now_ms - op.started_at_ms > timeout_ms:
                    op.stopped_at_ms = now_ms
                    op.task.cancel()
            elif now_ms - op.stopped_at_ms > CANCEL_GRACE_MS:
                ran_ms = op.stopped_at_ms - op.started_at_ms
                self._report_attempt(op, failures.timed_out(op.step, op.name, op.started_at_ms, ran_ms))
                op.given_up = True
                self._retire()
        if self.hold.over:
            self._touch()

    def settle(self) -> bool:
        """Answer if the body has settled. True: look again next turn."""
        if self.closed or self.over or self._ended is not None:
            return False
        if self.inline is not None:
            return self._part_with(self.inline)
        replay = self._replay
        if replay is None and not ((self._due or self.ops) if self.dispatch else self._answered):
            return False  # Nothing to say yet (4. above), or no number to say it under.
        foreign = False
        if self.threaded:
            if not any(op.wait is not None for op in self.ops.values()):
                return False  # The handler's thread is at work; it will ask or end.
        else:
            look = Look({op.wait for op in self.ops.values()}, {op.task for op in self.running.values()})
            look.task(self._task)
            if look.busy:
                self._looks = 0
                return True
            foreign = bool(look.foreign)
            if foreign:
                self.hold.watch(look.foreign, self._touch)
                if self.dispatch or replay is not None:
                    self.hold.begin()
                    if not self.hold.over:
                        return False
        if not self.dispatch and replay is None and not self.found:
            return False
        self._looks += 1
        if self._looks < LOOKS:
            return True
        self._looks = 0
        if replay is not None:
            return self._replay_on(replay, foreign)
        if self._due:
            self._deliver()
            return True
        if self.found or not overtaken(self.running.values(), self.shared.source.step, self.run_id):
            self._answer()
        return False

    # --- the handler's task ---------------------------------------------------------------------

    async def _main(self, view: RunView) -> None:
        CURRENT.set(self._current)
        handler, spec, now_ms = self.function.handler, self.function.spec, self.shared.source.now_ms
        driver = LocalDriver(self, self.shared.loop, now_ms)
        operation: Operation
        try:
            info = RunInfo(self.run_id, spec.slug, view.run.attempt, spec.retries + 1)
            reader = self.shared.payloads.get(spec.slug)
            if self.threaded:
                plain: SyncContext[object] = SyncContext(driver, info, view.events, reader)
                result = await self.shared.handler_threads.run(lambda: handler(plain))
            else:
                context: Context[object] = Context(driver, info, view.events, reader)
                result = await cast("Async[object]", handler(context))
            operation = BodyDone(encode(result, f"the result of function {spec.slug!r}"))
        except GeneratorExit:
            raise  # The coroutine is thrown away with its loop.
        except BaseException as error:
            if self.closed or self.over:
                return
            operation = failures.body_errored(error.error if isinstance(error, Escaped) else error, now_ms())
        self._end(operation)

    # --- what the driver (``driver.py``) does with it ----------------------------------------------

    @property
    def remembering(self) -> bool:
        """Whether results of finished steps are still to be gone over."""
        return self._replay is not None and self._replay.remembering

    def ask(self, op: Op) -> None:
        """The body wants this step. Run at once (1. above), remembered, or found."""
        replay = self._replay
        if replay is None and op.call is not None and self.dispatch and not self.ops and op.task is self._task:
            self.ops[op.step] = self.inline = op
            op.state = INLINE
            return
        self.ops[op.step] = op
        row = replay.ask(op.step) if replay is not None else None
        if row is None:
            self.found.append(op)
            if self.inline is not None:
                self.hold.begin()
        else:
            op.state = KNOWN
            if row.kind != op.kind and row.hand != _FAILED:
                self._change(row, f"the code now asks for a step of kind {op.kind!r} under this id")
        self._touch()

    async def outcome(self, op: Op) -> StepRow:
        """Follow one signal after another until the step has ended. Raises StepError where it has failed for good."""
        source, signal = self.shared.source, GO if op.state is INLINE else None
        while True:
            if signal is GO:
                op.started_at_ms, op.stopped_at_ms = source.now_ms(), 0
                try:
                    operation = await attempt(op, self.run_id, self.shared.step_threads, source.now_ms)
                except asyncio.CancelledError:
                    self._report_attempt(op, failures.cancelled(op.step, op.name, op.started_at_ms))
                    self._look_again()
                    raise
                finally:
                    CURRENT.set(self._current)
                self._report_attempt(op, operation)
                if self.closed or self.over:
                    raise asyncio.CancelledError  # Its body is no more; another will be given the result.
            wait = op.wait = self.shared.loop.create_future()
            if self.dispatch and op.state is KNOWN:
                self._look_again()  # Not before it waits: it could not be told.
            try:
                signal = await wait
            except BaseException:
                op.wait = None
                self._forsake(op)
                raise
            op.wait = None
            if signal is not GO:
                break
        assert isinstance(signal, StepRow)
        if signal.hand == _FAILED:
            failure = failure_of(signal.data)
            raise StepError(failure.message, name=failure.name, stack=failure.stack, step=op.step)
        return signal

    def _report_attempt(self, op: Op, operation: Operation) -> None:
        if op.given_up or op.muted:
            return
        if op.state is INLINE:
            op.state = KNOWN
            self.inline = None
            if self.dispatch:
                self._report(operation, *self._take_found()) if self.found else self._report(operation)
            return
        if not op.dispatch:  # It was parted with, and is not handed out yet.
            op.ended = op.ended or operation
            return
        op.state = KNOWN
        self.running.pop(op.step, None)
        self.shared.source.report(Report(self.run_id, op.step, op.attempt, op.dispatch, (operation,)))
        if self.over:
            self.shared.forget(self)

    def _look_again(self) -> None:
        """An attempt has ended: its step's end, recorded meanwhile, may be what the body waits for (``overtaken``)."""
        if self.dispatch and self._replay is None and not (self.closed or self.over):
            self._collect()
            self._touch()

    def _forsake(self, op: Op) -> None:
        """The body's own code has cancelled the branch that waited for this."""
        if self.closed or self.over:
            return
        if op.state is FOUND or op.state is INLINE:  # Never begun, never told: it has not happened.
            self.ops.pop(op.step, None)
            if op in self.found:
                self.found.remove(op)
            if self.inline is op:
                self.inline = None
        elif op.state is RUNNING:
            self._report_attempt(op, failures.cancelled(op.step, op.name, self.shared.source.now_ms()))
        self._touch()

    # --- answers --------------------------------------------------------------------------------

    def _collect(self) -> None:
        """See which of the awaited steps have ended, and deliver the first."""
        step = self.shared.source.step
        if len(self.ops) == 1 and not self._due:  # One step after another: the common case, without the sorting.
            (op,) = self.ops.values()
            row = step(self.run_id, op.step) if op.state is KNOWN and op.wait is not None else None
            if row is not None and (row.hand == _DONE or row.hand == _FAILED):
                del self.ops[op.step]
                if op.wait is not None and not op.wait.done():
                    op.wait.set_result(row)
                    return
        for op in tuple(self.ops.values()):
            if op.state is not KNOWN:
                continue
            row = step(self.run_id, op.step)
            if row is None:  # What was reported was lost with the lane: it is new again.
                op.state = FOUND
                if op.wait is None:
                    del self.ops[op.step]
                else:
                    self.found.append(op)
            elif row.hand == _DONE or row.hand == _FAILED:
                self._due.append(row)
        if len(self._due) > 1:
            self._due = sorted({row.step: row for row in self._due}.values(), key=lambda row: row.order)
        self._deliver()

    def _deliver(self) -> None:
        while self._due:
            row = self._due.pop(0)
            op = self.ops.pop(row.step, None)
            if op is not None and op.wait is not None and not op.wait.done():
                op.wait.set_result(row)
                self._looks = 0
                self.hold.end()
                return

    def _answer(self) -> None:
        found = self.found
        if self.dispatch and len(found) == 1 and len(self.ops) == 1 and found[0].call is not None:
            self.hold.end()
            op = found.pop()
            assert op.wait is not None  # A forsaken op is no longer in ``found``.
            self.inline = op
            op.state = INLINE
            op.started_at_ms = -1
            op.wait.set_result(GO)
            return
        self._report(*self._take_found())

    def _part_with(self, op: Op) -> bool:
        """The step that runs inline takes its time and others wait: make it one of them, handed out while it runs."""
        if self.found and self.dispatch and self.hold.over:
            self.inline, op.state, op.dispatch = None, RUNNING, 0
            self.running[op.step] = op
            self._report(StepFound(op.step, op.name), *self._take_found())
        return False

    def _take_found(self) -> list[Operation]:
        found, self.found = self.found, []
        for op in found:
            op.state = KNOWN
        return [op.found or StepFound(op.step, op.name) for op in found]

    def _report(self, *operations: Operation) -> None:
        self._answered, self.dispatch = self.dispatch or self._answered, 0
        self.hold.end()
        self.answered_tick = self.shared.tick
        self.shared.source.report(Report(self.run_id, "", self.attempt, self._answered, operations))

    def _end(self, operation: Operation) -> None:
        """The handler has returned or raised."""
        if self.closed or self.over or self._ended is not None:
            return
        replay = self._replay
        unasked = replay.unasked() if replay is not None and isinstance(operation, BodyDone) else None
        if unasked is not None:
            self._change(unasked, "the function returned without it")
            return
        self._finish(operation)

    def _finish(self, operation: Operation) -> None:
        self._ended = operation
        self._hand_out_wanted()
        if self.dispatch:
            self._report(operation)
            self._retire()
        elif self._replay is not None:
            self._retire()  # Led here for the sake of one step: the next dispatch of the body begins afresh.

    def _retire(self) -> None:
        """It has ended: stop what waits, let what runs be reported."""
        for step, number in self.out():  # It was given up while these were out, and nobody else would answer.
            if step not in self.running:
                self.shared.source.park(ParkDispatch(self.run_id, step, number))
        self._wanted.clear()
        self.over = True
        for op in self.ops.values():
            if op.wait is not None and not op.wait.done():
                op.task.cancel()
        if self.inline is not None:
            self.inline.muted = True
            self.inline.task.cancel()
        self.shared.forget(self)

    # --- replay ---------------------------------------------------------------------------------

    def _replay_on(self, replay: Replay, unsure: bool) -> bool:
        row = replay.next()
        if row is not None:
            self._due = [row]
            self._deliver()
            return True
        unasked = replay.unasked()
        if unasked is not None:
            if unsure:
                return False  # It waits for something foreign first; the watch looks again.
            instead = ", ".join(repr(op.step) for op in self.found) or "no new step"
            self._change(unasked, f"the code asks for {instead} instead")
            return False
        self._replay = None
        self._hand_out_wanted()
        if self.dispatch:
            self._collect()
        return True

    def _change(self, row: StepRow, instead: str) -> None:
        error = failures.changed(self.function.spec.slug, self.run_id, row, instead)
        self._finish(failures.body_errored(error, self.shared.source.now_ms()))
        self._task.cancel()  # Does nothing to one that is done.

    def _hand_out_wanted(self) -> None:
        wanted, self._wanted = self._wanted, {}
        for effect in wanted.values():
            self.hand_out_step(effect)

    def _touch(self) -> None:
        self._looks = 0
        if not self.touched:
            self.touched = True
            self.shared.touch(self)
