"""The index as evidence: it has folded only what was durable, so a log that ends before it has lost something.

It is a cache without checksums: what it says counts only where the log's own mark is lost, and one that cannot be read
says nothing.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Final

from millstream.errors import ConfigError
from millstream.history.index import Folded
from millstream.log.port import Log
from millstream.telemetry import say

LOG: Final = logging.getLogger("millstream.history")


async def folded_too_far(log: Log, path: Path) -> str:
    """Which partitions of the log end before what the index has folded, in words; "" where none does."""
    lost = []
    for at in _positions(path):
        try:
            end = await log.end_offset(at.topic, at.partition)
        except ConfigError:
            end = 0  # Not even the topic is there.
        if end < at.position:
            lost.append(f"topic {at.topic!r} partition {at.partition}: offsets {end} to {at.position - 1}")
    return f"acknowledged records are missing from the log: {path} has folded more. {'; '.join(lost)}." if lost else ""


def keep_aside(path: Path) -> None:
    """Move an index away; what is at its place is folded afresh."""
    say(LOG, "history kept aside", level=logging.WARNING, index=str(path), meaning="it is made anew from the log")
    now = datetime.fromtimestamp(time.time(), UTC)
    for file in chain([path], (path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        if file.exists():
            file.rename(file.with_name(f"{file.name}.lost-{now:%Y%m%dT%H%M%SZ}"))


def _positions(path: Path) -> list[Folded]:
    if not path.exists():
        return []
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        try:
            rows = db.execute("SELECT topic, partition, position FROM position").fetchall()
            return [Folded(*row) for row in rows if tuple(map(type, row)) == (str, int, int)]
        finally:
            db.close()
    except (sqlite3.Error, UnicodeDecodeError):
        return []
