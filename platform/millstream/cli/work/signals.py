"""``millstream signals send``: data for the run that waits for a signal of this name."""

from __future__ import annotations

from millstream.cli.support.api_client import Server
from millstream.cli.support.arguments import json_of
from millstream.cli.support.exits import OK
from millstream.cli.support.jsonl import decoded
from millstream.cli.support.output import show_rows
from millstream.config import Settings


def send(settings: Settings, name: str, data: str) -> int:
    """Send it, and print the run that waited for it. Raises NotFound where none does."""
    raw = json_of(data, "DATA")
    decoded(raw, "DATA")
    with Server(settings) as server:
        answer = server.send_signal(name, raw)
    show_rows(settings, [{"signal": name, "run_id": answer["run_id"]}], ("signal", "run_id"))
    return OK
