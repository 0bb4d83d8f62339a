"""What the facts of a record mean in metrics; counted once a record, not once a fact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from penstock.model.facts import (
    CommandRefused,
    Fact,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    StepAttemptFailed,
    StepCompleted,
    StepFailed,
)
from penstock.telemetry import Telemetry


def count_facts(telemetry: Telemetry, facts: Sequence[Fact]) -> None:
    """Add the facts of one durable record to the counters."""
    counts: Counter[tuple[str, ...]] = Counter()
    for fact in facts:
        kind = type(fact)
        if kind is StepCompleted:
            counts["penstock_step_attempts_total", "completed"] += 1
        elif kind is RunStarted:
            counts["penstock_runs_started_total", fact.function] += 1  # type: ignore[union-attr]
        elif kind is RunCompleted:
            counts["penstock_runs_finished_total", fact.function, "completed"] += 1  # type: ignore[union-attr]
        elif kind is StepAttemptFailed or kind is StepFailed:
            counts["penstock_step_attempts_total", "failed"] += 1
        elif kind is RunFailed:
            counts["penstock_runs_finished_total", fact.function, "failed"] += 1  # type: ignore[union-attr]
        elif kind is RunCancelled:
            counts["penstock_runs_finished_total", fact.function, "cancelled"] += 1  # type: ignore[union-attr]
        elif kind is CommandRefused:
            counts["penstock_dead_letters_total", fact.command] += 1  # type: ignore[union-attr]
    for (name, *labels), amount in counts.items():
        telemetry.count(name, amount, *labels)
