"""The delays between attempts, as values: ``backoff=Exponential("1s")``. ``retries`` says how many there are.

Each gives the table the engine works with (``model.function.Backoff``), whose last delay repeats. Add a shape: a frozen
value with ``spec()``, exported by ``millstream/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from millstream.errors import FunctionError
from millstream.model.function import Backoff
from millstream.model.text.durations import LENGTH_MS_MAX, Duration, to_ms
from millstream.model.text.storable import shown

DELAYS_MAX: Final = 100


class Shape(Protocol):
    """What ``backoff=`` takes."""

    def spec(self) -> Backoff:
        """The table of delays."""
        ...


@dataclass(frozen=True, slots=True)
class Exponential:
    """``first``, then each delay ``factor`` times the one before, at most ``maximum``; plus up to ``jitter``."""

    first: Duration = "15s"
    factor: float = 2.0
    maximum: Duration = "2h"
    jitter: Duration = 0

    def __post_init__(self) -> None:
        if not self.factor > 1:
            raise FunctionError(
                f"backoff refused: Exponential's factor must be above 1, got {self.factor!r}. Linear has equal delays."
            )
        if to_ms(self.first, "backoff's first delay") < 1:
            raise FunctionError(f"backoff refused: Exponential's first delay must be above 0, got {self.first!r}.")
        self.spec()

    def spec(self) -> Backoff:
        maximum = to_ms(self.maximum, "backoff's maximum")
        delays = [min(maximum, to_ms(self.first, "backoff's first delay"))]
        while delays[-1] < maximum and len(delays) < DELAYS_MAX:
            delays.append(min(maximum, max(delays[-1] + 1, round(delays[-1] * self.factor))))
        return Backoff(tuple(delays), to_ms(self.jitter, "backoff's jitter"))


@dataclass(frozen=True, slots=True)
class Linear:
    """``first``, then each delay ``step`` longer than the one before (0: all equal), never more than ``maximum``."""

    first: Duration
    step: Duration = 0
    maximum: Duration = "2h"
    jitter: Duration = 0

    def __post_init__(self) -> None:
        self.spec()

    def spec(self) -> Backoff:
        maximum = to_ms(self.maximum, "backoff's maximum")
        step = to_ms(self.step, "backoff's step")
        delays = [min(maximum, to_ms(self.first, "backoff's first delay"))]
        while step and delays[-1] < maximum and len(delays) < DELAYS_MAX:
            delays.append(min(maximum, delays[-1] + step))
        return Backoff(tuple(delays), to_ms(self.jitter, "backoff's jitter"))


@dataclass(frozen=True, slots=True)
class Table:
    """These delays, one after another; the last one repeats. ``Table(["1s", "10s", "1m"])``."""

    delays: Sequence[Duration]
    jitter: Duration = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.delays) <= DELAYS_MAX:
            raise FunctionError(f"backoff refused: Table takes 1 to {DELAYS_MAX} delays, got {len(self.delays)}.")
        self.spec()

    def spec(self) -> Backoff:
        return Backoff(tuple(to_ms(d, "backoff's delay") for d in self.delays), to_ms(self.jitter, "backoff's jitter"))


def table_of(backoff: object, what: str) -> Backoff:
    """The table of the shape that was given as ``backoff=`` of ``what``. Raises FunctionError where it is none."""
    spec = getattr(backoff, "spec", None)
    if not callable(spec):
        raise FunctionError(
            f"{what} refused: backoff takes Exponential(…), Linear(…) or Table([…]), got {shown(backoff)}."
        )
    table: object = spec()
    if not isinstance(table, Backoff) or not _fits((*table.delays_ms, table.jitter_ms)):
        raise FunctionError(
            f"{what} refused: spec() of its backoff must give a Backoff of 1 to {DELAYS_MAX} delays in whole "
            f"milliseconds, got {shown(table)}."
        )
    return table


def _fits(numbers: Sequence[object]) -> bool:
    return len(numbers) <= DELAYS_MAX + 1 and all(type(ms) is int and 0 <= ms <= LENGTH_MS_MAX for ms in numbers)
