"""``OpenSteps``: the steps that a body has asked for and has no result of, each in one of four states.

    FOUND      new, and not reported.
    INLINE     an attempt runs under the body's own dispatch; at most one step at a time.
    REPORTED   the engine has the report. It will hand the step out, or the step's row gets the result.
    RUNNING    an attempt runs under a dispatch of the step's own, or awaits the number of one (``run_apart``).

    from               by               to
    asked              add_found        FOUND
    asked              add_inline       INLINE
    asked              add_recorded     REPORTED: a replay asks again
    FOUND              run_inline       INLINE
    FOUND              take_found       REPORTED
    FOUND, REPORTED    hand_out         RUNNING
    INLINE             run_apart        RUNNING
    INLINE, RUNNING    attempt_ended    REPORTED
    REPORTED           results          FOUND, where the report was lost with the lane
    REPORTED           resolve          gone: the body has the result
    FOUND, INLINE      forsake          gone: it has not happened

This is the body's side of the books, and only that: ``body.py`` decides what is done when and what is reported. The
attempts run in the coroutine that asked (``driver.py``); it waits on ``Op.wait`` and is resumed from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from millstream.execute.local.op import FOUND, GO, INLINE, REPORTED, RUNNING, Op
from millstream.model.effects import Execute
from millstream.model.operations import Operation, StepFound
from millstream.model.rows import Hand, StepRow

CANCEL_GRACE_MS: Final = 5_000
"""How long a cancelled attempt may take to stop."""

_DONE, _FAILED = int(Hand.DONE), int(Hand.FAILED)


class OpenSteps:
    """The open steps of one body.

    ``awaited``  all that the body waits for, by id, in the order in which they were asked for.
    ``found``    those of them that are FOUND.
    ``inline``   the one that is INLINE.
    ``running``  those that are RUNNING. A step stays here after its body is over, until it has been reported.
    """

    __slots__ = ("awaited", "found", "inline", "running")

    def __init__(self, running: dict[str, Op]) -> None:
        """``running`` are steps of an earlier body of the run that have not ended yet; they become this one's."""
        self.awaited: dict[str, Op] = {}
        self.found: list[Op] = []
        self.inline: Op | None = None
        self.running = running

    # --- asked ------------------------------------------------------------------------------------

    def add_inline(self, op: Op) -> None:
        """Asked for, and run at once."""
        self.awaited[op.step] = self.inline = op
        op.state = INLINE

    def add_found(self, op: Op) -> None:
        """Asked for, and new."""
        self.awaited[op.step] = op
        self.found.append(op)

    def add_recorded(self, op: Op) -> None:
        """Asked for again by a replay."""
        self.awaited[op.step] = op
        op.state = REPORTED

    def forsake(self, op: Op) -> None:
        """The body's own code has cancelled the branch that waits for it."""
        if op.state is FOUND or op.state is INLINE:  # Neither begun nor reported: it has not happened.
            self.awaited.pop(op.step, None)
            if op in self.found:
                self.found.remove(op)
            if self.inline is op:
                self.inline = None

    # --- on its way -------------------------------------------------------------------------------

    def take_found(self) -> list[Operation]:
        """The operations that report all steps found so far: they count as reported from here on."""
        found, self.found = self.found, []
        for op in found:
            op.state = REPORTED
        return [op.operation or StepFound(op.step, op.name) for op in found]

    def run_inline(self, op: Op) -> None:
        """Resume a found step to run at once."""
        assert op.wait is not None  # A forsaken op is no longer in ``found``.
        self.found.remove(op)
        self.inline, op.state, op.started_at_ms = op, INLINE, -1
        op.wait.set_result(GO)

    def run_apart(self, op: Op) -> StepFound:
        """Make the inline step one that is handed out while it runs; the operation that reports it."""
        self.inline, op.state, op.dispatch = None, RUNNING, 0
        self.running[op.step] = op
        return StepFound(op.step, op.name)

    def hand_out(self, effect: Execute) -> bool:
        """Resume the step to run an attempt under a dispatch of its own. False where the body does not wait for it."""
        op = self.awaited.get(effect.step)
        if op is None or op.wait is None or op.wait.done():
            return False
        if op.state is FOUND:  # It was reported after all: by a record that was thought void and turned up late.
            self.found.remove(op)
        op.state, op.attempt, op.dispatch, op.started_at_ms = RUNNING, effect.attempt, effect.dispatch, -1
        self.running[op.step] = op
        op.wait.set_result(GO)
        return True

    def attempt_ended(self, op: Op) -> None:
        """The step's attempt has ended, and is being reported."""
        if op.state is INLINE:
            self.inline = None
        else:
            self.running.pop(op.step, None)
        op.state = REPORTED

    # --- results ----------------------------------------------------------------------------------

    def resolve_single(self, run: str, row_of: Callable[[str, str], StepRow | None]) -> bool:
        """Resolve the one step that is awaited, if its row has a result. The common case: one step after another."""
        (op,) = self.awaited.values()
        wait = op.wait
        if op.state is not REPORTED or wait is None or wait.done():
            return False
        row = row_of(run, op.step)
        if row is None or (row.hand != _DONE and row.hand != _FAILED):
            return False
        del self.awaited[op.step]
        wait.set_result(row)
        return True

    def results(self, run: str, row_of: Callable[[str, str], StepRow | None]) -> list[StepRow]:
        """The rows of awaited steps that have ended. A reported step without a row is found anew."""
        results = []
        for op in tuple(self.awaited.values()):
            if op.state is not REPORTED:
                continue
            row = row_of(run, op.step)
            if row is None:
                self._lose(op)
            elif row.hand == _DONE or row.hand == _FAILED:
                results.append(row)
        return results

    def waits_for(self, step: str) -> bool:
        """Whether the body waits for the result of this step."""
        op = self.awaited.get(step)
        return op is not None and op.wait is not None and not op.wait.done()

    def resolve(self, row: StepRow) -> bool:
        """Give the body the result of a step. False where it does not wait for it any more."""
        op = self.awaited.pop(row.step, None)
        if op is None or op.wait is None or op.wait.done():
            return False
        op.wait.set_result(row)
        return True

    def _lose(self, op: Op) -> None:
        """Its report was lost with the lane."""
        op.state = FOUND
        if op.wait is None:
            del self.awaited[op.step]
        else:
            self.found.append(op)

    # --- attempts that run --------------------------------------------------------------------------

    def attempts(self) -> list[Op]:
        """The steps of which an attempt runs."""
        return [*self.running.values(), self.inline] if self.inline is not None else [*self.running.values()]

    def dispatches(self) -> list[tuple[str, int]]:
        """The dispatches, as (step, number), that attempts run under."""
        return [(step, op.dispatch) for step, op in self.running.items() if op.dispatch]

    def stop_overdue(self, now_ms: int, timeout_ms: int) -> Iterator[Op]:
        """Cancel the attempts that take longer than ``timeout_ms``; yield those that did not stop within the grace."""
        for op in self.attempts():
            if op.started_at_ms < 0 or op.ended is not None:
                continue
            if not op.stopped_at_ms:
                if now_ms - op.started_at_ms > timeout_ms:
                    op.stopped_at_ms = now_ms
                    op.task.cancel()
            elif now_ms - op.stopped_at_ms > CANCEL_GRACE_MS:
                yield op

    def runs_ended_step(self, run: str, row_of: Callable[[str, str], StepRow | None]) -> bool:
        """Whether a step still runs here though its end is recorded: a late answer to an earlier dispatch was taken.

        The body cannot be given the result before the attempt has ended, and must not answer "nothing new" until then:
        for the engine no step is under way any more.
        """
        rows = (row_of(run, op.step) for op in self.running.values())
        return any(row is not None and row.hand in (_DONE, _FAILED) for row in rows)

    def cancel(self) -> None:
        """Cancel the tasks of all open steps, whose attempts report nothing more."""
        for op in self.attempts():
            op.muted = True
            op.task.cancel()
        for op in self.awaited.values():
            if op.wait is not None:
                op.task.cancel()

    def cancel_waiting(self) -> None:
        """Cancel the tasks that wait, and the inline attempt; let running attempts end and be reported."""
        for op in self.awaited.values():
            if op.wait is not None and not op.wait.done():
                op.task.cancel()
        if self.inline is not None:
            self.inline.muted = True
            self.inline.task.cancel()
