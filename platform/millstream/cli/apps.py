"""``millstream apps list | sync | remove``: the apps of a server, and whether those over HTTP answer."""

from __future__ import annotations

from typing import Any, Final

from millstream.cli.support.api_client import Server
from millstream.cli.support.exits import OK, note
from millstream.cli.support.output import chosen, counted, show_rows
from millstream.config import Settings

COLUMNS: Final = ("id", "url", "sdk", "framework", "functions", "seen_at", "state")
HERE: Final = "in a worker"
UNSEEN: Final = "not looked at"
REACHABLE: Final = "reachable"
UNREACHABLE: Final = "not reachable"


def list_apps(settings: Settings) -> int:
    """Print the apps; on a terminal with a line for each that cannot be reached."""
    with Server(settings) as server:
        rows = server.apps()
    if chosen(settings) != "table":
        show_rows(settings, rows, COLUMNS)
        return OK
    show_rows(settings, [row | {"functions": len(row["functions"]), "state": _state(row)} for row in rows], COLUMNS)
    for row in rows:
        if row["why"]:
            note(f"{row['id'] or row['url']}: {row['why']}")
    return OK


def sync(settings: Settings, url: str) -> int:
    """Have the app at an address register now."""
    with Server(settings) as server:
        done = server.sync_app(url)
    show_rows(settings, [done], ("app", "url", "modified"))
    return OK


def remove(settings: Settings, app: str) -> int:
    """Take an app out."""
    with Server(settings) as server:
        done = server.remove_app(app)
    show_rows(settings, [done | {"functions": len(done["functions"])}], ("id", "url", "functions"))
    note(
        f"{counted(len(done['functions']), 'function')} of app {app!r} start no more; their open runs stay. The app "
        "comes back where it registers again."
    )
    return OK


def _state(row: dict[str, Any]) -> str:
    if not row["url"]:
        return HERE
    return UNSEEN if row["reachable"] is None else REACHABLE if row["reachable"] else UNREACHABLE
