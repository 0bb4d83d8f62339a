"""The close of a decision about a report: does the body go out again?

Of a run whose steps go on one by one: with each step that is resolved. Of a joint one (``Report.joint``): once no step
of it is under way any more. So a joint body that waits has a step in some hand, and goes out with the last of them,
however that one is resolved; and a group of steps that was found together is answered by one hand-out.
"""

from __future__ import annotations

from collections.abc import Sequence

from millstream.core.runs.deciding import Case, Draft, Fate
from millstream.core.runs.resolving import discovering
from millstream.model.facts import DiscoveryAnswered, Fact, StepCompleted, StepFailed
from millstream.model.rows import Hand


def close_body(case: Case, facts: Sequence[Fact], draft: Draft) -> list[Fact]:
    """The body has answered: hand it out again where something was resolved meanwhile or with this report."""
    if draft.fate is not Fate.OPEN:
        return list(facts)
    goes_on = _goes_on(case, facts)
    if draft.resolved and goes_on:
        return discovering(facts)
    if draft.look_again or not facts:
        return [*facts, DiscoveryAnswered(case.run.run, case.dispatch, draft.look_again and goes_on)]
    return list(facts)


def close_step(case: Case, facts: Sequence[Fact], draft: Draft) -> list[Fact]:
    """A step has answered: hand the body out where it is idle."""
    if draft.fate is not Fate.OPEN or not draft.resolved or case.run.body != Hand.IDLE:
        return list(facts)
    return discovering(facts) if _goes_on(case, facts) else list(facts)


def _goes_on(case: Case, facts: Sequence[Fact]) -> bool:
    """Whether a body that is idle goes on with what is resolved behind these facts."""
    return not case.run.joint or not _pending(case, facts)


def _pending(case: Case, facts: Sequence[Fact]) -> int:
    """How many steps of the run are under way behind these facts."""
    known = case.run.steps
    told = {fact.step for fact in facts if isinstance(fact, StepCompleted | StepFailed)}
    new = {step for fact in facts if (step := getattr(fact, "step", "")) and step not in known}
    return case.run.pending - sum(step in known for step in told) + len(new - told)
