"""``millstream runs list | get | watch | cancel``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
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
from millstream.model.durations import duration_text

POLL_S: Final = 0.25
APPEARS_S: Final = 2.0
"""A run that was just started may not be in the history yet: this long, not found means not yet."""
COLUMNS: Final = ("run_id", "status", "function_id", "event_name", "queued_at", "took")
STEP_COLUMNS: Final = ("step", "kind", "status", "attempts", "took", "wake_at", "error")
OVER: Final = ("Completed", "Failed", "Cancelled")


def list_runs(settings: Settings, query: Sequence[tuple[str, str]], limit: int) -> int:
    """Print the newest runs that fit."""
    with Server(settings) as server:
        rows = server.runs([(name, value) for name, value in query if value], limit)
        table = chosen(settings) == "table"
        show_rows(settings, (_with_length(run) for run in rows) if table else rows, COLUMNS)
    return OK


def get(settings: Settings, run_id: str) -> int:
    """Print one run with its steps."""
    run_of(run_id)
    with Server(settings) as server:
        run = server.run(run_id)
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
                complain(error)
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
    show: Callable[[dict[str, Any]], None] = {"table": _show_change, "jsonl": show_line}.get(form, lambda change: None)
    known: dict[object, object] = {}
    with Server(settings) as server:
        run = _when_there(server, run_id, deadline)
        while True:
            for change in _changes(run, known):
                show(change)
            if run["status"] in OVER:
                break
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimedOut(
                    f"run {run_id} has not ended after {duration_text(timeout_ms)}: it is {run['status']}. "
                    "Watch again, or allow more with --timeout."
                )
            time.sleep(min(POLL_S, left))
            run = server.run(run_id)
    if form == "json":
        show_document(run)
    if run["status"] == "Completed":
        return OK
    error = run.get("error") or {}
    note(f"run {run_id} {str(run['status']).lower()}: {error.get('name', '')}: {error.get('message', '')}")
    return FAILED


def _when_there(server: Server, run_id: str, deadline: float) -> dict[str, Any]:
    appears = min(time.monotonic() + APPEARS_S, deadline)
    while True:
        try:
            return server.run(run_id)
        except NotFound:
            if time.monotonic() >= appears:
                raise
            time.sleep(POLL_S)


def _changes(run: dict[str, Any], known: dict[object, object]) -> Iterator[dict[str, Any]]:
    """What is new since the last look: attempts of steps, states of steps, the state of the run."""
    if run["status"] not in OVER:
        yield from _run_change(run, known)
    for step in run["steps"]:
        head = {"run_id": run["run_id"], "step": step["name"], "id": step["id"], "kind": step["kind"]}
        for number, attempt in enumerate(step["attempts"]):
            if (step["id"], number) not in known:
                known[step["id"], number] = True
                yield (
                    head
                    | {"at": attempt["ended_at"], "took": _length(attempt)}
                    | {name: attempt[name] for name in ("attempt", "status", "error", "retry_at")}
                )
        if known.get((step["id"],)) != step["status"]:
            known[step["id"],] = step["status"]
            if not step["attempts"] or step["status"] == "planned":  # What has attempts is told by them.
                at = step["ended_at"] if step["status"] == "completed" else step["started_at"]
                yield head | {"at": at, "status": step["status"], "wake_at": step["wake_at"]}
    if run["status"] in OVER:
        yield from _run_change(run, known)


def _run_change(run: dict[str, Any], known: dict[object, object]) -> Iterator[dict[str, Any]]:
    if known.get("run") != run["status"]:
        known["run"] = run["status"]
        at = run["ended_at"] or run["run_started_at"] or run["queued_at"]
        yield {"run_id": run["run_id"], "at": at, "status": run["status"], "output": run.get("output")}


def _show_change(change: dict[str, Any]) -> None:
    status = str(change["status"])
    head = f"{_clock(change['at'])}  {coloured(f'{status.lower():<10}', STATUS_COLOURS.get(status.lower(), ''))}"
    if "step" not in change:
        tail = "" if change["output"] is None else msgspec.json.encode(change["output"]).decode()[:200]
        print(f"{head}run {change['run_id']}  {tail}".rstrip(), flush=True)
        return
    words = [f"{change['kind']} {change['step']}"]
    if change.get("attempt"):
        words.append(f"attempt {change['attempt'] + 1}")
    words += [change["took"]] if change.get("took") else []
    if change.get("error"):
        words.append(f"{change['error']['name']}: {change['error']['message']}")
    if change.get("retry_at"):
        words.append(f"again at {_clock(change['retry_at'])}")
    if change.get("wake_at") and status == "sleeping":
        words.append(f"until {change['wake_at']}")
    print(head + "  ".join(words), flush=True)


def _show_run(run: dict[str, Any]) -> None:
    shown = ("run_id", "status", "function_id", "event_name", "event_id", "queued_at", "run_started_at", "ended_at")
    rows = [{"": name.replace("_", " "), "value": run.get(name)} for name in shown if run.get(name)]
    if run.get("output") is not None and not run.get("error"):
        rows.append({"": "output", "value": run["output"]})
    if run.get("error"):
        rows.append({"": "error", "value": f"{run['error']['name']}: {run['error']['message']}"})
    show_table(rows, ("", "value"))
    if run["steps"]:
        print()
        show_table((_step_row(step) for step in run["steps"]), STEP_COLUMNS)


def _step_row(step: dict[str, Any]) -> dict[str, Any]:
    errors = [attempt["error"] for attempt in step["attempts"] if attempt.get("error")]
    last = f"{errors[-1]['name']}: {errors[-1]['message']}" if errors else ""
    waits = step["wake_at"] if step["status"] == "sleeping" else ""
    count = len(step["attempts"])
    return step | {"step": step["name"], "attempts": count, "took": _length(step), "wake_at": waits, "error": last}


def _with_length(run: dict[str, Any]) -> dict[str, Any]:
    return run | {"took": _length({"started_at": run["queued_at"], "ended_at": run["ended_at"]})}


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
