"""``millstream runs list | get | watch | cancel``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from millstream.cli.support.api_client import Server
from millstream.cli.support.arguments import run_of
from millstream.cli.support.exits import FAILED, NOT_FOUND, OK, USAGE, TimedOut, complain, note
from millstream.cli.support.output import (
    STATUS_COLOURS,
    chosen,
    coloured,
    show_document,
    show_line,
    show_rows,
    show_table,
)
from millstream.config import Settings
from millstream.errors import NotFound
from millstream.model.text.durations import duration_text
from millstream.model.text.printable import one_line, printable
from millstream.model.waits.shown import WaitsFor, in_words

POLL_S: Final = 0.25
QUIET_S: Final = 10.0
"""Where only the end is printed, nothing needs to be looked at before it."""
APPEARS_S: Final = 2.0
"""A run that was just started may not be in the history yet: this long, not found means not yet."""
COLUMNS: Final = ("run_id", "state", "function_id", "event_name", "queued_at", "took")
STEP_COLUMNS: Final = ("step", "kind", "status", "attempts", "started", "took", "result")
GATE_COLUMNS: Final = ("gate", "key", "step", "asked", "queued")
ATTEMPTS_COUNTED: Final = ("completed", "failed")
"""How an attempt ends that counts as one: one whose worker died or stopped, or that found no code, does not."""
NAMES_SHOWN_MAX: Final = 20
BEGINNING_CHARS: Final = 200
OVER: Final = ("Completed", "Failed", "Cancelled")
STEP_OVER: Final = ("completed", "failed", "cancelled")


def list_runs(settings: Settings, query: Sequence[tuple[str, str]], limit: int) -> int:
    """Print the newest runs that fit. Raises NotFound for a function, an app or an event that is not there."""
    asked = {name: value for name, value in query if value}
    with Server(settings) as server:
        rows = list(server.runs([(name, value) for name, value in query if value], limit))
        if not rows:
            _refuse_unknown(server, asked)
        table = chosen(settings) == "table"
        show_rows(settings, (_with_length(run) for run in rows) if table else rows, COLUMNS)
    return OK


def _refuse_unknown(server: Server, asked: Mapping[str, str]) -> None:
    """Raise NotFound where nothing was found because there is no such function, app or event."""
    for what in ("function", "app"):
        if wanted := asked.get(what):
            known = sorted({str(one["slug" if what == "function" else "app"]) for one in server.functions()})
            if wanted not in known:
                names = ", ".join(known[:NAMES_SHOWN_MAX]) or "none"
                raise NotFound(f"{what} {wanted!r:.80} not found. Known {what}s: {names}.")
    if wanted := asked.get("event"):
        try:
            server.event(wanted)
        except NotFound:
            raise NotFound(
                f"event {wanted!r:.80} not found: expected the id that a send answered with, or the sender's own. "
                "One that was sent a moment ago may take a moment to be shown; older ones are forgotten."
            ) from None


def get(settings: Settings, run_id: str) -> int:
    """Print one run: its input, its steps with results and attempts, its errors with their tracebacks."""
    run_of(run_id)
    with Server(settings) as server:
        try:
            run = server.run(run_id)
        except NotFound as error:
            raise _no_run(server, run_id, error) from None
        run["input"] = _input(server, run)
    match chosen(settings):
        case "json":
            show_document(run)
        case "jsonl":
            show_line(run)
        case _:
            _show_run(run)
    return OK


def cancel(settings: Settings, run_ids: Sequence[str], *, yes: bool, dry_run: bool) -> int:
    """Cancel runs; 0 when each is cancelled now, 1 when one was over already, 4 when one is not there."""
    if not yes and not dry_run:
        note(f"error: nothing was cancelled: say --yes to cancel {len(run_ids)} run(s), or --dry-run to look at them")
        return USAGE
    for run_id in run_ids:
        run_of(run_id)
    code = OK
    rows = []
    with Server(settings) as server:
        for run_id in run_ids:
            try:
                answer = server.run(run_id) if dry_run else server.cancel(run_id)
            except NotFound as error:
                complain(_no_run(server, run_id, error))
                code = NOT_FOUND
                continue
            status = str(answer["status"])
            rows.append({"run_id": run_id, "status": status})
            if dry_run:
                note(f"{run_id} {'would be cancelled' if status not in OVER else f'is over: {status}'}")
            elif status != "Cancelled":
                note(f"{run_id} was over already: {status}")
                code = code or FAILED
    show_rows(settings, rows, ("run_id", "status"))
    return code


def watch(settings: Settings, run_id: str) -> int:
    """Print a run's steps as they happen, until it ends: 0, or 1 if it failed or was cancelled. Raises TimedOut."""
    run_of(run_id)
    timeout_ms = settings.number("timeout", -1)
    deadline = time.monotonic() + timeout_ms / 1000 if timeout_ms >= 0 else float("inf")
    form = chosen(settings)
    shows: dict[str, Callable[[dict[str, Any]], None]] = {"table": _show_change, "jsonl": show_line}
    show = shows.get(form)
    known: dict[object, object] = {}
    with Server(settings) as server:
        run = _when_there(server, run_id, deadline)
        while True:
            if show is not None:
                for change in _changes(run, known):
                    show(change)
            if run["status"] in OVER:
                break
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimedOut(
                    f"run {run_id} has not ended after {duration_text(timeout_ms)}: it is {run['state']}. "
                    "Watch again, or allow more with --timeout."
                )
            server.wait(run_id, min(QUIET_S if show is None else POLL_S, left))
            run = server.run(run_id)
    if form == "json":
        show_document(run)
    if run["status"] == "Completed":
        return OK
    error = run.get("error") or {}
    note(f"run {run_id} {str(run['status']).lower()}: {error.get('name', '')}: {error.get('message', '')}")
    return FAILED


def _no_run(server: Server, id: str, error: NotFound) -> NotFound:
    """Why there is no run of this id: it may be an event's, of which the runs are named."""
    try:
        event = server.event(id)
        runs = [str(run["run_id"]) for run in server.runs_of_event(id)]
    except NotFound:
        return error
    named = ", ".join(runs[:NAMES_SHOWN_MAX]) + (", …" if len(runs) > NAMES_SHOWN_MAX else "")
    started = f"it started {named}" if runs else "it started no run"
    return NotFound(
        f"{id} is an event, {event['name']!r:.200}, and not a run: {started}. See: millstream events get {id}"
    )


def _when_there(server: Server, run_id: str, deadline: float) -> dict[str, Any]:
    appears = min(time.monotonic() + APPEARS_S, deadline)
    while True:
        try:
            return server.run(run_id)
        except NotFound as error:
            if time.monotonic() >= appears:
                raise _no_run(server, run_id, error) from None
            time.sleep(POLL_S)


def _changes(run: dict[str, Any], known: dict[object, object]) -> Iterator[dict[str, Any]]:
    """What is new since the last look: attempts of steps, states of steps, the state of the run."""
    if run["status"] not in OVER:
        yield from _run_change(run, known)
    new = (change for step in run["steps"] for change in _step_changes(run["run_id"], step, known))
    yield from sorted(new, key=lambda change: str(change["at"] or ""))  # Steps may run side by side.
    if run["status"] in OVER:
        yield from _run_change(run, known)


def _step_changes(run_id: str, step: dict[str, Any], known: dict[object, object]) -> Iterator[dict[str, Any]]:
    head = {"run_id": run_id, "step": step["name"], "id": step["id"], "kind": step["kind"]}
    attempts = step["attempts"]
    for place, (number, attempt) in enumerate(numbered(attempts)):
        if (step["id"], place) not in known:
            known[step["id"], place] = True
            yield (
                head
                | {"at": attempt["ended_at"], "took": _length(attempt), "number": number}
                | ({"timed_out": True} if step.get("timed_out") else {})
                | {name: attempt[name] for name in ("attempt", "status", "error", "retry_at")}
            )
    if known.get((step["id"],)) != step["status"]:
        known[step["id"],] = step["status"]
        if not attempts or _is_untold(step):
            is_open = step["status"] not in STEP_OVER
            yield head | {
                "at": step["ended_at"] or (attempts[-1]["ended_at"] if attempts else step["started_at"]),
                "status": step["status"],
                "wake_at": step["wake_at"] if is_open else None,
                "waits_for": step["waits_for"] if is_open else None,
            }


def _is_untold(step: dict[str, Any]) -> bool:
    """Whether its attempts do not say how it stands: it goes on after it was parked, or its run has ended first."""
    if step["status"] == "planned":
        return bool(step["attempts"][-1]["status"] == "parked")
    return bool(step["status"] == "cancelled" and step["id"])


def _run_change(run: dict[str, Any], known: dict[object, object]) -> Iterator[dict[str, Any]]:
    if known.get("run") != run["status"]:
        known["run"] = run["status"]
        at = run["ended_at"] or run["run_started_at"] or run["queued_at"]
        yield {"run_id": run["run_id"], "at": at, "status": run["status"], "output": run.get("output")}


def _show_change(change: dict[str, Any]) -> None:
    status = str(change["status"])
    word = "timed out" if change.get("timed_out") else status.lower()
    head = f"{_clock(change['at'])}  {coloured(f'{word:<10}', STATUS_COLOURS.get(status.lower(), ''))}"
    if "step" not in change:
        tail = "" if change["output"] is None else msgspec.json.encode(change["output"]).decode()[:BEGINNING_CHARS]
        print(f"{head}run {change['run_id']}  {one_line(tail)}".rstrip(), flush=True)
        return
    words = [f"{change['kind']} {change['step']}"]
    if change.get("number", 0) > 1:
        words.append(f"attempt {change['number']}")
    words += [change["took"]] if change.get("took") else []
    if change.get("error"):
        words.append(f"{change['error']['name']}: {change['error']['message']}")
    if change.get("retry_at"):
        words.append(f"again at {_clock(change['retry_at'])}")
    if change.get("waits_for"):
        words.append(f"for {awaited(change)}")
    if change.get("wake_at"):
        words.append(f"until {change['wake_at']}")
    print(head + one_line("  ".join(words)), flush=True)


def _input(server: Server, run: dict[str, Any]) -> Any:
    """The data of the event that started it; None where that is not kept any more."""
    try:
        return server.event(str(run["event_id"])).get("data")
    except NotFound:
        return None


def _show_run(run: dict[str, Any]) -> None:
    shown = (
        "run_id",
        "state",
        "reason",
        "function_id",
        "event_name",
        "event_id",
        "queued_at",
        "run_started_at",
        "ended_at",
    )
    rows = [{"": name.replace("_", " "), "value": run.get(name)} for name in shown if run.get(name)]
    if parent := run.get("parent"):
        rows.append({"": "invoked by", "value": f"step {parent['step']} of run {parent['run_id']}"})
    rows += [{"": "took", "value": took}] if (took := _with_length(run)["took"]) else []
    rows += [{"": "input", "value": run["input"]}] if run["input"] is not None else []
    if run.get("output_cut"):
        rows.append({"": "output", "value": _beginning(run["output_cut"])})
    elif run.get("output") is not None and not run.get("error"):
        rows.append({"": "output", "value": run["output"]})
    show_table(rows, ("", "value"))
    if run.get("gates"):
        print()
        show_table((_gate_row(gate, run) for gate in run["gates"]), GATE_COLUMNS)
    if run["steps"]:
        print()
        show_table((_step_row(step) for step in run["steps"]), STEP_COLUMNS)
    for step in run["steps"]:
        if (child := (step.get("waits_for") or {}).get("run_id")) and step["status"] != "waiting":
            text = f"{step['name']} invoked run {child} of {step['waits_for']['function_id']}"
            print(f"\n{one_line(text)}")
    for step in run["steps"]:
        for number, attempt in numbered(step["attempts"]):
            if attempt.get("error"):
                _show_error(f"{step['name']}, {attempt_name(number, attempt)}", attempt, attempt["error"])
    if run.get("errors_cut"):
        note(f"{run['errors_cut']} older errors of attempts are not shown: too many for one answer")
    if run.get("error"):
        _show_error(f"run {str(run['status']).lower()}", run, run["error"])


def _beginning(cut: dict[str, Any]) -> str:
    """A value that is too long for an answer: how it begins, and where the whole is."""
    return f"{cut['begins'][:BEGINNING_CHARS]}… ({cut['bytes']:,} bytes, all at {cut['whole']})"


def _show_error(head: str, span: dict[str, Any], error: dict[str, Any]) -> None:
    words = [head, f"at {_clock(span.get('ended_at'))}"] + ([f"after {took}"] if (took := _length(span)) else [])
    words += [f"again at {_clock(span['retry_at'])}"] if span.get("retry_at") else []
    print(f"\n{coloured(one_line(', '.join(words)), 'red')}\n{printable(error['name'] + ': ' + error['message'])}")
    if error.get("stack"):
        print(printable(str(error["stack"]).rstrip()))


def numbered(attempts: Sequence[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Attempts with the number that people see: from 1; 0 for those that do not count."""
    number = 0
    for attempt in attempts:
        counts = attempt["status"] in ATTEMPTS_COUNTED
        number += counts
        yield number if counts else 0, attempt


def attempt_name(number: int, attempt: dict[str, Any]) -> str:
    """``attempt 2 failed``; one that does not count has no number."""
    return f"attempt {number} {attempt['status']}" if number else str(attempt["status"])


def _gate_row(gate: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """A gate, and how long it was stood at; of one at which the run stands still, until now."""
    until = gate["passed_at"] or run["ended_at"]
    is_open = until is None
    until = until or datetime.now(UTC).isoformat()
    took = _length({"started_at": gate["asked_at"], "ended_at": until})
    return gate | {"asked": _clock(gate["asked_at"]), "queued": f"for {took} so far" if is_open else took}


def _step_row(step: dict[str, Any]) -> dict[str, Any]:
    result = step["output"] if not step.get("output_cut") else _beginning(step["output_cut"])
    if step["status"] == "waiting":
        result = f"for {awaited(step)} until {step['wake_at']}"
    elif step["wake_at"] and step["status"] not in STEP_OVER:
        result = f"until {step['wake_at']}"
    elif errors := [attempt for attempt in step["attempts"] if attempt.get("error") and step["status"] != "completed"]:
        last = errors[-1]
        again = f", again at {_clock(last['retry_at'])}" if last.get("retry_at") else ""
        result = f"{last['error']['name']}: {last['error']['message']}{again}"
    count = sum(attempt["status"] in ATTEMPTS_COUNTED for attempt in step["attempts"])
    started = _clock(step["started_at"])
    step |= {"status": "timed out"} if step.get("timed_out") else {}
    return step | {"step": step["name"], "attempts": count, "started": started, "took": _length(step), "result": result}


def awaited(step: dict[str, Any]) -> str:
    """What a step waits for, in words."""
    return in_words(msgspec.convert(step["waits_for"], WaitsFor))


def _with_length(run: dict[str, Any]) -> dict[str, Any]:
    return run | {"took": _length({"started_at": run["run_started_at"], "ended_at": run["ended_at"]})}


def _length(span: dict[str, Any]) -> str:
    if not span.get("started_at") or not span.get("ended_at"):
        return ""
    length = datetime.fromisoformat(span["ended_at"]) - datetime.fromisoformat(span["started_at"])
    ms = max(0, round(length.total_seconds() * 1000))
    return duration_text(ms) if ms else "0ms"


def _clock(at: str | None) -> str:
    """The local time of day of an answer's time."""
    if not at:
        return " " * 12
    return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S.%f")[:12]
