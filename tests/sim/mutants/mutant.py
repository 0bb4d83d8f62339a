"""A deliberate fault: what it is, and how it comes into the product and goes again."""

from __future__ import annotations

import asyncio
import builtins
import inspect
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lane.rig import Rig, VirtualLoop


class Patch:
    """Attributes changed for a while."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any, bool]] = []

    def set(self, owner: Any, name: str, value: Any) -> Any:
        """Set an attribute (or an item of a dict); returns what was there.

        Raises AttributeError or KeyError where nothing is: the product has changed, and the fault would be none.
        """
        if isinstance(owner, dict):
            before = owner[name]
            self._before.append((owner, name, before, True))
            owner[name] = value
            return before
        had = name in vars(owner)
        before = getattr(owner, name) if had or not hasattr(builtins, name) else None  # Modules may shadow ``max``.
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
    """``rule`` of lanes.md (or of a promise), and the fault.

    ``example`` is the test that notices it, where worlds of chance would hardly come to the place; None: they do.
    """

    name: str
    rule: str
    apply: Callable[[Patch], None]
    example: Callable[[], None] | None = None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The fault is in the product meanwhile."""
        patch = Patch()
        try:
            self.apply(patch)
            yield
        finally:
            patch.undo()


def on_loop(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """A coroutine as an example, in virtual time: it raises where it fails."""

    def example() -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test())

    return example


def on_rig(test: Callable[..., Coroutine[None, None, None]]) -> Callable[[], None]:
    """A test of ``tests/lane`` that takes a rig as an example."""

    async def play() -> None:
        rig = Rig()
        await rig.create()
        with pytest.MonkeyPatch.context() as monkeypatch:
            wanted = inspect.signature(test).parameters
            await test(rig, **({"monkeypatch": monkeypatch} if "monkeypatch" in wanted else {}))
        await rig.close()

    return on_loop(play)
