"""``millstream functions list | get | invoke``: what is registered, who queues at its gates, one started by its id."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from millstream.cli.support.api_client import Server
from millstream.cli.support.arguments import object_of
from millstream.cli.support.exits import OK, note
from millstream.cli.support.output import chosen, counted, show_document, show_line, show_rows, show_table
from millstream.cli.work.runs import watch
from millstream.config import Settings
from millstream.errors import NotStarted

COLUMNS: Final = ("id", "app", "triggers", "retries", "flow")
QUEUE_COLUMNS: Final = ("gate", "key", "running", "queued", "oldest_at", "next_slot_at", "kept")


def list_functions(settings: Settings) -> int:
    """Print the functions that are registered."""
    with Server(settings) as server:
        rows = server.functions()
    show_rows(settings, rows, COLUMNS)
    return OK


def get(settings: Settings, function: str) -> int:
    """Print what a function declares, and for each value of its gates' keys who runs, queues and is kept."""
    with Server(settings) as server:
        seen = server.queues(function)
    match chosen(settings):
        case "json":
            show_document(seen)
        case "jsonl":
            show_line(seen)
        case _:
            _show(seen)
    return OK


def _show(seen: dict[str, Any]) -> None:
    rows = [{"": "function", "value": seen["function_id"]}]
    rows += [{"": name.replace("_", " "), "value": rule} for name, rule in seen["flow"].items()]
    rows += [{"": name, "value": seen[name]} for name in ("running", "queued", "kept")]
    show_table(rows, ("", "value"))
    if not seen["queues"]:
        return
    print()
    show_table((_queue_row(one) for one in seen["queues"]), QUEUE_COLUMNS)
    if (more := seen["places"] - len(seen["queues"])) > 0:
        note(f"{more:,} more values of keys are not shown: those with the longest queues come first")


def _queue_row(one: dict[str, Any]) -> dict[str, Any]:
    kept, key = one["kept"], one["key"]
    text = ""
    if kept:
        text = (
            f"{counted(kept['events'], 'event')}, {f'until {at}' if (at := kept['due_at']) else 'behind the open run'}"
        )
    return one | {"kept": text, "key": "" if key is None else msgspec.json.encode(key).decode()}


def invoke(settings: Settings, function: str, data: str | None, *, until_it_ends: bool) -> int:
    """Start it; 0 once the run exists. Watched, the exit code is that of ``runs watch``.

    Raises NotFound; NotStarted where a gate has skipped it, or keeps it for later and there is nothing to watch yet.
    """
    wanted = object_of(data, "--data") if data is not None else {}
    with Server(settings) as server:
        answer = server.invoke(function, wanted)
    run = answer["run_id"]
    is_kept = bool(answer.get("kept"))
    if is_kept and until_it_ends:
        raise NotStarted(
            f"function {function!r} was not started yet: a run of it is open, and its singleton keeps this start until "
            f"that is over, as run {run}, unless a newer one comes. Then: millstream runs watch {run}"
        )
    if until_it_ends:
        return watch(settings, str(run))
    kept = {"kept": "until the open run is over"} if is_kept else {}
    show_rows(settings, [{"run_id": run, "event_id": answer["id"], **kept}], ("run_id", "event_id", *kept))
    return OK
