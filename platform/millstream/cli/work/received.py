"""``millstream events list | get``: the events that were received, and what they started."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from millstream.cli.support.api_client import Server
from millstream.cli.support.exits import OK
from millstream.cli.support.output import chosen, show_document, show_line, show_rows, show_table
from millstream.config import Settings

COLUMNS: Final = ("internal_id", "name", "id", "received_at", "data")
SHOWN: Final = (
    "name",
    "internal_id",
    "id",
    "key",
    "received_at",
    "ts",
    "topic",
    "partition",
    "offset",
    "user",
    "v",
    "meta",
)
RUN_COLUMNS: Final = ("run_id", "state", "function_id", "queued_at")
NOTICE_COLUMNS: Final = ("kind", "function_id", "at", "reason")


def list_events(settings: Settings, query: Sequence[tuple[str, str]], limit: int) -> int:
    """Print the newest events that fit."""
    with Server(settings) as server:
        found = server.events([(name, value) for name, value in query if value], limit)
        table = chosen(settings) == "table"
        show_rows(settings, (event | {"data": _data(event)} for event in found) if table else found, COLUMNS)
    return OK


def get(settings: Settings, id: str) -> int:
    """Print one event, its runs, and the reasons why functions did not start. Raises NotFound."""
    with Server(settings) as server:
        event = server.event(id)
        event["runs"] = server.runs_of_event(id)
    match chosen(settings):
        case "json":
            show_document(event)
        case "jsonl":
            show_line(event)
        case _:
            _show(event)
    return OK


def _show(event: dict[str, Any]) -> None:
    rows = [{"": name.replace("_", " "), "value": event[name]} for name in SHOWN if event.get(name) not in (None, "")]
    show_table([*rows, {"": "data", "value": _data(event)}], ("", "value"))
    print()
    if event["runs"]:
        show_table(event["runs"], RUN_COLUMNS)
    elif event["notices"]:
        print("No function has started on it:")
    else:
        print("No function has started on it: none subscribes to its name, or if_ holds for none.")
    if event["notices"]:
        print()
        show_table(event["notices"], NOTICE_COLUMNS)


def _data(event: dict[str, Any]) -> Any:
    """Its data; the beginning of one that is too long for a listing."""
    cut = event.get("data_cut")
    return f"{cut['begins']}…" if cut else event["data"]
