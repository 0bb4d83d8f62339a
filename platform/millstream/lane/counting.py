"""What the facts of a record mean in metrics; counted once a record, not once a fact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from millstream.model.facts import (
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
from millstream.telemetry import Telemetry

_ENDS: Final[dict[type, str]] = {RunCompleted: "completed", RunFailed: "failed", RunCancelled: "cancelled"}


def count_facts(telemetry: Telemetry, facts: Sequence[Fact]) -> None:
    """Add the facts of one durable record to the counters."""
    kinds = Counter(map(type, facts))  # In C: what is counted by function is looked at once more.
    counts: Counter[tuple[str, ...]] = Counter()
    counts["millstream_step_attempts_total", "completed"] = kinds[StepCompleted]
    counts["millstream_step_attempts_total", "failed"] = kinds[StepAttemptFailed] + kinds[StepFailed]
    if kinds[RunStarted]:
        for function, amount in Counter([f.function for f in facts if type(f) is RunStarted]).items():
            counts["millstream_runs_started_total", function] = amount
    for kind, status in _ENDS.items():
        if kinds[kind]:
            for function, amount in Counter([f.function for f in facts if type(f) is kind]).items():  # type: ignore[union-attr]
                counts["millstream_runs_finished_total", function, status] = amount
    if kinds[CommandRefused]:
        for command, amount in Counter([f.command for f in facts if type(f) is CommandRefused]).items():
            counts["millstream_dead_letters_total", command] = amount
    for (name, *labels), amount in counts.items():
        if amount:
            telemetry.count(name, amount, *labels)
