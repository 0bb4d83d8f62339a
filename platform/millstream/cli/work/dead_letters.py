"""``millstream dead-letters list | show | redrive``: records that could not be taken, and one of them once more."""

from __future__ import annotations

from typing import Final

from millstream.cli.support.api_client import Server
from millstream.cli.support.exits import OK, note
from millstream.cli.support.output import show_rows
from millstream.config import Settings

COLUMNS: Final = ("id", "at", "topic", "partition", "offset", "bytes", "reason")
SHOWN: Final = (*COLUMNS, "key", "headers", "value")


def list_letters(settings: Settings, limit: int) -> int:
    """Print the newest dead letters."""
    with Server(settings) as server:
        letters = server.dead_letters(limit)
    show_rows(settings, letters, COLUMNS)
    if not letters:
        note("there are no dead letters")
    return OK


def show(settings: Settings, id: str) -> int:
    """Print one with its key, value and headers."""
    with Server(settings) as server:
        show_rows(settings, [server.dead_letter(id)], SHOWN)
    return OK


def redrive(settings: Settings, id: str, function: str) -> int:
    """Start functions on the record of a dead letter once more."""
    with Server(settings) as server:
        answer = server.redrive(id, function)
    show_rows(settings, answer["redriven"], ("function_id", "scan"))
    note(f"dead letter {id} is read again. A record that still cannot be read becomes a new dead letter.")
    return OK
