"""``settle(tables, command, now_ms) -> facts, effects``: decide a command and fold what it leads to, in flight.

    command ──decide──> facts ──fold──> effects;  and what runs must then ask at gates, or give back: further facts
                 ^        └ Post to another lane: MessageSent, under the next number
                 └────────── Post to this lane: the next command, decided behind the facts before it

A message to the lane itself needs no number and no way through the log: what it leads to is in the same record as what
sent it, so both are durable or neither is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from millstream.core.decide import decide
from millstream.core.flow.passage import follow
from millstream.core.fold import fold
from millstream.core.messages import sent
from millstream.core.tables import Tables
from millstream.errors import InternalError, StoreFailed
from millstream.model.commands import Command
from millstream.model.effects import Effect
from millstream.model.facts import Fact, Post

Decider = Callable[[Tables, Command, int], list[Fact]]


def settle(tables: Tables, command: Command, now_ms: int, decider: Decider = decide) -> tuple[list[Fact], list[Effect]]:
    """The facts of a command and of every message that the lane sends itself by it, folded; and their effects.

    Raises InternalError on a fact that cannot be folded.
    """
    facts: list[Fact] = []
    effects: list[Effect] = []
    own: deque[Command] = deque()
    while True:
        decided = decider(tables, command, now_ms)
        while decided:
            _take(tables, decided, now_ms, (facts, effects, own))
            decided = follow(tables, decided)
        if not own:
            return facts, effects
        command = own.popleft()


def _take(
    tables: Tables, decided: Sequence[Fact], now_ms: int, into: tuple[list[Fact], list[Effect], deque[Command]]
) -> None:
    """Fold what was decided; a message to the lane itself is a command that is decided next."""
    facts, effects, own = into
    for fact in decided:
        if type(fact) is Post:
            if fact.to_lane == tables.place.lane:
                own.append(fact.message)
                continue
            fact = sent(tables, fact)
        try:
            effects += fold(tables, fact, now_ms)
        except StoreFailed:
            raise  # No fault of the fact.
        except Exception as error:
            raise cannot_fold(tables, fact, error) from error
        facts.append(fact)


def cannot_fold(tables: Tables, fact: Fact, error: Exception) -> InternalError:
    """The error that stops a lane whose fact can't be applied."""
    return InternalError(
        f"lane {tables.place.lane} of group {tables.place.group!r} stopped: a fact {type(fact).__name__} could not be "
        f"applied: expected every recorded fact to fold, got {type(error).__name__}: {error}. Nothing of it has taken "
        "effect. Start the version that ran before, and report this with what this says: millstream lanes inspect."
    )
