"""A step kind is one registration: this file adds one that the engine has never heard of, and runs it end to end.

``countdown``: a step that wakes a few times before it is done, and says "lift off". It has an operation, two facts, a
timer and a tool of its own. In the product each part has its place (docs/ARCHITECTURE.md, "Where to add"):

    CountdownFound                       model/operations.py, schemas/messages/report.avsc
    CountdownStarted, CountdownTicked    model/facts/steps.py, schemas/journal/record.avsc
    KIND and its functions               core/steps/countdown.py, its name in core/steps/__init__.py
    CountdownTools.countdown             sdk/steps.py

Nothing else knows that it exists: not decide, fold, liveness, timers, the history, the executor or the test kit.
"""

from __future__ import annotations

import json
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import fastavro
import msgspec
import pytest

from millstream import App, Context, Event
from millstream.core import nouns, step_kinds, timers
from millstream.core.handles import Handler
from millstream.core.liveness import liveness
from millstream.core.runs.deciding import Case, Decided, Draft
from millstream.core.runs.ending import refuse_run_timer
from millstream.core.runs.hands import SLEEPING, add_step, answered, open_run, open_step, put_run, put_step
from millstream.core.runs.moves import ANSWERED, FOUND, Move, Moves
from millstream.core.step_kinds import StepKind
from millstream.core.tables import Tables
from millstream.model import trail
from millstream.model.commands import FireTimer
from millstream.model.effects import Effect
from millstream.model.facts import FACTS, Fact, StepCompleted
from millstream.model.rows import Hand, StepRow
from millstream.sdk.payloads import decode
from millstream.sdk.steps import StepTools
from millstream.testing import TestApp
from millstream.wire import journal
from tests.core.harness import Harness
from tests.core.values import accept, app, event, function, report, see

NAME: Final = "countdown"
TIMER: Final = "countdown"
RECORD: Final = Path(__file__).resolve().parents[2] / "schemas" / "journal" / "record.avsc"


# --- the operation and the facts ------------------------------------------------------------------


class CountdownFound(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The body wants to count down: so many ticks, one every ``every_ms``."""

    step: str
    name: str
    ticks: int
    every_ms: int


class CountdownStarted(msgspec.Struct, frozen=True, gc=False):
    """The run counts down at this step."""

    run: str
    step: str
    name: str
    dispatch: int
    ticks: int
    every_ms: int
    wake_at_ms: int


class CountdownTicked(msgspec.Struct, frozen=True, gc=False):
    """One tick less."""

    run: str
    step: str
    wake_at_ms: int


BRANCHES: Final = [
    {
        "type": "record",
        "name": kind.__name__,
        "fields": [
            {"name": f.name, "type": {str: "string", int: "long"}[f.type]} for f in msgspec.structs.fields(kind)
        ],
    }
    for kind in (CountdownStarted, CountdownTicked)
]


# --- deciding and folding -------------------------------------------------------------------------


def found(case: Case, draft: Draft, op: CountdownFound) -> Decided:
    """The body wants to count down."""
    wake_at_ms = case.now_ms + op.every_ms
    fact: Any = CountdownStarted(case.run.run, op.step, op.name, case.dispatch, op.ticks, op.every_ms, wake_at_ms)
    return (fact,), draft


def fire(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """A tick is due: one less, or lift off."""
    run, row = tables.runs.get(command.id), tables.steps.get((command.id, command.step))
    assert run is not None and row is not None, "a run's timers end with it"
    ticks, every_ms = json.loads(row.data)
    if ticks > 1:
        ticked: Any = CountdownTicked(command.id, command.step, command.at_ms + every_ms)
        return [ticked]
    discover = run.body == Hand.IDLE
    return [
        StepCompleted(command.id, command.step, row.name, NAME, 0, row.dispatch, b'"lift off"', command.at_ms, discover)
    ]


def fold_started(tables: Tables, f: CountdownStarted, at_ms: int) -> Sequence[Effect]:
    """The ticks that are left are kept in the step's row."""
    run = answered(open_run(tables, f.run), f.dispatch)
    left = json.dumps([f.ticks, f.every_ms]).encode()
    row = StepRow(f.run, f.step, f.name, NAME, SLEEPING, dispatch=f.dispatch, data=left, wake_at_ms=f.wake_at_ms)
    add_step(tables, run, row, bytes=run.bytes + len(left))  # What its row holds counts for what the run holds.
    return (timers.arm(tables, f.wake_at_ms, TIMER, f.run, f.step),)


def fold_ticked(tables: Tables, f: CountdownTicked, at_ms: int) -> Sequence[Effect]:
    """The old timer goes, the next is armed."""
    run, row = open_run(tables, f.run), open_step(tables, f.run, f.step)
    ticks, every_ms = json.loads(row.data)
    left = json.dumps([ticks - 1, every_ms]).encode()
    put_run(tables, run, bytes=run.bytes + len(left) - len(row.data))
    gone = timers.disarm(tables, row.wake_at_ms, TIMER, f.run, f.step)
    put_step(tables, row, data=left, wake_at_ms=f.wake_at_ms)
    return gone, timers.arm(tables, f.wake_at_ms, TIMER, f.run, f.step)


KIND: Final = StepKind(
    name=NAME,
    finds={CountdownFound: found},
    facts={CountdownStarted: fold_started, CountdownTicked: fold_ticked},
    timers={TIMER: Handler(fire, refuse_run_timer)},
    hands={Hand.SLEEPING: TIMER},
    moves=Moves(
        body=(Move(Hand.OUT, CountdownStarted, Hand.IDLE),),
        step=(
            Move(None, CountdownStarted, Hand.SLEEPING),
            Move(Hand.SLEEPING, CountdownTicked, Hand.SLEEPING),
            Move(Hand.SLEEPING, StepCompleted, Hand.DONE),
        ),
        run_fields={CountdownStarted: ANSWERED | FOUND | {"bytes"}, CountdownTicked: frozenset({"bytes"})},
        step_fields={CountdownTicked: frozenset({"data", "wake_at_ms"})},
    ),
    shows={
        CountdownStarted: lambda f, at_ms: (trail.SLEEPING, at_ms, f.step, f.name, NAME, f.wake_at_ms),
        CountdownTicked: lambda f, at_ms: (trail.SLEEPING, at_ms, f.step, f.step, NAME, f.wake_at_ms),
    },
)


# --- the tool -------------------------------------------------------------------------------------


class CountdownTools(StepTools):
    """The step tools, with one more."""

    def countdown(self, id: str, ticks: int, every_ms: int = 1_000) -> Coroutine[object, object, str]:
        """Count down, holding nothing meanwhile."""
        return self._said(id, ticks, every_ms)

    async def _said(self, id: str, ticks: int, every_ms: int) -> str:
        data = await self._driver.ask(id, NAME, lambda step: CountdownFound(step, id, ticks, every_ms))  # type: ignore[arg-type, return-value]
        return str(decode(data))


rocket = App("rocket")


@rocket.function(on="pad/ready")
async def launch(ctx: Context) -> list[str]:
    """Count down between two steps."""
    fuel = await ctx.step.run("fuel", lambda: "fuelled")
    said = await CountdownTools(ctx.step._driver).countdown("count", 3)
    return [fuel, said, await ctx.step.run("go", lambda: "gone")]


# --- the tests ------------------------------------------------------------------------------------


TABLES: Final[tuple[dict[Any, Any], ...]] = (
    step_kinds.KINDS, step_kinds.FINDS, step_kinds.ANSWERS, step_kinds.SHOWS, step_kinds.QUICK_TIMERS,
    nouns.DECIDE, nouns.REFUSE, nouns.FIRE, nouns.FOLD,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """What the list in ``core/steps/__init__.py`` does at import; other files of this process must not see it."""
    with ExitStack() as undo:
        for table in TABLES:
            undo.enter_context(patch.dict(table))
        nouns.add_step_kind(KIND)
        yield


@pytest.fixture(autouse=True)
def written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal's schema with the two branches, as a change of the file would make it."""
    schema = json.loads(RECORD.read_text(encoding="utf-8"))
    (items,) = (f["type"]["items"] for f in schema["fields"] if f["name"] == "facts")
    items += BRANCHES
    parsed = fastavro.parse_schema(schema)
    monkeypatch.setattr(journal, "_RECORD", journal.journal_codec(parsed, (*FACTS, CountdownStarted, CountdownTicked)))


async def test_a_new_kind_runs_from_the_tool_to_the_history() -> None:
    async with TestApp(rocket) as t:
        run = (await t.send(Event("pad/ready", {}))).runs[0]
        assert (run.steps["count"].kind, run.steps["count"].status) == (NAME, "sleeping")
        await t.advance("2s")
        assert run.status == "Running"
        await t.advance("1s")
        assert run.result == ["fuelled", "lift off", "gone"]
        assert [(step.id, step.kind, step.status) for step in run.steps.values()] == [
            ("fuel", "run", "completed"),
            ("count", NAME, "completed"),
            ("go", "run", "completed"),
        ]


async def test_a_worker_that_dies_while_it_counts_goes_on_where_it_was() -> None:
    async with TestApp(rocket) as t:
        t.crash_after("fuel")
        run = (await t.send(Event("pad/ready", {}))).runs[0]
        await t.advance("1500ms")
        t.crash_after("count")
        await t.advance("1500ms")
        assert run.result == ["fuelled", "lift off", "gone"]


def test_the_core_holds_it_to_everything_that_holds_for_its_own() -> None:
    harness = Harness()
    harness.do(see(app(function("shop-f", "order/placed"))))
    harness.do(accept(event()))
    operation: Any = CountdownFound("count", "count", 2, 1_000)
    harness.do(report(harness.run.run, 1, operation))
    assert liveness(harness.tables, harness.run).timers == [(harness.now_ms + 1_000, TIMER, harness.run.run, "count")]
    for _ in range(2):
        timer = harness.armed(TIMER)
        harness.do(FireTimer(timer.at_ms, timer.kind, timer.id, timer.step), timer.at_ms)
    assert harness.step("count").hand == Hand.DONE
    assert harness.out().step == ""


def test_a_kind_that_claims_what_another_has_is_refused() -> None:
    with pytest.raises(AssertionError, match="two step kinds"):
        step_kinds.add(StepKind(name="sleep"))
    with pytest.raises(AssertionError, match="claims what another kind has"):
        step_kinds.add(StepKind(name="impostor", finds={CountdownFound: found}))
