"""``millstream functions backfill`` and ``millstream scans list | cancel``."""

from __future__ import annotations

from typing import Any, Final

from millstream.cli.support.api_client import Server
from millstream.cli.support.exits import OK, USAGE, note
from millstream.cli.support.output import show_rows
from millstream.config import Settings

COLUMNS: Final = ("scan", "function_id", "topic", "partition", "status", "from", "at", "to", "runs_started")
RANGE_COLUMNS: Final = ("partition", "from", "to", "records")


def backfill(settings: Settings, function: str, wanted: dict[str, Any], *, yes: bool) -> int:
    """Say which records a backfill would read, and with ``yes`` begin it. The ranges are fixed at that moment."""
    with Server(settings) as server:
        answer = server.backfill(function, wanted | {"dry_run": not yes})
    rows = [one | {"records": one["to"] - one["from"]} for one in answer["ranges"]]
    show_rows(settings, rows, RANGE_COLUMNS)
    records = f"{answer['records']} record(s) of topic {answer['topic']} for function {function}"
    if yes:
        note(f"scan {answer['scan']} reads {records}. See how far it is: millstream scans list")
        return OK
    if wanted.get("dry_run"):
        note(f"would read {records}")
        return OK
    note(f"error: nothing was started: say --yes to read {records}, or --dry-run to look only")
    return USAGE


def list_scans(settings: Settings) -> int:
    """Print a row for each partition of each scan, the newest first."""
    with Server(settings) as server:
        show_rows(settings, server.scans(), COLUMNS)
    return OK


def cancel(settings: Settings, scan: str) -> int:
    """End a scan; the runs it has started go on."""
    with Server(settings) as server:
        answer = server.cancel_scan(scan)
    show_rows(settings, [answer], ("scan", "status"))
    return OK
