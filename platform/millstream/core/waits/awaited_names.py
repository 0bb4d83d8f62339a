"""The names of the events that this lane forwards, since somebody waits for such."""

from __future__ import annotations

from typing import Final

from millstream.core.tables import Tables

ROWS_MAX: Final = 100_000


def awaited(tables: Tables) -> dict[str, tuple[str, ...]]:
    """The names of the events that are forwarded, with the paths by which they are."""
    version = tables.interests.version
    held = tables.memo.get("interests")
    if held is not None and held[0] == version:
        assert isinstance(held[1], dict)
        return held[1]
    found: dict[str, tuple[str, ...]] = {}
    for (event, path), _ in tables.interests.scan(limit=ROWS_MAX):
        found[event] = (*found.get(event, ()), path)
    tables.memo["interests"] = (version, found)
    return found
