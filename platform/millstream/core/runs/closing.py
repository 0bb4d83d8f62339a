"""The close of a decision about a report: does the body go out again?"""

from __future__ import annotations

from collections.abc import Sequence

from millstream.core.runs.deciding import Case, Draft, Fate
from millstream.core.runs.resolving import discovering
from millstream.model.facts import DiscoveryAnswered, Fact
from millstream.model.rows import Hand


def close_body(case: Case, facts: Sequence[Fact], draft: Draft) -> list[Fact]:
    """The body has answered: hand it out again where something was resolved meanwhile or with this report."""
    if draft.fate is not Fate.OPEN:
        return list(facts)
    if draft.resolved:
        return discovering(facts)
    if draft.look_again or not facts:
        return [*facts, DiscoveryAnswered(case.run.run, case.dispatch, draft.look_again)]
    return list(facts)


def close_step(case: Case, facts: Sequence[Fact], draft: Draft) -> list[Fact]:
    """A step has answered: hand the body out where it is idle."""
    if draft.fate is Fate.OPEN and draft.resolved and case.run.body == Hand.IDLE:
        return discovering(facts)
    return list(facts)
