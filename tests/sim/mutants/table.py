"""Deliberate faults: each breaks one rule of a lane on the real code, and the simulation must notice.

A mutant is a name, the rule it breaks, and how. They are never applied to the observer, which imports its own.
Rules that only a broker can show are broken in ``tests/kafka/test_rules.py``.

Add a mutant: a function that takes a ``Patch`` and one line in the ``MUTANTS`` of its file.
"""

from __future__ import annotations

from tests.sim.mutants import (
    bounding,
    cancelling,
    executing,
    gates,
    holding,
    intake,
    joining,
    messages,
    ownership,
    parts,
    scanning,
    state,
    waits,
)
from tests.sim.mutants.mutant import Mutant

SEEDS_MAX = 150
"""Within how many seeds each is to be caught."""

MUTANTS: tuple[Mutant, ...] = (
    *ownership.MUTANTS,
    *state.MUTANTS,
    *intake.MUTANTS,
    *executing.MUTANTS,
    *messages.MUTANTS,
    *scanning.MUTANTS,
    *parts.MUTANTS,
    *waits.MUTANTS,
    *gates.MUTANTS,
    *cancelling.MUTANTS,
    *bounding.MUTANTS,
    *holding.MUTANTS,
    *joining.MUTANTS,
)
