"""``fold(tables, fact, at_ms) -> effects``: apply one fact. The only way state changes, live and at restore alike.

A fold reads and writes rows, decides nothing, and never fails on a fact that ``decide`` can make: an exception here
stops the lane. ``at_ms`` is the time in the fact's record. The effects are what should follow once the record is
durable.

It only dispatches: what a fact changes is in the module of its noun (``nouns.py``), beside the decision that makes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from millstream.core.nouns import FOLD
from millstream.core.tables import Tables
from millstream.model.effects import Effect
from millstream.model.facts import Fact


def fold(tables: Tables, fact: Fact, at_ms: int) -> Sequence[Effect]:
    """Apply the fact; say what should follow."""
    return FOLD[type(fact)](tables, fact, at_ms)
