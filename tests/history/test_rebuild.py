"""A history that falls off the journal's start begins again from the checkpoint (lanes.md rule 14)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from millstream.history import trail
from millstream.history.fold import parent_of
from millstream.history.index import Index
from millstream.history.seen import Page, RunInFull
from millstream.model import trail as entries
from millstream.model.waits.callback_token import callback_id
from millstream.model.waits.shown import in_words
from tests.history.world import AT_ONCE, World, open_world

BACKENDS = pytest.mark.parametrize("backend", ["memory", "embedded"])


def _sleeps(run: RunInFull) -> bool:
    return [step.status for step in run.steps] == ["completed", "completed", "sleeping"]


def _steps(run: RunInFull) -> list[tuple[str, str, str, bytes]]:
    return [(step.name, step.kind, step.status, step.output) for step in run.steps]


SLEEPING = [
    ("pack", "run", "completed", b'"packed"'),
    ("label", "run", "completed", b'"labelled"'),
    ("wait", "sleep", "sleeping", b""),
]


@BACKENDS
async def test_a_new_history_shows_the_open_runs_whose_start_is_gone(tmp_path: Path, backend: str) -> None:
    async with open_world(backend, tmp_path) as world:
        await shows_open_runs_whose_start_is_gone(world)


async def shows_open_runs_whose_start_is_gone(world: World) -> None:
    event = await world.send("order/placed", 7)
    run = await world.run_of("first.db", event, _sleeps)
    await world.until_trimmed_past(await world.ends())
    queries = await world.fold("new.db")
    found = queries.run(run)
    assert found is not None
    assert (found.run.status, found.run.function, found.run.event) == ("Running", "shop-ship", event)
    assert (found.run.app, found.run.event_name) == ("shop", "order/placed")
    assert _steps(found) == SLEEPING
    seen = queries.event(event)
    assert seen is not None and seen.data == b'{"n":7}'
    assert [e.internal_id for e in queries.events(name="order/placed", page=Page(200))[0]] == [event]
    queries.close()

    await world.cancel(run)
    ended = [*SLEEPING[:2], ("wait", "sleep", "cancelled", b"")]
    await world.run_of("new.db", event, lambda full: full.run.status == "Cancelled" and _steps(full) == ended)


async def test_what_a_run_waits_for_and_who_invoked_it_is_known_without_its_start(tmp_path: Path) -> None:
    def waits(run: RunInFull) -> bool:
        (both, *_) = [step for step in run.steps if step.name == "both"] or [None]
        return both is not None and both.waits_for is not None and both.waits_for.events[1].came

    async with open_world("memory", tmp_path) as world:
        event = await world.send("order/asked", 7)
        await world.send("order/sent")
        run = await world.run_of("first.db", event, waits)
        queries = await world.fold("first.db")
        before = queries.run(run)
        queries.close()
        await world.until_trimmed_past(await world.ends())
        queries = await world.fold("new.db")
        after = queries.run(run)
        assert before is not None and after is not None
        assert before.run.state == after.run.state == "Waiting"
        shown = [{step.name: (step.kind, step.status, step.wake_at_ms, step.waits_for, step.output)
                  for step in run.steps} for run in (before, after)]  # fmt: skip
        assert shown[0] == shown[1]
        words = {step.name: in_words(step.waits_for) for step in after.steps if step.waits_for is not None}
        (child,) = [step.waits_for.run_id for step in after.steps if step.waits_for is not None and step.name == "ship"]
        assert words == {
            "both": "event order/paid (data.n); 1 of 2 came",
            "approve/result": "a post to callback approve",
            "say": "signal say-7",
            "ship": f"run {child} of shop-ship",
        }
        (made,) = [step.output for step in after.steps if step.name == "approve"]
        assert msgspec.json.decode(made) == {"id": callback_id(run, "approve")}, "its URL is for nobody's eyes"
        other = queries.run(child)
        assert other is not None and parent_of(other.run.cause) == (run, "ship") and parent_of(after.run.cause) is None
        queries.close()


@pytest.mark.parametrize("n", [0, 1])
async def test_what_is_held_is_known_with_its_error_without_its_start(tmp_path: Path, n: int) -> None:
    async with open_world("memory", tmp_path) as world:
        event = await world.send("order/held", n)
        run = await world.run_of("first.db", event, lambda full: full.run.state == "Held")
        await world.until_trimmed_past(await world.ends())
        queries = await world.fold("new.db")
        seen = queries.run(run)
        queries.close()
    assert seen is not None and seen.run.state == "Held"
    why = "step 'ship' failed for good: ZeroDivisionError" if n else "the function body failed for good: ValueError"
    assert seen.run.reason.startswith(why)


@BACKENDS
async def test_a_history_that_was_away_goes_on_with_what_it_knew(tmp_path: Path, backend: str) -> None:
    """What ended while it was away, and can be looked up nowhere, is gone and not open for ever."""
    async with open_world(backend, tmp_path) as world:
        slept, napped = await world.send("order/placed"), await world.send("order/nap")
        run = await world.run_of("away.db", slept, _sleeps)
        ended = await world.run_of("away.db", napped, lambda full: [s.status for s in full.steps] == ["sleeping"])
        await world.run_of("other.db", napped, lambda full: full.run.status == "Completed")
        await world.until_trimmed_past(await world.ends())
        queries = await world.fold("away.db")
        found = queries.run(run)
        assert found is not None
        assert _steps(found) == SLEEPING
        assert all(step.started_at_ms > 0 for step in found.steps), "times known before were lost"
        queries.close()
        index = Index(tmp_path / "away.db")
        while index.forget(1):
            pass
        index.close()
        queries = await world.fold("away.db")
        assert queries.run(ended) is None
        assert queries.run(run) is not None
        queries.close()


@BACKENDS
async def test_what_ended_behind_the_oldest_checkpoint_left_is_shown_too(tmp_path: Path, backend: str) -> None:
    """A lost index is rebuilt as far back as the journal reaches, not only from the last checkpoint on."""
    async with open_world(backend, tmp_path) as world:
        await world.until_trimmed_past(await world.ends())
        await world.stop()
        await world.start(replace(AT_ONCE, history_ms=60_000))
        kept = [await world.send("order/quick", 5) for _ in range(4)]
        for event in kept:
            await world.run_of("first.db", event, lambda full: full.run.status == "Completed")
        await world.until_checkpointed(await world.ends())
        queries = await world.fold("lost.db")
        for event in kept:
            (run,) = queries.runs_of_event(event, Page())[0]
            assert (run.status, run.result) == ("Completed", b"5")
        queries.close()


async def test_a_rebuild_that_dies_anywhere_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world("memory", tmp_path) as world:
        event = await world.send("order/placed", 7)
        run = await world.run_of("first.db", event, _sleeps)
        await world.until_trimmed_past(await world.ends())
        real = Index.go_on_from

        def dies(*_: object, **__: object) -> None:
            raise RuntimeError("power cut")

        monkeypatch.setattr(Index, "go_on_from", dies)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                await world.fold("new.db")
        monkeypatch.setattr(Index, "go_on_from", real)
        queries = await world.fold("new.db")
        found = queries.run(run)
        assert found is not None and _steps(found) == SLEEPING
        assert all(len(step.attempts) <= 1 for step in found.steps)
        queries.close()


def test_what_a_checkpoint_says_fills_in_only_what_nothing_else_tells() -> None:
    told = trail.pack([(entries.DONE, 5, "a", "one", "run", 1, 4, b"1"), (entries.PLANNED, 6, "b", "two", "run")])
    checkpoint = trail.pack(
        [
            (entries.DONE, 0, "a", "one", "run", 1, 0, b"1"),
            (entries.FAILED, 0, "b", "two", "run", 2, 0, 0, "E", "m", ""),
            (entries.SLEEPING, 0, "c", "nap", "sleep", 9),
        ]
    )
    for chunks in ([told, checkpoint], [checkpoint, told]):
        steps = trail.read(chunks)
        assert [(s.step, s.status, len(s.attempts)) for s in steps] == [
            ("a", "completed", 1),
            ("b", "failed", 1),
            ("c", "sleeping", 0),
        ]
        assert steps[0].ended_at_ms == 5
