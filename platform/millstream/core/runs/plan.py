"""A decision in the making about one run: what its operations lead to, collected before anything is folded.

A report may bring several operations; each sees what those before it in the same report led to through this one value.
Step kinds (``core/steps/``) and the report handler (``reports.py``) write into it; ``facts`` is the decision.
"""

from __future__ import annotations

from millstream.core.catalogue import catalogue
from millstream.core.runs.ending import ended
from millstream.core.runs.retry import retry_at_ms
from millstream.core.tables import Tables
from millstream.model import limits
from millstream.model.announcement import RunEnd
from millstream.model.event import Envelope
from millstream.model.facts import (
    DiscoveryAnswered,
    Fact,
    PublishQueued,
    RunFailed,
    StepCompleted,
    StepFailed,
)
from millstream.model.function import FunctionSpec
from millstream.model.rows import Hand, RunRow, StepRow


class Plan:
    """What one report leads to. Made, filled and read within one ``decide``."""

    __slots__ = (
        "_bytes", "_found", "_publishes", "_resolving", "_told", "again", "dispatch", "facts", "now_ms", "over",
        "resolved", "run", "tables",
    )  # fmt: skip

    def __init__(self, tables: Tables, run: RunRow, dispatch: int, now_ms: int) -> None:
        self.tables = tables
        self.run = run
        self.dispatch = dispatch
        self.now_ms = now_ms
        self.facts: list[Fact] = []
        self.over = False  # The run has ended: nothing may follow.
        self.again = run.again  # Something the body has not seen was resolved before this report.
        self.resolved = False  # A step was done or failed for good: the body wants to know.
        self._resolving = -1  # Where in ``facts`` that was said last.
        self._found: tuple[str, ...] = ()  # Steps this very report has brought.
        self._told: tuple[str, ...] = ()  # Known steps it has spoken of.
        self._bytes = run.bytes
        self._publishes = -1

    @property
    def spec(self) -> FunctionSpec | None:
        """The run's function, None when it is no longer registered."""
        return catalogue(self.tables).functions.get(self.run.function)

    def step(self, step: str) -> StepRow | None:
        """The step's row, as it was before this report; None where the run does not know the step.

        The run's own list is asked first: looking for a row that is not there would go down to the store.
        """
        if step not in self.run.steps:
            return None
        return self.tables.steps.get((self.run.run, step))

    def is_new(self, step: str) -> bool:
        """Note that the report brings this step; False when the run knows it already or the run ended over a limit."""
        if self.over or step in self._found or self.step(step) is not None:
            return False
        self._found = (*self._found, step)
        if len(self.run.steps) + len(self._found) > limits.STEPS_PER_RUN_MAX:
            self.fail(
                "InngestErrFunctionOverflowed",
                f"the run was ended at step {step!r}: a run may have {limits.STEPS_PER_RUN_MAX} steps and this is one "
                "more. Move part of the work to another function, started with an event.",
            )
            return False
        return True

    def is_first(self, step: str) -> bool:
        """Note that the report speaks of a step that the run knows; False when it has done so before."""
        if self.over or step in self._told:
            return False
        self._told = (*self._told, step)
        return True

    def complete(self, fact: StepCompleted) -> bool:
        """A step's result; False where a limit refuses it: the step fails, or the run."""
        if len(fact.data) > limits.STEP_OUTPUT_BYTES_MAX:
            self.fail_step(
                StepFailed(
                    fact.run, fact.step, fact.name, fact.attempt, fact.dispatch, "output_too_large",
                    f"the result of step {fact.step!r} was refused: at most {limits.STEP_OUTPUT_BYTES_MAX} bytes, "
                    f"got {len(fact.data)}. Store it elsewhere and return a reference.",
                    "", fact.started_at_ms, False,
                )
            )  # fmt: skip
            return False
        self._bytes += len(fact.data)
        if self._bytes > limits.RUN_STATE_BYTES_MAX:
            self.fail(
                "InngestErrStateOverflowed",
                f"the run was ended at step {fact.step!r}: the results of a run's steps may have "
                f"{limits.RUN_STATE_BYTES_MAX} bytes together, got {self._bytes}. "
                "Return references instead of payloads.",
            )
            return False
        self._resolve(fact)
        return True

    def fail_step(self, fact: StepFailed) -> None:
        """A step failed for good."""
        self._resolve(fact)

    def _resolve(self, fact: StepCompleted | StepFailed) -> None:
        self.resolved = True
        self._resolving = len(self.facts)
        self.facts.append(fact)

    def retry_at_ms(self, step: str, attempt: int, after_ms: int) -> int:
        """When the attempt after this one starts; −1 when it was the last."""
        spec = self.spec
        retries = spec.retries if spec is not None else limits.RETRIES_DEFAULT
        if attempt >= retries:
            return -1
        return retry_at_ms(self.tables.place, spec, self.run.run, step, attempt, now_ms=self.now_ms, after_ms=after_ms)

    def queue(self, topic: str, key: bytes, value: bytes, headers: tuple[tuple[str, bytes], ...]) -> None:
        """A record for a topic, produced once this decision is durable."""
        self.facts.append(PublishQueued(self._next_publish(), topic, key, value, headers, None))

    def send(self, event: Envelope) -> None:
        """An event for the events topic."""
        topic = self.tables.place.events_topic
        self.facts.append(PublishQueued(self._next_publish(), topic, b"", b"", (), event))

    def _next_publish(self) -> int:
        if self._publishes < 0:
            counter = self.tables.counters.get("publishes")
            self._publishes = counter.value if counter is not None else 0
        self._publishes += 1
        return self._publishes

    def fail(self, name: str, message: str, stack: str = "", attempt: int = 0) -> None:
        """End the run as failed."""
        run = self.run
        fact = RunFailed(run.run, run.function, attempt, name, message, stack)
        self.end(fact)

    def end(self, fact: RunEnd) -> None:
        """End the run with this fact and announce it to whoever subscribes to such ends."""
        if self.over:
            return
        self.over = True
        self.facts.append(fact)
        for event in ended(self.tables, self.run, fact, self.now_ms):
            self.send(event)

    def discover(self) -> None:
        """With the last fact that resolved something, hand the body out again.

        Only when it is not out: then its answer sees ``again``.
        """
        fact = self.facts[self._resolving]
        assert isinstance(fact, StepCompleted | StepFailed)
        if isinstance(fact, StepCompleted):
            self.facts[self._resolving] = StepCompleted(
                fact.run, fact.step, fact.name, fact.kind, fact.attempt, fact.dispatch, fact.data,
                fact.started_at_ms, True,
            )  # fmt: skip
        else:
            self.facts[self._resolving] = StepFailed(
                fact.run, fact.step, fact.name, fact.attempt, fact.dispatch, fact.error_name, fact.error_message,
                fact.error_stack, fact.started_at_ms, True,
            )  # fmt: skip

    def close_body(self) -> None:
        """The body has answered: hand it out again where something was resolved meanwhile or with this report."""
        if self.over:
            return
        if self.resolved:
            self.discover()
        elif self.again or not self.facts:
            self.facts.append(DiscoveryAnswered(self.run.run, self.dispatch, self.again))

    def close_step(self) -> None:
        """A step has answered: hand the body out where it waits in nobody's hand."""
        if not self.over and self.resolved and self.run.body == Hand.IDLE:
            self.discover()
