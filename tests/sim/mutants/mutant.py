"""A deliberate fault: what it is, and how it comes into the product and goes again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


class Patch:
    """Attributes changed for a while."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any, bool]] = []

    def set(self, owner: Any, name: str, value: Any) -> Any:
        """Set an attribute (or an item of a dict); returns what was there."""
        if isinstance(owner, dict):
            before = owner[name]
            self._before.append((owner, name, before, True))
            owner[name] = value
            return before
        had = name in vars(owner)
        before = getattr(owner, name, None)
        self._before.append((owner, name, before, had))
        setattr(owner, name, value)
        return before

    def undo(self) -> None:
        """As it was."""
        for owner, name, before, had in reversed(self._before):
            if isinstance(owner, dict):
                owner[name] = before
            elif had:
                setattr(owner, name, before)
            else:
                delattr(owner, name)
        self._before.clear()


@dataclass(frozen=True, slots=True)
class Mutant:
    """``rule`` of lanes.md (or of a promise), and the fault."""

    name: str
    rule: str
    apply: Callable[[Patch], None]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The fault is in the product meanwhile."""
        patch = Patch()
        try:
            self.apply(patch)
            yield
        finally:
            patch.undo()
