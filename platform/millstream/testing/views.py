"""The views of a test: ``Run``, its ``Step``s, and ``Sent``, the result of sending. Each shows the present, not a copy.

Statuses are those of the API: a run is Queued, Running, Completed, Failed or Cancelled; a step is planned, sleeping,
waiting, retrying, parked, held, completed or failed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from millstream.history.fold import CANCELLED, COMPLETED, FAILED, STATUSES, parent_of
from millstream.history.trail import ENDED, StepSeen, attempts_counted, error_of, wakes_at_ms
from millstream.model.waits.shown import in_words
from millstream.testing.expectations import NotAsExpected
from millstream.testing.record import Record


class Failed(msgspec.Struct, frozen=True):
    """An exception as it was recorded: class name, message, traceback as text."""

    name: str
    message: str
    stack: str = ""


class Step:
    """One step of a run, as it is recorded now."""

    def __init__(self, run: Run, seen: StepSeen) -> None:
        self._run = run
        self._seen = seen

    @property
    def id(self) -> str:
        """Its id, with the number where an id was used again: ``charge:1``."""
        return self._seen.step

    @property
    def kind(self) -> str:
        """Its kind, named as its step tool: ``run``, ``sleep``, ``send_event`` …"""
        return self._seen.kind

    @property
    def status(self) -> str:
        """planned, sleeping, waiting, retrying, parked, held, completed or failed."""
        return self._seen.status

    @property
    def result(self) -> Any:
        """What it returned. Raises NotAsExpected, with the error or the status, where it has not."""
        if self.status != "completed":
            why = f": {_error_text(self.error)}" if self.error is not None else ""
            raise NotAsExpected(f"step {self.id!r} of {self._run!r} has no result: it is {self.status}{why}.")
        return msgspec.json.decode(self._seen.output) if self._seen.output else None

    @property
    def attempts(self) -> int:
        """How often it was tried so far; attempts that died with their worker don't count."""
        return attempts_counted(self._seen)

    @property
    def error(self) -> Failed | None:
        """What the last attempt failed with; None where it did not fail."""
        failed = [attempt for attempt in self._seen.attempts if attempt.status in ENDED]
        error = failed[-1].error if failed else None
        return Failed(error.name, error.message, error.stack) if error is not None else None

    @property
    def wakes_at(self) -> datetime | None:
        """When a sleep or a wait ends, or the next attempt begins; None where it waits for no time."""
        at_ms = wakes_at_ms(self._seen)
        return datetime.fromtimestamp(at_ms / 1_000, UTC) if at_ms else None

    @property
    def waits_for(self) -> str:
        """What it waits for, or waited for, in words: ``event order/paid (data.order_id)``; empty: for nothing."""
        awaited = self._seen.waits_for
        return in_words(awaited) if awaited is not None else ""

    @property
    def timed_out(self) -> bool:
        """Whether it waited for something that did not come in time. An invoke has failed then, with its error."""
        return self._seen.timed_out

    @property
    def child(self) -> Run | None:
        """The run that it invoked; None: it invokes none, or the run has not begun."""
        id = self._seen.waits_for.run_id if self._seen.waits_for is not None else ""
        record = self._run._record
        return Run(record, id) if id in record.runs else None

    def __repr__(self) -> str:
        waits = f" for {self.waits_for}" if self.status == "waiting" else ""
        waits += f" until {self.wakes_at:%Y-%m-%d %H:%M:%S}" if self.wakes_at is not None else ""
        return f"<Step {self.id} {self.kind} {self.status}{waits} attempts={self.attempts}>"


class Steps(dict[str, Step]):
    """Steps by id, in order of appearance."""

    def __init__(self, run: Run, steps: list[Step]) -> None:
        super().__init__((step.id, step) for step in steps)
        self._run = run

    def __missing__(self, id: str) -> Step:
        known = ", ".join(map(repr, self)) or "none"
        raise NotAsExpected(f"{self._run!r} has no step {id!r}: its steps so far are {known}.")


class Run:
    """One run, as it is recorded now. Equal to every other view of the same run."""

    def __init__(self, record: Record, id: str) -> None:
        self.id = id
        self._record = record

    @property
    def function(self) -> str:
        """The function's full id, ``<app>-<function>``."""
        return self._record.runs[self.id].function

    @property
    def status(self) -> str:
        """Queued, Running, Completed, Failed or Cancelled."""
        return STATUSES[self._record.runs[self.id].status]

    @property
    def is_held(self) -> bool:
        """Whether it waits for an operator: ``await t.resume(run)``, or ``t.fail(run)``."""
        is_open = self._record.runs[self.id].status not in (COMPLETED, FAILED, CANCELLED)
        return is_open and any(seen.status == "held" for seen in self._record.steps(self.id))

    @property
    def result(self) -> Any:
        """What the function returned. Raises NotAsExpected, saying how the run stands, where it has not."""
        change = self._record.runs[self.id]
        if change.status == COMPLETED:
            return msgspec.json.decode(change.result)
        if change.status in (FAILED, CANCELLED):
            error = self.error
            assert error is not None
            raise NotAsExpected(f"{self!r} has no result: {_error_text(error)}\n{error.stack}".rstrip())
        steps = ", ".join(map(repr, self.steps.values())) or "none yet"
        raise NotAsExpected(
            f"{self!r} has no result yet. Its steps: {steps}. Where it waits for a time, move it: await t.advance(…)."
        )

    @property
    def error(self) -> Failed | None:
        """What the run failed with; while it runs, what the last attempt of its body failed with; else None."""
        change = self._record.runs[self.id]
        if change.error:
            error = error_of(change.error)
            return Failed(error.name, error.message, error.stack)
        if change.status == COMPLETED:
            return None
        body = [seen for seen in self._record.steps(self.id) if not seen.step]
        return Step(self, body[0]).error if body else None

    @property
    def steps(self) -> Steps:
        """The steps so far by id. Asking for one there is not raises NotAsExpected, naming those there are."""
        return Steps(self, [Step(self, seen) for seen in self._record.steps(self.id) if seen.step])

    @property
    def parent(self) -> Run | None:
        """The run that invoked this one with a step; None where no step did."""
        parent = parent_of(self._record.runs[self.id].cause)
        return Run(self._record, parent[0]) if parent is not None else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.id == self.id and other._record is self._record

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Run {self.function} {self.id} {self.status}>"


class Sent:
    """The result of sending or invoking: the runs it started; where that is one, the run itself."""

    def __init__(self, record: Record, events: tuple[str, ...]) -> None:
        self.events = events
        """The internal ids of the events."""
        self._record = record

    @property
    def runs(self) -> list[Run]:
        """The runs these events started, in order."""
        events = set(self.events)
        return [Run(self._record, id) for id, change in self._record.runs.items() if events & set(change.events)]

    @property
    def run(self) -> Run:
        """The one run. Raises NotAsExpected, naming the runs or the reasons, where there is none or several."""
        runs = self.runs
        if len(runs) == 1:
            return runs[0]
        if runs:
            raise NotAsExpected(
                f"{len(runs)} runs were started, and which one is meant is not clear: {runs}. Choose one of `.runs`."
            )
        notices = [n for n in self._record.notices if n.subject in self.events]
        reasons = "; ".join(f"{n.function} {n.kind}: {n.reason}".strip() for n in notices)
        raise NotAsExpected(f"no run was started: {reasons or 'no function has a trigger that fits'}.")

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run.id

    @property
    def function(self) -> str:
        """The run's function."""
        return self.run.function

    @property
    def status(self) -> str:
        """See ``Run``."""
        return self.run.status

    @property
    def is_held(self) -> bool:
        """See ``Run``."""
        return self.run.is_held

    @property
    def result(self) -> Any:
        """See ``Run``."""
        return self.run.result

    @property
    def error(self) -> Failed | None:
        """See ``Run``."""
        return self.run.error

    @property
    def steps(self) -> Steps:
        """See ``Run``."""
        return self.run.steps

    def __repr__(self) -> str:
        return f"<Sent {self.runs}>"


def _error_text(error: Failed) -> str:
    return f"{error.name}: {error.message}"


def report(runs: list[Run]) -> str:
    """The runs with their steps and errors, for people."""
    lines: list[str] = []
    for run in runs:
        error = run.error
        lines.append(f"{run!r}{f' {_error_text(error)}' if error is not None else ''}")
        for step in run.steps.values():
            error = step.error
            lines.append(f"    {step!r}{f' {_error_text(error)}' if error is not None else ''}")
    return "\n".join(lines)
