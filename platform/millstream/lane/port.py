"""The ports of a lane besides a log and tables: an executor, a clock, chance, schemas."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from millstream.model.commands import HandOut
from millstream.model.effects import Execute
from millstream.wire.formats.content import SchemaSource
from millstream.wire.formats.framing import SchemaRef


class Executor(Protocol):
    """Carries out "execute this". Reports come back to the lane as commands.

    ``start``, ``abandon`` and ``let_go`` return at once and raise nothing. ``holds`` says whether this very dispatch is
    under way. ``knows`` says whether there is code for a function, ``full`` whether so much is under way that nothing
    new should be started.

    ``let_go``: the lane goes to another worker. Nothing is begun any more, what executes no code is given back
    (``ParkDispatch``), and ``out`` is what goes on and will be reported; ``executing`` counts how much of it is left.
    ``close`` gives back what is left after so long.
    """

    def start(self, effect: Execute) -> None: ...

    def abandon(self, run: str) -> None: ...

    def holds(self, run: str, step: str, dispatch: int) -> bool: ...

    def knows(self, function: str) -> bool: ...

    @property
    def full(self) -> bool: ...

    @property
    def executing(self) -> int: ...

    def let_go(self) -> None: ...

    def out(self) -> tuple[HandOut, ...]: ...

    async def close(self, grace_s: float) -> None: ...


class Alarm(Protocol):
    """Something that will be called later."""

    def cancel(self) -> None: ...


class Surroundings(Protocol):
    """The time and chance of a lane; the simulation and the test kit bring their own.

    ``now_ms`` is Unix time in milliseconds; ``call_later`` and ``sleep`` wait in that time, seconds long; ``entropy``
    gives that many random bytes; ``chance`` a number in [0, 1).
    """

    def now_ms(self) -> int: ...

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Alarm: ...

    async def sleep(self, delay_s: float) -> None: ...

    def entropy(self, size: int) -> bytes: ...

    def chance(self) -> float: ...


OnTopicWanted = Callable[[str], Awaitable[None]]
"""Called before the first record for a topic that is not there; may create it (dev) or raise ConfigError."""


class Schemas(Protocol):
    """The schemas of foreign values: those that are known, and how to get another.

    ``fetch`` makes one known, or known to be absent; ``look`` asks again for what may have changed. Both raise
    LogUnavailable when nobody answers now.
    """

    @property
    def known(self) -> SchemaSource: ...

    async def fetch(self, ref: SchemaRef) -> None: ...

    async def look(self) -> None: ...
