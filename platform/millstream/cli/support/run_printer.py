"""The run printer of ``millstream dev``: one line a run, as it happens.

    01:12:43.120  completed  webhooks-tally  01KB…  github/push  3 steps  12ms

A run gets a line when it ends, one when it has to queue, one when it begins to wait, and one when its code has changed.
An event that starts nothing gets one, too (UNHEARD_PER_S of them), and a function that did not start on it for a
reason. The lane hands over facts on its own loop, thousands a second under load. So the work per fact is a few
dictionary lookups, lines are limited to LINES_PER_S (one line counts the rest; KEPT_FOR_FAILURES of them are for
failures), and a thread of its own writes: a terminal that blocks must not stop the engine.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from millstream.cli.support.output import STATUS_COLOURS, coloured
from millstream.core.flow.places import gate_and_key
from millstream.core.steps import SHOWS
from millstream.model import trail
from millstream.model.event import INTERNAL_PREFIX, Envelope
from millstream.model.facts import (
    BodyAttemptFailed,
    BodyHeld,
    DispatchParked,
    EventAccepted,
    EventDeduplicated,
    Fact,
    FunctionSkipped,
    GatePassed,
    GateQueued,
    RunCancelled,
    RunCompleted,
    RunDue,
    RunFailed,
    RunStarted,
    StepCompleted,
    StepFailed,
    StepHeld,
)
from millstream.model.ids import ulid_time_ms
from millstream.model.rows import RunRow
from millstream.model.text.durations import duration_text
from millstream.model.text.printable import one_line
from millstream.model.text.redaction import redacted
from millstream.model.waits.shown import in_words, read

LINES_PER_S: Final = 50
KEPT_FOR_FAILURES: Final = 10
UNHEARD_PER_S: Final = 10
QUEUED_LINES_MAX: Final = 200
OPEN_RUNS_KNOWN_MAX: Final = 20_000
UNHEARD_NAMED_MAX: Final = 5
ERROR_CHARS_MAX: Final = 300
CLOSE_S: Final = 1.0


class _Known(msgspec.Struct, gc=False):
    """An open run, as far as its line needs it."""

    function: str
    event: str
    begun_ms: int
    steps: int = 0
    waits: bool = False
    queued: bool = False


class RunPrinter:
    """Prints runs; ``on_facts`` takes the lane's facts. ``counts`` has (function, status) of all runs that ended."""

    def __init__(self, write: Callable[[str], None] | None = None, now_s: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.started = 0
        self.bugs = 0  # Runs that failed for a fault of millstream.
        self._write = write or _print
        self._now_s = now_s
        self._known: dict[str, _Known] = {}
        self._names: dict[str, str] = {}
        self._second = 0.0
        self._printed = 0
        self._more = 0
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUED_LINES_MAX)
        self._thread = threading.Thread(target=self._print_lines, name="run-printer", daemon=True)
        self._thread.start()

    def on_facts(self, facts: Sequence[Fact], at_ms: int) -> None:
        """The facts of a durable record."""
        handlers = _HANDLERS
        for fact in facts:
            handler = handlers.get(type(fact))
            if handler is not None:
                handler(self, fact, at_ms)
            elif (show := SHOWS.get(type(fact))) is not None:  # A fact of one step kind: the kind says how it shows.
                entry = show(fact, at_ms)
                if entry is not None:
                    self.entry(fact.run, entry)  # type: ignore[union-attr]
        self._names.clear()  # An event and the runs it starts are in one record.

    def learn(self, run: RunRow, event: str) -> None:
        """A run that was open before this process: its line says what it would have said there."""
        if len(self._known) < OPEN_RUNS_KNOWN_MAX:
            self._known.setdefault(run.run, _Known(run.function, event, run.queued_at_ms, len(run.steps)))

    def on_unheard(self, event: Envelope, functions: Sequence[str], at_ms: int) -> None:
        """An event that started nothing; ``functions`` subscribe to it."""
        why = "no function subscribes to it"
        if functions and event.name.startswith(INTERNAL_PREFIX):
            return  # Ends of runs meet the failure handlers of all other functions.
        if functions:
            named = ", ".join(functions[:UNHEARD_NAMED_MAX]) + (", …" if len(functions) > UNHEARD_NAMED_MAX else "")
            why = f"no function started: if_ does not hold for {named}"
        self._event_line("ignored", f"{event.name}  {event.internal_id}  {why}", at_ms)

    def skipped(self, fact: FunctionSkipped, at_ms: int) -> None:
        """A function that did not start on an event, or not as it says, for a reason."""
        name = self._names.get(fact.event, "")
        words = (fact.function, fact.event, name, fact.reason)
        self._event_line("skipped", "  ".join(word for word in words if word), at_ms)

    def deduplicated(self, fact: EventDeduplicated, at_ms: int) -> None:
        """An event that starts nothing, since its id was seen before."""
        words = f"{fact.name}  {fact.internal_id}  its id {fact.id!r} was seen before: it starts nothing"
        self._event_line("ignored", words, at_ms)

    def tick(self) -> None:
        """Called now and then: print how many lines were left out, once a line may be printed."""
        if self._more and self._now_s() - self._second >= 1.0:
            self._say_more()

    def close(self) -> None:
        """Print what is left; waits CLOSE_S at most."""
        if self._more:
            self._say_more()
        try:
            self._lines.put(None, timeout=CLOSE_S)
        except queue.Full:
            return  # Nobody reads our output.
        self._thread.join(CLOSE_S)

    def run_started(self, fact: RunStarted, at_ms: int) -> None:
        """Remember it."""
        self.started += 1
        if len(self._known) >= OPEN_RUNS_KNOWN_MAX:
            del self._known[next(iter(self._known))]
        event = self._names.get(fact.events[0], "") if fact.events else ""
        self._known[fact.run] = _Known(fact.function, event, at_ms)

    def run_due(self, fact: RunDue, at_ms: int) -> None:
        """A run that was to begin later begins: from now on it takes time."""
        known = self._known.get(fact.run)
        if known is not None:
            known.begun_ms = at_ms

    def gate_queued(self, fact: GateQueued, at_ms: int) -> None:
        """A line, the first time that a run has to queue at a gate."""
        known = self._known.get(fact.run)
        if known is None or known.queued:
            return
        known.queued = True
        gate, key = gate_and_key(fact.place)
        self._line("queued", fact.run, known, f"at {gate} {key}".rstrip(), at_ms)

    def gate_passed(self, fact: GatePassed, at_ms: int) -> None:
        """A run begins behind its gates: from now on it takes time."""
        known = self._known.get(fact.run)
        if known is not None and fact.is_start:
            known.begun_ms = at_ms

    def step_ended(self, fact: StepCompleted | StepFailed, at_ms: int) -> None:
        """Count it."""
        known = self._known.get(fact.run)
        if known is not None:
            known.steps += 1

    def body_retries(self, fact: BodyAttemptFailed, at_ms: int) -> None:
        """A run waits for the next attempt of its body."""
        why = f"(function body): {_error(fact.error_name, fact.error_message)}"
        self._waits("retrying", fact.run, why, (fact.retry_at_ms, at_ms))

    def entry(self, run: str, entry: trail.Entry) -> None:
        """A run waits at a step: for a time, for the next attempt, or for what others do."""
        match entry:
            case (trail.SLEEPING, at_ms, _, name, _, wake_at_ms):
                self._waits("sleeping", run, name, (wake_at_ms, at_ms))
            case (trail.WAITING, at_ms, _, name, _, until_ms, awaited):
                self._waits("waiting", run, f"{name}: {in_words(read(awaited))}", (until_ms, at_ms))
            case (trail.ERRORED, at_ms, _, name, _, _, _, retry_at_ms, error, message, _):
                self._waits("retrying", run, f"{name}: {_error(error, message)}", (retry_at_ms, at_ms))
            case _:
                pass

    def _waits(self, status: str, run: str, why: str, times: tuple[int, int]) -> None:
        """A line, the first time that the run waits. ``times``: until when, and the record's."""
        known = self._known.get(run)
        if known is None or known.waits:
            return
        known.waits = True
        until_ms, at_ms = times
        self._line(status, run, known, f"for {duration_text(max(0, until_ms - at_ms))}  {why}", at_ms)

    def parked(self, fact: DispatchParked, at_ms: int) -> None:
        """A line for a run whose code has changed."""
        if fact.reason:
            known = self._known.get(fact.run) or _Known(fact.function, "", ulid_time_ms(fact.run))
            self._line("parked", fact.run, known, fact.reason, at_ms)

    def held(self, fact: StepHeld | BodyHeld, at_ms: int) -> None:
        """A line for a run that waits for an operator."""
        known = self._known.get(fact.run) or _Known("", "", ulid_time_ms(fact.run))
        where = fact.name if isinstance(fact, StepHeld) else "(function body)"
        self._line("held", fact.run, known, f"{where}: {_error(fact.error_name, fact.error_message)}", at_ms)

    def run_ended(self, fact: RunCompleted | RunFailed | RunCancelled, at_ms: int) -> None:
        """A line for the run."""
        status = _STATUS[type(fact)]
        self.counts[fact.function, status] += 1
        known = self._known.pop(fact.run, None)
        if known is None:  # It began before this process, or too many were open.
            known = _Known(fact.function, "", ulid_time_ms(fact.run))
        steps = f"{known.steps} step{'' if known.steps == 1 else 's'}" if known.steps else ""
        took = duration_text(max(0, at_ms - known.begun_ms)) if at_ms > known.begun_ms else "0ms"
        words = [steps, took]
        if isinstance(fact, RunFailed):
            self.bugs += fact.error_name == "InternalError"
            words.append(_error(fact.error_name, fact.error_message))
        elif isinstance(fact, RunCancelled):
            words.append(fact.reason)
        self._line(status, fact.run, known, "  ".join(word for word in words if word), at_ms)

    def _line(self, status: str, run: str, known: _Known, tail: str, at_ms: int) -> None:
        words = f"{known.function}  {run}  {known.event}{'  ' if known.event else ''}{tail}"
        self._show(status, words, at_ms, LINES_PER_S if status == "failed" else LINES_PER_S - KEPT_FOR_FAILURES)

    def _event_line(self, status: str, words: str, at_ms: int) -> None:
        self._show(status, words, at_ms, UNHEARD_PER_S)

    def _show(self, status: str, words: str, at_ms: int, lines_max: int) -> None:
        """A line, unless so many were printed in this second."""
        now = self._now_s()
        if now - self._second >= 1.0:
            if self._more:
                self._say_more()
            self._second, self._printed = now, 0
        if self._printed >= lines_max:
            self._more += 1
            return
        self._printed += 1
        clock = time.strftime("%H:%M:%S", time.localtime(at_ms / 1000)) + f".{at_ms % 1000:03d}"
        state = coloured(f"{status:<9}", STATUS_COLOURS.get(status, ""))
        self._put(f"{clock}  {state}  {one_line(redacted(words))}")

    def _say_more(self) -> None:
        more, self._more = self._more, 0
        self._put(coloured(f"… {more:,} more lines", "dim"))

    def _put(self, line: str) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._more += 1

    def _print_lines(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._write(line)
            except (OSError, ValueError):
                return  # Their reader has gone; runs go on.


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _error(name: str, message: str) -> str:
    text = " ".join(f"{name}: {message}".split())
    return text if len(text) <= ERROR_CHARS_MAX else text[: ERROR_CHARS_MAX - 1] + "…"


def _event_accepted(printer: RunPrinter, fact: EventAccepted, at_ms: int) -> None:
    printer._names[fact.internal_id] = fact.name


_STATUS: Final[dict[type, str]] = {RunCompleted: "completed", RunFailed: "failed", RunCancelled: "cancelled"}
# ``Any`` because each function takes its own fact; the keys say which.
_HANDLERS: Final[dict[type, Callable[[RunPrinter, Any, int], None]]] = {
    EventAccepted: _event_accepted,
    RunStarted: RunPrinter.run_started,
    StepCompleted: RunPrinter.step_ended,
    StepFailed: RunPrinter.step_ended,
    BodyAttemptFailed: RunPrinter.body_retries,
    DispatchParked: RunPrinter.parked,
    StepHeld: RunPrinter.held,
    BodyHeld: RunPrinter.held,
    RunCompleted: RunPrinter.run_ended,
    RunFailed: RunPrinter.run_ended,
    RunCancelled: RunPrinter.run_ended,
    RunDue: RunPrinter.run_due,
    GateQueued: RunPrinter.gate_queued,
    GatePassed: RunPrinter.gate_passed,
    FunctionSkipped: RunPrinter.skipped,
    EventDeduplicated: RunPrinter.deduplicated,
}
