"""All that the history holds of a run: its events in order, values however long, errors with all their members."""

from __future__ import annotations

import contextlib
from pathlib import Path

from msgspec.structs import replace

from millstream import App, Context, StepError
from millstream.history import rebuild
from millstream.history.fold import Changes
from millstream.history.index import Index
from millstream.history.queries import Queries
from millstream.history.seen import RunInFull
from millstream.history.trail import Error, StepSeen, pack, read
from millstream.log.memory.log import MemoryLog
from millstream.model import facts as f
from millstream.model import limits, trail
from millstream.model.event import Envelope
from millstream.model.ids import run_id, ulid
from millstream.model.journal import JournalRecord
from millstream.model.rows import Hand, StepRow
from millstream.model.waits.awaited import AwaitedSignal
from millstream.model.waits.shown import written
from tests.history.world import World, living

AT = 1_795_356_850_000
EVENTS = [ulid(AT, n.to_bytes(10, "big")) for n in (5, 1, 9, 3)]
RUN = run_id(AT, EVENTS[0], "app-fn", "", lane=0, lanes=1)
STARTED = f.RunStarted(RUN, "app-fn", tuple(EVENTS), "", 0)


def whole(folder: Path, *facts: f.Fact) -> RunInFull:
    """The run, of an index with its events and these facts."""
    index = Index(folder / "i.db")
    changes = Changes(frozenset({"events"}))
    for offset, id in enumerate(EVENTS):
        changes.add_event(Envelope(id, id, False, "a/b", b'{"n":%d}' % offset, AT, AT), "events", 0, offset)
    changes.fold(JournalRecord(b"owner-01", 0, AT, (f.LaneFenced("w"),)))
    changes.fold(JournalRecord(b"owner-01", 1, AT, (STARTED, *facts)))
    index.apply(changes, [])
    index.close()
    queries = Queries(folder / "i.db")
    full = queries.whole(RUN)
    assert full is not None
    assert [event.data for event in queries.envelopes(full.events)] == [b'{"n":%d}' % n for n in range(len(EVENTS))]
    queries.close()
    return full


def test_the_events_of_a_batch_keep_their_order(tmp_path: Path) -> None:
    assert whole(tmp_path).events == tuple(EVENTS)


def test_values_are_whole_where_an_answer_for_people_has_their_beginnings(tmp_path: Path) -> None:
    long = b'"' + b"a" * (limits.STEP_OUTPUT_BYTES_MAX - 2) + b'"'
    steps = [f.StepCompleted(RUN, f"s{n}", "s", "run", 0, n, long, AT, True) for n in range(3)]
    assert [len(step.output) for step in whole(tmp_path, *steps).steps] == [len(long)] * 3
    queries = Queries(tmp_path / "i.db")
    shown = queries.run(RUN)
    assert shown is not None and [step.output_bytes for step in shown.steps].count(0) < 3
    queries.close()


def test_a_failed_step_has_the_error_with_all_that_its_sdk_said(tmp_path: Path) -> None:
    more = b'{"cause":{"name":"Inner"},"code":"x"}'
    failed = f.StepFailed(RUN, "s", "s", "run", 0, 1, "E", "m", "stack", AT, True, more)
    held = f.StepHeld(RUN, "h", "h", "run", 0, 2, "E", "m", "stack", AT, more)
    let_fail = f.StepFailed(RUN, "h", "h", "run", 0, 2, "E", "m", "stack", AT, True, more)
    full = whole(tmp_path, failed, held, let_fail)
    assert [(step.status, step.attempts[-1].error) for step in full.steps] == [
        ("failed", Error("E", "m", "stack", more))
    ] * 2


every = App("every")


@every.function(on="order/every", retries=0)
async def steps(ctx: Context) -> None:
    """A result, an error, a sleep and an event that does not come; then it waits for ever."""
    await ctx.step.run("one", lambda: {"a": 1})
    with contextlib.suppress(StepError):
        await ctx.step.run("bad", lambda: 1 // 0)
    await ctx.step.sleep("nap", "1ms")
    await ctx.step.wait_for_event("never", event="order/never", timeout="1ms")
    await ctx.step.sleep("for ever", "1d")


@every.function(on="order/quick")
async def quick(ctx: Context) -> None:
    """Ends at once."""


async def test_what_is_remembered_of_steps_is_the_same_from_a_checkpoint(tmp_path: Path) -> None:
    def of(full: RunInFull | None) -> list[tuple[str, str, str, bytes, Error | None]]:
        assert full is not None
        return [(s.step, s.kind, s.status, s.output, s.attempts[-1].error if s.attempts else None) for s in full.steps]

    def waits(full: RunInFull) -> bool:
        return any(_is_last(step) for step in full.steps)

    async with living(World(MemoryLog(), tmp_path, [every])) as world:
        event = await world.send("order/every")
        run = await world.run_of("first.db", event, waits)
        queries = await world.fold("first.db")
        before = of(queries.whole(run))
        queries.close()
        await world.until_trimmed_past(await world.ends())
        queries = await world.fold("new.db")
        assert of(queries.whole(run)) == before
        queries.close()
    assert [(step, status) for step, _, status, _, _ in before] == [
        ("one", "completed"), ("bad", "failed"), ("nap", "completed"), ("never", "completed"), ("for ever", "sleeping"),
    ]  # fmt: skip


def _is_last(step: StepSeen) -> bool:
    return step.step == "for ever" and step.status == "sleeping"


def test_a_signal_that_came_is_told_from_a_time_that_was_over_also_from_a_checkpoint() -> None:
    awaits = AwaitedSignal("go")
    waiting = (trail.WAITING, AT, "s", "s", "wait_for_signal", AT + 5, written(awaits))
    came, done = (trail.CAME, AT + 9, "s", 0), (trail.DONE, AT + 9, "s", "s", "wait_for_signal", 0, 0, b"null")
    row = StepRow(RUN, "s", "s", "wait_for_signal", Hand.DONE, data=b"null", awaits=replace(awaits, came=True))
    from_row = list(rebuild._entries(row, lambda step: ()))
    for chunks in ([[waiting, came, done]], [[waiting], from_row], [from_row]):
        (step,) = read([pack(list(chunk)) for chunk in chunks])
        assert (step.status, step.output, step.timed_out) == ("completed", b"null", False)
        assert step.waits_for is not None and (step.waits_for.signal, step.waits_for.came) == ("go", True)
    (step,) = read([pack([waiting, done])])
    assert step.timed_out and step.waits_for is not None and not step.waits_for.came
