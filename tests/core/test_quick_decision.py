"""The short way of deciding about the commonest report decides what the long way does."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from penstock.core import reports
from penstock.core.decide import decide
from penstock.core.fold import fold
from penstock.model.commands import AcceptEvent, Report, SeeCatalogue
from penstock.model.event import Envelope
from penstock.model.facts import RunStarted, StepCompleted
from penstock.model.function import AppSpec, EventTrigger, FunctionSpec
from penstock.model.ids import ulid
from penstock.model.operations import StepDone
from penstock.model.place import Place
from penstock.state.memory import MemoryStore
from penstock.state.tables import LaneTables

NOW_MS = 1_795_323_198_051


@pytest.mark.parametrize("steps_before", [0, 1, 3])
@pytest.mark.parametrize("dispatch_off", [0, -1])
@pytest.mark.parametrize("step", ["new", "step-0"])
def test_both_ways_decide_the_same(steps_before: int, dispatch_off: int, step: str) -> None:
    tables = LaneTables(Place("g", 0, 1), MemoryStore())
    app = AppSpec("a", (FunctionSpec("a-f", "f", (EventTrigger("x/y"),)),))
    internal = ulid(NOW_MS, bytes(10))
    event = Envelope(internal, internal, False, "x/y", b"{}", NOW_MS, NOW_MS)
    run, dispatch = "", 1
    for command in (SeeCatalogue("a", app, 0), AcceptEvent(event, "events", 0, 0)):
        for fact in decide(tables, command, NOW_MS):
            fold(tables, fact, NOW_MS)
            run = fact.run if isinstance(fact, RunStarted) else run
    for n in range(steps_before):
        done = StepDone(f"step-{n}", f"step-{n}", b"1", NOW_MS)
        for fact in decide(tables, Report(run, "", 0, dispatch, (done,)), NOW_MS):
            fold(tables, fact, NOW_MS)
        dispatch += 1
    command = Report(run, "", 0, dispatch + dispatch_off, (StepDone(step, step, b"2", NOW_MS),))
    quick = decide(tables, command, NOW_MS)
    with patch.object(reports, "_one_step_after_another", lambda run, command: None):
        slow = decide(tables, command, NOW_MS)
    assert quick == slow
    if step == "new" and not dispatch_off:
        assert [type(fact) for fact in quick] == [StepCompleted]
