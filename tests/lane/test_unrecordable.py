"""One command whose facts cannot be recorded fails its run and never the lane (lanes.md rule 22)."""

from __future__ import annotations

from typing import Any

import pytest

from millstream.model.commands import Report
from millstream.model.facts import CommandRefused, RunCompleted, RunFailed, RunStarted
from millstream.model.operations import (
    BodyDone,
    BodyErrored,
    Failure,
    Operation,
    PublishFound,
    SendFound,
    SleepFound,
    StepDone,
    StepErrored,
    StepFound,
)
from tests.core.values import app, event, function
from tests.lane.rig import Rig, until

SHOP = app(function("ship", "order/placed"))
HALF = "\udce9"
BAD: list[Any] = [
    StepDone(HALF, HALF, b"1", 0),
    StepDone("s", HALF, b"1", 0),
    StepDone(b"s", b"s", b"1", 0),  # type: ignore[arg-type]
    StepDone(["s"], "s", b"1", 0),  # type: ignore[arg-type]
    StepDone("s", "s", "text", 0),  # type: ignore[arg-type]
    StepDone("s", "s", b"1", 2**70),
    BodyDone("text"),  # type: ignore[arg-type]
    BodyDone(None),  # type: ignore[arg-type]
    BodyErrored(Failure(HALF, HALF), retriable=False),
    BodyErrored(Failure("E", "m", None), retriable=False),  # type: ignore[arg-type]
    StepErrored("s", "s", Failure("E", HALF), 0),
    StepErrored("s", "s", None, 0),  # type: ignore[arg-type]
    StepFound(("s",), "s"),  # type: ignore[arg-type]
    SleepFound("s", "s", 2.5),  # type: ignore[arg-type]
    PublishFound("s", "s", None, b"", b""),  # type: ignore[arg-type]
    PublishFound("s", "s", "t", b"", b"", ((HALF, b""),)),
    SendFound("s", "s", (None,)),  # type: ignore[arg-type]
    None,
]


@pytest.mark.parametrize("operation", BAD, ids=range(len(BAD)))
async def test_a_report_that_cannot_be_recorded_fails_its_run_and_the_others_go_on(
    rig: Rig, operation: Operation
) -> None:
    await rig.register(SHOP)
    owner = await rig.own()
    await rig.send(event(1), event(2), event(3))
    await until(lambda: len(owner.desk.started) == 3)
    before, bad, behind = owner.desk.started
    for effect, done in ((before, BodyDone(b"1")), (bad, operation), (behind, BodyDone(b"3"))):
        owner.lane.submit(Report(effect.run, "", 0, effect.dispatch, (done,)))
    await until(lambda: len(rig.facts(RunCompleted)) == 2 and rig.facts(RunFailed))
    assert {fact.run for fact in rig.facts(RunCompleted)} == {before.run, behind.run}
    assert [fact.run for fact in rig.facts(RunFailed)] == [bad.run]
    assert [fact.subject for fact in rig.facts(CommandRefused)] == [bad.run] or isinstance(operation, BodyErrored)
    await rig.send(event(4))
    await until(lambda: len(rig.facts(RunStarted)) == 4)
    await owner.stop()
    again = await rig.own()  # What was recorded can be folded again.
    await until(lambda: again.lane.live)


async def test_of_a_command_without_one_usable_name_the_fact_that_it_was_refused_remains(rig: Rig) -> None:
    await rig.register(SHOP)
    owner = await rig.own()
    await rig.send(event(1))
    await until(lambda: owner.desk.started)
    owner.lane.submit(Report(["run"], "", 0, 1, ()))  # type: ignore[arg-type]
    await until(lambda: rig.facts(CommandRefused))
    assert owner.lane.live
