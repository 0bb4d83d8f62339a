"""A move of a body or step from hand to hand, as a value; what each fact may move and change is data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from millstream.model.rows import Hand


class Move(NamedTuple):
    """With this fact a body or step passes from one hand to another; ``before`` None: there is no row yet."""

    before: Hand | None
    fact: type
    after: Hand | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """What facts do to a run's rows.

    ``body``, ``step``              every move of a body, of a step.
    ``run_fields``, ``step_fields`` the fields that a fact may change in a row that was there; no fold changes others.
    """

    body: tuple[Move, ...] = ()
    step: tuple[Move, ...] = ()
    run_fields: Mapping[type, frozenset[str]] = field(default_factory=dict)
    step_fields: Mapping[type, frozenset[str]] = field(default_factory=dict)


HANDED_OUT = frozenset({"body", "body_dispatch", "dispatch", "again"})
"""What changes in a run whose body goes out."""
ANSWERED = frozenset({"body", "attempt", "lost"})
"""What changes in a run whose body has answered."""
FOUND = frozenset({"pending", "steps"})
"""What changes in a run that has one more step under way."""
RESOLVED = frozenset({"again", "pending", "resolved", "steps", "bytes"})
"""What changes in a run with a step that is done or failed."""
STEP_RESOLVED = frozenset(
    {"name", "kind", "hand", "attempt", "dispatch", "lost", "order", "data", "wake_at_ms", "awaits"}
)
"""What changes in a step that is done or failed."""
