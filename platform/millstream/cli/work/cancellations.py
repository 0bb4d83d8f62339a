"""``millstream runs cancel --function …`` and ``millstream cancellations list | stop``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from millstream.cli.support.api_client import Server
from millstream.cli.support.arguments import cancellation_of
from millstream.cli.support.exits import OK, USAGE, note
from millstream.cli.support.output import show_rows
from millstream.config import Settings
from millstream.core.triggers.expressions import compile_expression

COLUMNS: Final = ("id", "function_id", "state", "looked_at", "cancelled", "started_before", "if", "reason")
STARTED_COLUMNS: Final = ("id", "function_id", "started_after", "started_before", "if", "reason")
RUN_COLUMNS: Final = ("run_id", "state", "function_id", "event_name", "queued_at")
RUNS_SHOWN_MAX: Final = 1_000
OPEN: Final = "Queued,Running"


def cancel_many(settings: Settings, wanted: Mapping[str, str], *, yes: bool, dry_run: bool) -> int:
    """Have every lane end the open runs that fit; with ``dry_run`` print those that are looked at."""
    if not yes and not dry_run:
        note("error: nothing was cancelled: say --yes to cancel these runs, or --dry-run to look at them")
        return USAGE
    asked = {name: value for name, value in wanted.items() if value}
    with Server(settings) as server:
        if dry_run:
            return _look(settings, server, asked)
        begun = server.cancel_many(asked)
        show_rows(settings, [begun], STARTED_COLUMNS)
    note(f"cancellation {begun['id']} looks through all lanes. See how far it is: millstream cancellations list")
    return OK


def _look(settings: Settings, server: Server, asked: Mapping[str, str]) -> int:
    if asked.get("if"):
        compile_expression(asked["if"])  # Refused here as the server would.
    before = asked["started_before"]
    query = [("function", asked["function_id"]), ("status", OPEN), ("from", asked.get("started_after", ""))]
    query += [("to", before if before != "now" else "")]
    rows = list(server.runs([(name, value) for name, value in query if value], RUNS_SHOWN_MAX))
    show_rows(settings, rows, RUN_COLUMNS)
    many = f"{len(rows)}{' or more' if len(rows) == RUNS_SHOWN_MAX else ''} run(s)"
    said = f"those of {many} whose event fulfils {asked['if']!r}" if asked.get("if") else many
    note(f"would cancel {said}")
    return OK


def list_cancellations(settings: Settings, limit: int) -> int:
    """Print the newest cancellations with how far they are."""
    with Server(settings) as server:
        show_rows(settings, server.cancellations(limit), COLUMNS)
    return OK


def stop(settings: Settings, id: str) -> int:
    """Stop a cancellation; what it has cancelled stays so."""
    cancellation_of(id)
    with Server(settings) as server:
        show_rows(settings, [server.stop_cancelling(id)], ("id", "state"))
    return OK
