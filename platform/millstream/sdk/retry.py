"""``Retry``: how one step is tried again, as a value: ``ctx.step.retrying(Retry(attempts=8)).run("ask", ask)``.

Which exceptions lead to another attempt is decided here, where they are raised: the engine never sees a class, and a
report says only whether another attempt may help. How many there may be, and their delays, travel with the report as a
RetryPolicy, and the engine decides by it as it does by the function's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from millstream.errors import FunctionError, NonRetriableError
from millstream.model import limits
from millstream.model.operations import RetryPolicy
from millstream.model.text.storable import shown, type_name
from millstream.sdk.backoff import Shape, table_of

UNLIMITED: Final = "unlimited"
CLASSES_MAX: Final = 100
Classes = type[BaseException] | Sequence[type[BaseException]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How a step is tried again; what is left out is as the function has it.

    ``attempts``  how often it is tried, the first time included: 1 is never again. Or "unlimited".
    ``backoff``   the delays: Exponential(…), Linear(…), Table([…]).
    ``on``        the only exceptions, with their subclasses, after which it is tried again. Default: all.
    ``not_on``    exceptions after which it is not, also where ``on`` has them.

    An exception that is not retried fails the step at once, as NonRetriableError does. RetryAfterError asks for another
    attempt by itself: ``on`` need not name it, ``not_on`` may. An attempt that took too long counts as TimeoutError.
    """

    attempts: int | Literal["unlimited"] | None = None
    backoff: Shape | None = None
    on: Classes = ()
    not_on: Classes = ()
    policy: RetryPolicy = field(init=False, repr=False, compare=False)
    """What travels with the report of a failed attempt."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "on", _classes("on", self.on))
        object.__setattr__(self, "not_on", _classes("not_on", self.not_on))
        if any(_is_one(kind, (NonRetriableError,)) for kind in self.on):  # type: ignore[union-attr]
            raise FunctionError(
                "Retry refused: on has NonRetriableError, which ends the attempts whatever on says. "
                "Raise another exception."
            )
        policy = RetryPolicy(_retries(self.attempts))
        if self.backoff is not None:
            table = table_of(self.backoff, "Retry")
            policy = RetryPolicy(policy.retries, table.delays_ms, table.jitter_ms)
        object.__setattr__(self, "policy", policy)

    def excludes(self, kind: type[BaseException]) -> bool:
        """Whether ``not_on`` has this class of exceptions."""
        return _is_one(kind, self.not_on)

    def includes(self, kind: type[BaseException]) -> bool:
        """Whether ``on`` has this class of exceptions, or names none."""
        return not self.on or _is_one(kind, self.on)


def _is_one(kind: type[BaseException], classes: Classes) -> bool:
    """As ``except`` compares: by what a class derives from, without running code of the classes."""
    assert isinstance(classes, tuple), "made so in __post_init__"
    return any(base is one for one in classes for base in type.__getattribute__(kind, "__mro__"))


def _retries(attempts: object) -> int:
    """The attempts after the first; −1: as many as the function has."""
    if attempts is None:
        return -1
    if type(attempts) is str and attempts == UNLIMITED:
        return limits.RETRIES_MAX
    if type(attempts) is not int or not 1 <= attempts <= limits.RETRIES_MAX + 1:
        raise FunctionError(
            f'Retry refused: attempts must be 1 to {limits.RETRIES_MAX + 1:,} or "unlimited", got {shown(attempts)}. '
            "The first attempt counts, too."
        )
    return attempts - 1


def _classes(what: str, given: object) -> tuple[type[BaseException], ...]:
    classes = given if type(given) in (tuple, list, set, frozenset) else (given,)
    found: list[type[BaseException]] = []
    for one in classes:  # type: ignore[attr-defined]
        if not issubclass(type(one), type) or not issubclass(one, BaseException):
            raise FunctionError(
                f"Retry refused: {what} takes classes of exceptions, one or a tuple of them, got {type_name(one)} "
                f"{shown(one)}. Write {what}=(ConnectionError, TimeoutError)."
            )
        found.append(one)
    if len(found) > CLASSES_MAX:
        raise FunctionError(
            f"Retry refused: {what} may have {CLASSES_MAX} classes, got {len(found)}. Name one that they derive from."
        )
    return tuple(found)
