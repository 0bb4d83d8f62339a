"""Ports of a lane: a clock, chance, topics and schemas. The log's is ``log.port``, the executor's ``execute.port``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from millstream.wire.formats.content import SchemaSource
from millstream.wire.formats.framing import SchemaRef


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

    ``fetch`` makes one known, or known to be absent; ``look`` asks again for what may have changed. Both raise an
    OperatorError when that cannot be done now: nobody answers, or nobody was named who could. The topic waits.
    """

    @property
    def known(self) -> SchemaSource: ...

    async def fetch(self, ref: SchemaRef) -> None: ...

    async def look(self) -> None: ...
