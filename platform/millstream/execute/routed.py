"""``RoutedExecutor``: one executor a lane, which gives each dispatch to the executor that has its function.

    Execute ──┬── a function of an app over HTTP, and not of this process's own ──> remote
              └── any other, known or not ──────────────────────────────────────────> own

The same function here and over HTTP: the code that is here counts, as what the operator has started it with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from millstream.execute.port import Executor
from millstream.model.commands import HandOut
from millstream.model.effects import CodeWanted, Execute


class RoutedExecutor:
    """``own`` carries out ``own_functions``, ``remote`` those that ``is_remote``; see ``port.Executor``."""

    def __init__(
        self, own: Executor, remote: Executor, own_functions: Collection[str], is_remote: Callable[[str], bool]
    ) -> None:
        self.own = own
        self.remote = remote
        self._own_functions = frozenset(own_functions)
        self._is_remote = is_remote

    def _of(self, function: str) -> Executor:
        return self.remote if function not in self._own_functions and self._is_remote(function) else self.own

    def start(self, effect: Execute) -> None:
        """Begin a dispatch; see ``port.Executor``."""
        self._of(effect.function).start(effect)

    def abandon(self, run: str) -> None:
        """Stop what executes for a run; see ``port.Executor``."""
        self.own.abandon(run)
        self.remote.abandon(run)

    def holds(self, run: str, step: str, dispatch: int) -> bool:
        """Whether a dispatch is under way; see ``port.Executor``."""
        return self.own.holds(run, step, dispatch) or self.remote.holds(run, step, dispatch)

    def knows(self, function: str) -> bool:
        """Whether there is code for the function, here or over HTTP."""
        return self._of(function).knows(function)

    def takes_up(self, wanted: CodeWanted) -> bool:
        """Whether to hand out a parked dispatch again; see ``port.Executor``."""
        return self._of(wanted.function).takes_up(wanted)

    @property
    def full(self) -> bool:
        """Whether the limit of what may be under way is reached."""
        return self.own.full or self.remote.full

    @property
    def executing(self) -> int:
        """The number of dispatches under way that run code at this moment."""
        return self.own.executing + self.remote.executing

    def drain(self) -> None:
        """Begin nothing more; see ``port.Executor``."""
        self.own.drain()
        self.remote.drain()

    def dispatches(self) -> tuple[HandOut, ...]:
        """What is under way; see ``port.Executor``."""
        return self.own.dispatches() + self.remote.dispatches()

    async def close(self, grace_s: float) -> None:
        """Let what runs end within ``grace_s``, give back the rest."""
        await asyncio.gather(self.own.close(grace_s), self.remote.close(grace_s))
