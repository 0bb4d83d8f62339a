"""The rows of a table that are in memory: what ``LayeredTable.get`` is, and how the rows of one group are found.

A group is the rows whose keys begin with the same field: all who wait at one place. A table of many small groups is
never scanned for one of them: those in memory are known by their group, those in the store lie together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from millstream.model.rows import Row
from millstream.state.keys import Key

K = TypeVar("K", bound=Key)
R = TypeVar("R", bound=Row)


class Live(dict[K, R | None], Generic[K, R]):
    """The newest row of each key that is in memory; looks into the store for the others."""

    __slots__ = ("_load",)

    def __init__(self, load: Callable[[K], R | None]) -> None:
        super().__init__()
        self._load = load

    def __missing__(self, key: K) -> R | None:
        return self._load(key)


class GroupedLive(Live[K, R]):
    """The same, and its keys by their first field."""

    __slots__ = ("groups",)

    def __init__(self, load: Callable[[K], R | None]) -> None:
        super().__init__(load)
        self.groups: dict[Any, set[K]] = {}

    def __setitem__(self, key: K, row: R | None, /) -> None:
        if key not in self:
            self.groups.setdefault(key[0], set()).add(key)  # type: ignore[index]
        super().__setitem__(key, row)

    def __delitem__(self, key: K, /) -> None:
        super().__delitem__(key)
        self._left(key)

    def pop(self, key: K, default: R | None = None, /) -> R | None:  # type: ignore[override]
        """Remove a key; its row, or ``default``."""
        if key not in self:
            return default
        row = self[key]
        del self[key]
        return row

    def _left(self, key: K) -> None:
        group = self.groups[key[0]]  # type: ignore[index]
        group.discard(key)
        if not group:
            del self.groups[key[0]]  # type: ignore[index]
