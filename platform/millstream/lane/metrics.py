"""A lane's metrics: what the facts of a record count for, and how far a restore is.

Facts are counted once a record, not once a fact; a restore says every few seconds how far it is. Of what is set aside
the log has the first of each source at once, and of the others the number once a minute: one line for each record of a
topic that cannot be read would bury everything else.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Final

from millstream.core.flow.gates import ADMIT_GATES
from millstream.core.steps.run import NAME as CALLS
from millstream.lane.input.backlog import Waiting
from millstream.model.facts import (
    CommandRefused,
    EventAccepted,
    Fact,
    FunctionSkipped,
    GateLeft,
    GateOpened,
    GateQueued,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    ScanAdvanced,
    StepAttemptFailed,
    StepCompleted,
    StepFailed,
)
from millstream.telemetry import Telemetry, say

LOG: Final = logging.getLogger("millstream.lane")
LOG_EVERY_S: Final = 2.0
REFUSED_EVERY_MS: Final = 60_000
REFUSED_SOURCES_MAX: Final = 1_000
QUEUES_TIMED_MAX: Final = 20_000
RUNS_TIMED_MAX: Final = 20_000
FUNCTIONS_SHOWN_MAX: Final = 1_000
TIMED_PER_RECORD_MAX: Final = 5
"""Observations of one histogram for one record: each costs a microsecond, and a record under load has hundreds."""
_ENDS: Final[dict[type, str]] = {RunCompleted: "completed", RunFailed: "failed", RunCancelled: "cancelled"}


class Counts:
    """What is counted of one lane's durable records, and said of what they refuse."""

    def __init__(self, telemetry: Telemetry, lane: int) -> None:
        self._telemetry = telemetry
        self._refusals = Refusals(lane)
        self._queued_ms: dict[tuple[str, str, str], int] = {}  # By place, run and step.
        self._started_ms: dict[str, int] = {}  # By run.
        self._functions: set[str] = set()

    def take(self, facts: Sequence[Fact], at_ms: int, *, size: int, took_s: float) -> None:
        """Count one durable record of ``size`` bytes whose append took ``took_s``, with its facts."""
        telemetry = self._telemetry
        telemetry.observe("millstream_journal_append_seconds", took_s)
        telemetry.observe("millstream_journal_facts_per_record", len(facts))
        telemetry.count("millstream_journal_records_total")
        telemetry.count("millstream_journal_bytes_total", size)
        kinds = Counter(map(type, facts))  # In C: what is counted by function is looked at once more.
        _count_facts(telemetry, facts, kinds)
        self._time_work(facts, kinds, at_ms)
        if kinds[GateQueued] or (self._queued_ms and (kinds[GateOpened] or kinds[GateLeft])):
            self._time_queues(facts, at_ms)
        self._refusals.take(facts, at_ms)

    def _time_work(self, facts: Sequence[Fact], kinds: Counter[type], at_ms: int) -> None:
        """Observe how long events waited, steps took and runs lived."""
        observe = self._telemetry.observe
        if kinds[RunStarted]:
            self._begin_runs(facts, at_ms)
        if kinds[EventAccepted] and not kinds[ScanAdvanced]:
            received_ms = (fact.received_at_ms for fact in facts if type(fact) is EventAccepted and fact.topic)
            for since_ms in islice(received_ms, TIMED_PER_RECORD_MAX):
                observe("millstream_event_start_seconds", max(at_ms - since_ms, 0) / 1_000)
        if kinds[StepCompleted]:
            began_ms = (fact.started_at_ms for fact in facts if type(fact) is StepCompleted and fact.kind == CALLS)
            for since_ms in islice(began_ms, TIMED_PER_RECORD_MAX):
                observe("millstream_step_seconds", max(at_ms - since_ms, 0) / 1_000)
        if self._started_ms and (kinds[RunCompleted] or kinds[RunFailed] or kinds[RunCancelled]):
            self._end_runs(facts, at_ms)

    def _end_runs(self, facts: Sequence[Fact], at_ms: int) -> None:
        started_ms, left = self._started_ms, TIMED_PER_RECORD_MAX
        for fact in facts:
            if type(fact) is RunCompleted or type(fact) is RunFailed or type(fact) is RunCancelled:
                since_ms = started_ms.pop(fact.run, None)
                if since_ms is not None and left:
                    left -= 1
                    self._telemetry.observe("millstream_run_seconds", max(at_ms - since_ms, 0) / 1_000, fact.function)

    def _begin_runs(self, facts: Sequence[Fact], at_ms: int) -> None:
        """Runs begin. Of a function seen for the first time each way to end is shown as 0: no first end is missed."""
        started_ms, known = self._started_ms, self._functions
        for fact in facts:
            if type(fact) is RunStarted:
                if len(started_ms) < RUNS_TIMED_MAX:
                    started_ms[fact.run] = at_ms
                if fact.function not in known and len(known) < FUNCTIONS_SHOWN_MAX:
                    known.add(fact.function)
                    for status in _ENDS.values():
                        self._telemetry.count("millstream_runs_finished_total", 0, fact.function, status)

    def _time_queues(self, facts: Sequence[Fact], at_ms: int) -> None:
        queued_ms = self._queued_ms
        for fact in facts:
            if type(fact) is GateQueued:
                if len(queued_ms) < QUEUES_TIMED_MAX:
                    queued_ms[fact.place, fact.run, fact.step] = at_ms
            elif type(fact) is GateOpened:
                since_ms = queued_ms.pop((fact.place, fact.run, fact.step), None)
                if since_ms is not None:
                    took_s = max(at_ms - since_ms, 0) / 1_000
                    self._telemetry.observe("millstream_flow_queued_seconds", took_s, fact.function)
            elif type(fact) is GateLeft:
                queued_ms.pop((fact.place, fact.run, fact.step), None)


GAUGES: Final = (
    "millstream_lane_queue",
    "millstream_executing",
    "millstream_overlay_bytes",
    "millstream_scans_open",
    "millstream_scan_records_left",
    "millstream_timers_pending",
    "millstream_checkpoint_age_seconds",
)


def set_gauges(telemetry: Telemetry, lane: int, waiting: Waiting, figures: tuple[float, ...]) -> None:
    """Set the gauges of a lane: what waits for it, and one figure for each of GAUGES, in their order."""
    label = str(lane)
    telemetry.set("millstream_lane_lag", waiting.records, label)
    telemetry.set("millstream_oldest_event_age_seconds", waiting.oldest_s, label)
    telemetry.count("millstream_lane_records_total", waiting.taken_in, label)
    for name, figure in zip(GAUGES, figures, strict=True):
        telemetry.set(name, figure, label)


def _count_facts(telemetry: Telemetry, facts: Sequence[Fact], kinds: Counter[type]) -> None:
    """Add the facts of one durable record to the counters."""
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
    if kinds[FunctionSkipped]:
        for skipped in (fact for fact in facts if type(fact) is FunctionSkipped):
            counts["millstream_flow_skipped_total", skipped.function, _gate(skipped)] += 1
    if kinds[CommandRefused]:
        for command, amount in Counter([f.command for f in facts if type(f) is CommandRefused]).items():
            counts["millstream_dead_letters_total", command] = amount
    for (name, *labels), amount in counts.items():
        if amount:
            telemetry.count(name, amount, *labels)


def _gate(fact: FunctionSkipped) -> str:
    """The gate that has skipped a start: its reason begins with the name."""
    name, _, _ = fact.reason.partition(":")
    return name if name in ADMIT_GATES else "other"


class Refusals:
    """The log lines about records and commands that one lane has set aside."""

    def __init__(self, lane: int) -> None:
        self._lane = lane
        self._said_ms: dict[tuple[str, str], int] = {}
        self._unsaid: Counter[tuple[str, str]] = Counter()

    def take(self, facts: Sequence[Fact], now_ms: int) -> None:
        """Say what of a durable record's facts is to be said."""
        if CommandRefused not in map(type, facts):
            return  # Nearly every record: in C, as there are thousands of facts a second.
        for fact in facts:
            if type(fact) is not CommandRefused:
                continue
            place, at, _ = fact.subject.rpartition("@")
            source = (fact.command, place if at else "")
            self._unsaid[source] += 1
            said_ms = self._said_ms.get(source)
            if said_ms is None or now_ms - said_ms >= REFUSED_EVERY_MS:
                self._say(source, fact, now_ms)

    def _say(self, source: tuple[str, str], fact: CommandRefused, now_ms: int) -> None:
        if len(self._said_ms) >= REFUSED_SOURCES_MAX:
            self._said_ms.clear()
        self._said_ms[source] = now_ms
        count = self._unsaid.pop(source)
        say(
            LOG,
            "set aside",
            level=logging.WARNING,
            lane=self._lane,
            command=fact.command,
            subject=fact.subject,
            count=count,
            why=fact.reason,
        )


class Progress:
    """The progress of one lane's restore."""

    def __init__(self, telemetry: Telemetry, lane: int) -> None:
        self._telemetry = telemetry
        self._lane = lane
        self._began_s = self._logged_s = time.monotonic()
        self._rows = 0
        self._rows_s = 0.0

    def at(self, done: int, left: int) -> None:
        """Called with (rows restored, UNKNOWN), then with (facts folded, records of the journal left)."""
        now_s = time.monotonic()
        if left < 0:
            self._rows, self._rows_s = done, now_s - self._began_s
        if now_s - self._logged_s < LOG_EVERY_S:
            return
        self._logged_s = now_s
        self._telemetry.set("millstream_restore_rows", self._rows, str(self._lane))
        self._telemetry.set("millstream_restore_records_left", max(left, 0), str(self._lane))
        what = {"rows": done} if left < 0 else {"facts": done, "records_left": left}
        say(LOG, "lane restoring", lane=self._lane, **what, per_s=round(done / (now_s - self._began_s)))

    def done(self, facts: int) -> None:
        """The tables are as the journal says."""
        took_s = time.monotonic() - self._began_s
        self._telemetry.set("millstream_restore_rows", 0, str(self._lane))
        self._telemetry.set("millstream_restore_records_left", 0, str(self._lane))
        self._telemetry.observe("millstream_restore_seconds", took_s)
        rows = {"rows": self._rows, "rows_per_s": round(self._rows / max(self._rows_s, 0.001))} if self._rows else {}
        say(LOG, "lane restored", lane=self._lane, facts=facts, **rows, took_ms=round(took_s * 1000))
