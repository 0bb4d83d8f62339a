"""What must be true, as pure functions over what was sent, what the ledger says and what the product says.

Every function gives sentences about what is wrong; no sentence means all is well. Each names the event or run, so
that the ledger, the log and the index that are kept beside it can be searched for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from millstream.history.trail import COUNTED
from tests.chaos.functions import FAILS_ONCE, SHAPES, STARTED_BY, WAITS, Line
from tests.chaos.halts import Halts
from tests.chaos.sender import Sent

WORKER_LOST = "WorkerLost"


@dataclass
class RunLines:
    """The ledger of one run: begins and ends with their place in the ledger."""

    run: str
    function: str
    event: str
    parent: str
    begins: list[tuple[int, Line]] = field(default_factory=list)
    ends: list[tuple[int, Line]] = field(default_factory=list)

    @property
    def last_ended(self) -> bool:
        """Whether every step of the last layer has ended at least once."""
        return {line.step for _, line in self.ends} >= set(SHAPES[self.function][-1])


def by_run(lines: Sequence[Line]) -> dict[str, RunLines]:
    """The ledger, run by run."""
    runs: dict[str, RunLines] = {}
    for place, line in enumerate(lines):
        run = runs.setdefault(line.run, RunLines(line.run, line.function, line.event, line.parent))
        (run.begins if line.what == "begin" else run.ends).append((place, line))
    return runs


def unfinished(sent: Iterable[Sent], runs: dict[str, RunLines]) -> list[str]:
    """Acknowledged events, and events sent by functions, whose run's last step has not ended yet."""
    done = {(run.function, run.event) for run in runs.values() if run.last_ended}
    left = [
        f"acknowledged event {event.id or event.internal_ids[0]} ({event.function}) has no finished run"
        for event in sent
        if event.acknowledged and not any((event.function, name) in done for name in event.names)
    ]
    for child, function in STARTED_BY.items():
        parents = {run.parent for run in runs.values() if run.function == child and run.last_ended}
        left += [
            f"run {run.run} has started no {child}, or that has not finished"
            for run in runs.values()
            if run.function == function and run.last_ended and run.run not in parents
        ]
    return left


def started_twice(sent: Sequence[Sent], runs: dict[str, RunLines]) -> list[str]:
    """Events with more than one run of a function, and runs that no event asked for."""
    wrong = []
    of_event: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in runs.values():
        who = run.parent if run.function in STARTED_BY else run.event
        of_event[run.function, who].add(run.run)
    for (function, who), ids in of_event.items():
        if len(ids) > 1:
            wrong.append(f"{function} ran {len(ids)} times for {who}: {', '.join(sorted(ids))}")
    asked = {name for event in sent for name in event.names}
    uncertain = any(not event.id and not event.acknowledged for event in sent)  # Its id was never told.
    for run in runs.values():
        if run.function in STARTED_BY:
            parent = runs.get(run.parent)
            if parent is None or parent.function != STARTED_BY[run.function]:
                wrong.append(f"run {run.run} was started by run {run.parent!r}, which is not in the ledger")
        elif not uncertain and run.event not in asked:
            wrong.append(f"run {run.run} is of event {run.event}, which nobody sent")
    return wrong


def out_of_order(runs: dict[str, RunLines], halts: Halts | None = None) -> list[str]:
    """Steps that began (again) after a step behind them had begun; results that were not what was recorded.

    ``halts`` excuse the first, where the process was halted and had just gone on; never the second.
    """
    wrong = []
    for run in runs.values():
        layer_of = {step: number for number, layer in enumerate(SHAPES[run.function]) for step in layer}
        reached = -1
        given: dict[str, str] = {}
        tokens: dict[str, set[str]] = defaultdict(set)
        for _, line in run.ends:
            tokens[line.step].add(line.token)
        for place, line in run.begins:
            layer = layer_of.get(line.step)
            if layer is None:
                wrong.append(f"run {run.run} ran a step it does not have: {line.step}")
                continue
            excused = halts is not None and halts.excuses(line.pid, line.at_ns)
            if layer < reached and not excused:
                wrong.append(f"run {run.run} ran step {line.step} again (line {place}) after layer {reached} had begun")
            reached = max(reached, layer)
            missing = {s for n, steps in enumerate(SHAPES[run.function]) if n < layer for s in steps} - set(line.given)
            if missing:
                wrong.append(f"run {run.run} step {line.step} (line {place}) began without results of {missing}")
            for step, token in line.given.items():
                if given.setdefault(step, token) != token:
                    wrong.append(f"run {run.run} step {step}: result was {given[step]}, then {token} (line {place})")
                if token not in tokens[step] and step not in WAITS.get(run.function, ()):
                    wrong.append(f"run {run.run} step {step}: recorded result {token} was never returned by it")
    return wrong


def answered_wrongly(sent: Iterable[Sent], runs: dict[str, RunLines]) -> list[str]:
    """Waits that ended with something else than what was sent to their run, or than what their child returned."""
    wrong = []
    events = {(event.function, name): event for event in sent for name in event.names}
    returned: dict[str, set[str]] = defaultdict(set)
    for run in runs.values():
        if run.function in STARTED_BY:
            returned[run.parent] |= {line.token for _, line in run.ends}
    for run in runs.values():
        given: dict[str, str] = {}
        for _, line in run.begins:
            given |= line.given
        event = events.get((run.function, run.event))
        for step in WAITS.get(run.function, frozenset()) & given.keys():
            if run.function in STARTED_BY.values():
                right = returned[run.run]
            elif event is None:
                continue  # It was never acknowledged, and has no id of ours: nobody can say what was sent to it.
            else:
                right = _right(event, step, given)
            if given[step] not in right:
                wrong.append(f"run {run.run} step {step}: expected one of {sorted(right)}, got {given[step]!r}")
    return wrong


def _right(event: Sent, step: str, given: dict[str, str]) -> set[str]:
    """What a wait for events or a signal may have ended with."""
    answers, seconds = event.answers.get("chaos/answer", []), event.answers.get("chaos/second", [])
    match step:
        case "go":
            return {event.signal} if event.is_signalled or event.signal else {"", f"{event.data['key']}/signal"}
        case "both":
            return {f"{one}|{other}" for one in answers for other in seconds}
        case "again":
            return set(answers) - {given["both"].partition("|")[0]}
        case _:
            return {*answers, *seconds}


def told_differently(run: dict[str, Any], lines: RunLines | None) -> list[str]:
    """What ``GET /v1/runs/{id}`` says against the ledger."""
    name = run["run_id"]
    if lines is None:
        return [f"run {name} is {run['status']} but no step of it is in the ledger"]
    if run["status"] == "Failed" and (run.get("error") or {}).get("name") == WORKER_LOST:
        return []  # Killed too often while it ran: the one lawful way to fail here.
    if run["status"] != "Completed":
        return [f"run {name} should be Completed, is {run['status']}: {run.get('error')}"]
    wrong = []
    returned: dict[str, set[str]] = defaultdict(set)
    given: dict[str, str] = {}
    for _, line in lines.ends:
        returned[line.step].add(line.token)
    for _, line in lines.begins:
        given |= line.given
    output = run["output"]
    steps = {step["name"]: step for step in run["steps"] if step["kind"] == "run"}
    every = {step for layer in SHAPES[lines.function] for step in layer}
    waits = WAITS.get(lines.function, frozenset())
    wanted = every - waits
    waited = {step["name"] for step in run["steps"] if step["kind"] != "run"}
    if set(output) != every or not waits <= waited:
        wrong.append(f"run {name} should have waited at {sorted(waits)}, did at {sorted(waited)} and returned {output}")
    elif set(steps) != wanted or len(run["steps"]) != len({s["id"] for s in run["steps"]}):
        wrong.append(f"run {name} should have steps {sorted(wanted)}, has {sorted(steps)} and returned {output}")
    if wrong:
        return wrong
    for step, token in output.items():
        if step in waits:
            if given.get(step, token) != token:
                wrong.append(f"run {name} step {step}: later steps got {given[step]}, the run returned {token}")
            continue
        if token not in returned[step]:
            wrong.append(f"run {name} step {step}: its recorded result {token} was never returned by it")
        if given.get(step, token) != token:
            wrong.append(f"run {name} step {step}: later steps got {given[step]}, the run returned {token}")
        if steps[step]["output"] != token:
            wrong.append(f"run {name} step {step}: history says {steps[step]['output']}, the run returned {token}")
        attempts = [a["status"] for a in steps[step]["attempts"] if a["status"] in COUNTED]
        expected = ["failed", "completed"] if step == FAILS_ONCE else ["completed"]
        if attempts != expected:
            wrong.append(f"run {name} step {step}: expected attempts {expected}, history has {attempts}")
    return wrong
