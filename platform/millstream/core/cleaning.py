"""Cleaning up: what is remembered for a time only, seen ids and answered requests, is forgotten."""

from __future__ import annotations

from millstream.core import requests
from millstream.core.handles import Handler, Handles
from millstream.core.intake import seen
from millstream.core.tables import Tables
from millstream.core.waits import coverage, kept
from millstream.model.commands import CleanUp
from millstream.model.facts import Fact


def clean_up(tables: Tables, command: CleanUp, now_ms: int) -> list[Fact]:
    """Forget what is past its time; a limited number at once, the rest with the next call."""
    return [
        *seen.expired(tables, now_ms),
        *requests.expired(tables, now_ms),
        *kept.expired(tables, now_ms),
        *coverage.tended(tables, now_ms),
    ]


HANDLES = Handles(commands={CleanUp: Handler(clean_up)})
