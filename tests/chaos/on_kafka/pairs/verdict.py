"""What the journals say of the pairs: one run an order, ended once and with its answer; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from millstream.model.facts import (
    EventAccepted,
    EventTaken,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    StepCompleted,
    WaitStarted,
)
from millstream.model.journal import JournalRecord
from tests.chaos.on_kafka.pairs.asking import SLUG, START, WAIT, answer_id


@dataclass
class Judged:
    """What was found. ``resolved_ms``: when each order's wait ended; ``closed``: the runs that are over."""

    runs: dict[str, int] = field(default_factory=dict)
    resolved_ms: dict[int, int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    by_timeout: int = 0
    wrong: list[str] = field(default_factory=list)


class _Result(msgspec.Struct):
    order_id: int
    answer: str | None


class _Event(msgspec.Struct):
    data: _Result


_result = msgspec.json.Decoder(_Result)
_event = msgspec.json.Decoder(_Event | None)


def judge(records: Iterable[JournalRecord], orders: Iterable[int]) -> Judged:
    """Read the journals of all lanes, each in its order."""
    return _Reading(set(orders)).read(records)


class _Reading:
    def __init__(self, asked: set[int]) -> None:
        self.asked = asked
        self.found = Judged()
        self.accepted: dict[str, int] = {}
        self.once: set[tuple[str, str]] = set()

    def read(self, records: Iterable[JournalRecord]) -> Judged:
        for record in records:
            for fact in record.facts:
                match fact:
                    case EventAccepted(name=name, data=data) if name == START:
                        self.accepted[fact.internal_id] = msgspec.json.decode(data)["order_id"]
                    case RunStarted(function=function) if function == SLUG:
                        self._once(fact.run, "started")
                        self.found.runs[fact.run] = self.accepted[fact.events[0]]
                    case WaitStarted(run=run) if run in self.found.runs:
                        self._once(run, "began to wait")
                    case EventTaken(run=run) if run in self.found.runs:
                        self._once(run, "took an answer")
                    case StepCompleted(run=run, step=step) if run in self.found.runs:
                        self._once(run, f"got a result of step {step!r}")
                        if step == WAIT:
                            self._resolved(fact, record.at_ms)
                    case RunCompleted(run=run) | RunFailed(run=run) | RunCancelled(run=run) if run in self.found.runs:
                        self._once(run, "ended")
                        self._ended(fact)
                    case _:
                        pass
        self._over_all()
        return self.found

    def _say(self, run: str, what: str) -> None:
        self.found.wrong.append(f"run {run} of order {self.found.runs.get(run)} {what}")

    def _once(self, run: str, what: str) -> None:
        if (run, what) in self.once:
            self._say(run, f"{what} twice")
        self.once.add((run, what))

    def _resolved(self, fact: StepCompleted, at_ms: int) -> None:
        order = self.found.runs[fact.run]
        came = _event.decode(fact.data)
        if came is None:
            self.found.by_timeout += 1
            self._say(fact.run, "waited in vain")
            return
        self.found.resolved_ms[order] = at_ms
        if (came.data.order_id, came.data.answer) != (order, answer_id(order)):
            self._say(fact.run, f"took the answer {came.data}")

    def _ended(self, fact: RunCompleted | RunFailed | RunCancelled) -> None:
        self.found.closed.add(fact.run)
        if not isinstance(fact, RunCompleted):
            self._say(fact.run, f"should have completed, got {fact}")
            return
        result, order = _result.decode(fact.result), self.found.runs[fact.run]
        if (result.order_id, result.answer) != (order, answer_id(order)):
            self._say(fact.run, f"ended with {result}")

    def _over_all(self) -> None:
        runs = self.found.runs
        orders = set(runs.values())
        for run in runs.keys() - self.found.closed:
            self._say(run, "is open")
        if len(runs) != len(orders):
            self.found.wrong.append(f"{len(runs)} runs of {len(orders)} orders: an event has started two")
        missing = self.asked - orders
        if missing:
            self.found.wrong.append(f"{len(missing)} orders have no run, such as {min(missing)}")
