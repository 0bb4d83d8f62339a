"""What a module of the core answers for: commands it decides, timers it fires, facts it folds.

Each module that decides or folds exports one ``HANDLES``. ``nouns.py`` gathers them into the tables by which ``decide``
and ``fold`` dispatch, so no list elsewhere repeats what a module says of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from millstream.core.tables import Tables
from millstream.model.effects import Effect
from millstream.model.facts import CommandRefused, Fact

# ``Any`` because each function takes its own command or fact; the key in the table says which.
Decide = Callable[[Tables, Any, int], list[Fact]]
"""(tables, command, now_ms) -> facts."""
Refuse = Callable[[Tables, Any, str, int], list[Fact]]
"""(tables, command, reason, now_ms) -> what remains of a command whose ``Decide`` raised. It must not raise."""
FoldFact = Callable[[Tables, Any, int], Sequence[Effect]]
"""(tables, fact, at_ms) -> effects."""


def refuse_plainly(tables: Tables, command: object, reason: str, now_ms: int) -> list[Fact]:
    """A fact that says what was refused; nothing waits for this command."""
    return [CommandRefused(type(command).__name__, "", reason)]


class Handler(NamedTuple):
    """How a command, or a timer that has come due, is decided; and what remains of one that cannot be.

    ``starts_work``  of a timer: it may lead to a hand-out, so it waits while the executor is full. One that ends runs
                     must not: full of runs that hang is when they are to be ended.
    """

    decide: Decide
    refuse: Refuse = refuse_plainly
    starts_work: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Handles:
    """``commands`` by class, ``timers`` by kind (``timers.py``), ``facts`` by class."""

    commands: Mapping[type, Handler] = field(default_factory=dict)
    timers: Mapping[str, Handler] = field(default_factory=dict)
    facts: Mapping[type, FoldFact] = field(default_factory=dict)


def fold_nothing(tables: Tables, fact: Fact, at_ms: int) -> Sequence[Effect]:
    """The fold of a fact that is for readers of the journal only."""
    return ()
