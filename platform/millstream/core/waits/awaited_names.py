"""The names of the events that this lane forwards, since somebody waits for such."""

from __future__ import annotations

import typing
from collections.abc import Collection, Mapping
from typing import Final

from millstream.core.tables import Tables

ROWS_MAX: Final = 100_000
Wanted = Mapping[str, Collection[int]]
"""Paths, each with the homes that somebody waits at."""


def awaited(tables: Tables) -> dict[str, Wanted]:
    """The names of the events that are forwarded; by what paths, and to which homes."""
    version = tables.interests.version
    held = tables.memo.get("interests")
    if held is not None and held[0] == version:
        assert isinstance(held[1], dict)
        return held[1]
    found: dict[str, dict[str, set[int]]] = {}
    for (event, path, home), _ in tables.interests.scan(limit=ROWS_MAX):
        found.setdefault(event, {}).setdefault(path, set()).add(home)
    tables.memo["interests"] = (version, found)
    return typing.cast("dict[str, Wanted]", found)
