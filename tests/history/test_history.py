"""The history: a fold that is the same in any grouping, stored together with how far it came."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

import millstream.history
from millstream.cli.support import arguments
from millstream.errors import Corruption
from millstream.history import fold, trail
from millstream.history.fold import Changes
from millstream.history.index import Folded, Index, prepare
from millstream.history.process import Options, command, only_writer
from millstream.history.queries import Queries
from millstream.history.seen import Page, RunFilter, RunInFull
from millstream.history.service import Follows, History
from millstream.log.embedded.log import EmbeddedLog
from millstream.log.memory.log import MemoryCluster, MemoryLog
from millstream.log.port import Log, Produced, TopicSpec
from millstream.model import facts as f
from millstream.model.event import Envelope
from millstream.model.ids import run_id, ulid
from millstream.model.journal import JournalRecord
from millstream.wire.journal import encode_record
from millstream.wire.messages import encode_envelope

AT = 1_795_356_850_000
OWNER = b"owner-01"
FOLLOWS = Follows(group="g", lanes=1, events=("events",))


def _event(n: int) -> Envelope:
    internal = ulid(AT, n.to_bytes(10, "big"))
    return Envelope(internal, internal, False, "a/b", b'{"n":%d}' % n, AT, AT + n)


def _run(n: int) -> str:
    return run_id(AT, _event(n).internal_id, "app-fn", "", lane=0, lanes=1)


def _life(n: int) -> list[list[f.Fact]]:
    """The decisions of one run: three steps, one of them tried twice, a sleep, the end."""
    run = _run(n)
    return [
        [f.RunStarted(run, "app-fn", (_event(n).internal_id,), "", 0)],
        [f.StepAttemptFailed(run, "s1", "one", 0, 1, "ValueError", "no", "stack", AT, AT + 5)],
        [f.StepCompleted(run, "s1", "one", "run", 1, 2, b"1", AT, True)],
        [f.SleepStarted(run, "z", "nap", 3, AT + 9)],
        [f.SleepEnded(run, "z", True)],
        [f.StepFailed(run, "s2", "two", "run", 0, 4, "KeyError", "k", "", AT, True)],
        [f.RunFailed(run, "app-fn", 0, "KeyError", "k", "stack")],
    ]


def _records(decisions: Sequence[Sequence[f.Fact]], owner: bytes = OWNER) -> list[JournalRecord]:
    fence = JournalRecord(owner, 0, AT, (f.LaneFenced("w"),))
    return [fence, *(JournalRecord(owner, n, AT + n, tuple(facts)) for n, facts in enumerate(decisions, 1))]


async def _write(log: Log, topic: str, values: Sequence[bytes]) -> None:
    writer = log.writer(topic, 0)
    await writer.append([Produced(value) for value in values])
    await writer.close()


async def _topics(log: Log) -> None:
    await log.create_topics([TopicSpec("g.journal", 1), TopicSpec("events", 1)])


def _shown(path: Path, run: str) -> Any:
    queries = Queries(path)
    full = queries.run(run)
    queries.close()
    assert full is not None
    return [(s.name, s.kind, s.status, s.output, [(a.attempt, a.status) for a in s.attempts]) for s in full.steps], (
        full.run.status,
        full.run.error,
        full.run.event,
    )


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_the_same_records_in_any_grouping_give_the_same_run(tmp_path: Path, batch: int) -> None:
    index = Index(tmp_path / "i.db")
    records = _records(_life(1))
    for start in range(0, len(records), batch):
        changes = Changes()
        for record in records[start : start + batch]:
            changes.fold(record)
        index.apply(changes, [])
    index.close()
    steps, end = _shown(tmp_path / "i.db", _run(1))
    assert steps == [
        ("one", "run", "completed", b"1", [(0, "failed"), (1, "completed")]),
        ("nap", "sleep", "completed", b"", []),
        ("two", "run", "failed", b"", [(0, "failed")]),
    ]
    assert end == ("Failed", b'{"message":"k","name":"KeyError","stack":"stack"}', _event(1).internal_id)


def test_a_failed_run_shows_the_whole_error_of_its_function(tmp_path: Path) -> None:
    index = Index(tmp_path / "i.db")
    changes, run = Changes(), _run(1)
    started, failed = _life(1)[0], f.RunFailed(run, "app-fn", 0, "E", "m", "", b'{"code":"c","data":[1]}', True)
    for record in _records([started, [failed]]):
        changes.fold(record)
    index.apply(changes, [])
    index.close()
    _, (status, error, _) = _shown(tmp_path / "i.db", run)
    assert (status, json.loads(error)) == (
        "Failed",
        {"code": "c", "data": [1], "message": "m", "name": "E", "stack": None},
    )
    queries = Queries(tmp_path / "i.db")
    page, _ = queries.events(name="inngest/function.failed", page=Page(10, 0))
    data = json.loads(page[0].data)
    assert data["error"] == {"error": "NonRetriableError", "message": "m", "name": "E", "stack": ""}
    assert data["result"] == json.loads(error)
    queries.close()


async def test_a_restart_folds_nothing_twice_and_misses_nothing(tmp_path: Path) -> None:
    log = MemoryLog()
    await _topics(log)
    records = [encode_record(record) for record in _records([d for n in range(3) for d in _life(n)])]
    for start in range(0, len(records), 5):
        await _write(log, "g.journal", records[start : start + 5])
        await _write(log, "events", [encode_envelope(_event(start))])
        index = Index(tmp_path / "i.db")
        await History(log, index, FOLLOWS).catch_up()
        index.close()
    queries = Queries(tmp_path / "i.db")
    assert queries.tally() == {"started": 3, "completed": 0, "failed": 3, "cancelled": 0, "events": 5}
    assert queries.position("g.journal", 0) == len(records)
    runs, cursor = queries.runs(RunFilter(app="", statuses=("Failed",)), Page(10))
    assert ([run.run for run in runs], cursor) == ([_run(2), _run(1), _run(0)], 0)
    queries.close()
    await log.close()


async def test_an_offset_without_a_record_is_corruption_and_shows_nothing_behind_it(tmp_path: Path) -> None:
    cluster = MemoryCluster()
    log = cluster.client("a")
    await _topics(log)
    records = [encode_record(record) for record in _records([*_life(0), *_life(1)])]
    await _write(log, "g.journal", records[:8])
    index = Index(tmp_path / "i.db")
    await History(log, index, FOLLOWS).catch_up()
    cluster.partitions["g.journal", 0].end += 1
    await _write(log, "g.journal", records[8:])
    with pytest.raises(Corruption, match="gave offset 9 where 8 was expected"):
        await History(log, index, FOLLOWS).catch_up()
    index.close()
    queries = Queries(tmp_path / "i.db")
    assert [run.run for run in queries.runs(RunFilter(), Page(9))[0]] == [_run(0)]
    queries.close()


async def test_records_of_an_owner_that_was_fenced_off_show_nowhere(tmp_path: Path) -> None:
    log = MemoryLog()
    await _topics(log)
    old, new = _records([_life(1)[0]]), _records([_life(2)[0]], b"owner-02")
    stale = JournalRecord(OWNER, 2, AT, (f.RunCancelled(_run(1), "app-fn", "stale"),))
    await _write(log, "g.journal", [encode_record(record) for record in [*old, *new, stale]])
    index = Index(tmp_path / "i.db")
    await History(log, index, FOLLOWS).catch_up()
    index.close()
    assert _shown(tmp_path / "i.db", _run(1))[1][0] == "Running"
    assert _shown(tmp_path / "i.db", _run(2))[1][0] == "Running"
    await log.close()


async def test_another_log_behind_the_index_is_folded_afresh(tmp_path: Path) -> None:
    index = Index(tmp_path / "i.db")
    index.apply(Changes(), [Folded("g.journal", 0, 1_000)])
    log = MemoryLog()
    await _topics(log)
    await _write(log, "g.journal", [encode_record(record) for record in _records(_life(1))])
    await History(log, index, FOLLOWS).catch_up()
    index.close()
    assert _shown(tmp_path / "i.db", _run(1))[1][0] == "Failed"
    await log.close()


def test_old_runs_go_and_open_ones_stay_with_their_events(tmp_path: Path) -> None:
    index = Index(tmp_path / "i.db")
    changes = Changes()
    for n in range(1_500):
        changes.add_event(_event(n), "events", 0, n)
        decisions = _life(n) if n else _life(n)[:1]
        for record in _records(decisions):
            changes.fold(record)
    index.apply(changes, [])
    while index.forget(AT + 3_600_000):
        pass
    index.close()
    queries = Queries(tmp_path / "i.db")
    runs, _ = queries.runs(RunFilter(), Page(10))
    events, _ = queries.events(page=Page(10))
    assert [run.run for run in runs] == [_run(0)]
    assert [event.internal_id for event in events] == [_event(0).internal_id]
    queries.close()


def test_the_same_load_for_ever_needs_no_more_disk(tmp_path: Path) -> None:
    """Rows of every table go with their time, and their pages are used again."""
    index = Index(tmp_path / "i.db")
    sizes: list[int] = []
    for minute in range(24):
        changes = Changes(frozenset(["events"]))
        for n in range(400 * minute, 400 * minute + 400):
            at_ms = AT + minute * 60_000
            sent = msgspec.structs.replace(_event(n), received_at_ms=at_ms, id=f"order-{n}")
            changes.add_event(sent, "events", 0, n)
            ends = f.CommandRefused("X", _run(n), "no") if n % 9 == 0 else f.DispatchLost(_run(n), "s1", 1, 1, 0)
            for record in _records([[*_life(n)[0], *_life(n)[1], ends], *_life(n)[2:]]):
                changes.fold(msgspec.structs.replace(record, at_ms=at_ms))
        index.apply(changes, [Folded("g.journal", 0, minute)])
        while index.forget(AT + (minute - 3) * 60_000):
            pass
        index._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sizes.append((tmp_path / "i.db").stat().st_size)
    assert max(sizes[8:]) <= sizes[7] * 1.1, sizes
    counted = {
        table: index._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("run", "trail", "event", "announced", "notice", "recalled", "doubted", "run_event")
    }
    assert max(counted.values()) <= 400 * 2 * 5, counted
    index.close()


async def test_the_child_process_shows_what_is_durable_and_ends_with_its_parent(tmp_path: Path) -> None:
    log = await EmbeddedLog.open(tmp_path / "log", durability="os")
    await _topics(log)
    index = tmp_path / "i.db"
    prepare(index)
    line = command(Options(log_dir=tmp_path / "log", index=index, follows=FOLLOWS))
    source = str(Path(millstream.history.__file__).parents[2])
    child = subprocess.Popen(line, stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": source})  # noqa: ASYNC220
    try:
        await _write(log, "g.journal", [encode_record(record) for record in _records(_life(1))])
        queries = Queries(index)
        async with asyncio.timeout(60):
            while queries.position("g.journal", 0) < 8:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        queries.close()
        assert _shown(index, _run(1))[1][0] == "Failed"
        assert child.stdin is not None
        child.stdin.close()
        assert await asyncio.to_thread(child.wait, 60) == 0
    finally:
        child.kill()
        child.wait()
        await log.close()


async def test_an_index_has_one_writer_at_a_time(tmp_path: Path) -> None:
    first = await only_writer(tmp_path / "history.db")
    second = asyncio.ensure_future(only_writer(tmp_path / "history.db"))
    done, _ = await asyncio.wait([second], timeout=0.1)
    assert not done
    os.close(first)
    os.close(await second)


def _in_full(tmp_path: Path, decisions: Sequence[Sequence[f.Fact]], n: int = 1) -> RunInFull:
    index, changes = Index(tmp_path / "i.db"), Changes()
    for record in _records(decisions):
        changes.fold(record)
    index.apply(changes, [])
    index.close()
    queries = Queries(tmp_path / "i.db")
    (shown,), _ = queries.screen(RunFilter(), Page(1))
    full = queries.run(_run(n))
    queries.close()
    assert full is not None and shown.steps == full.steps
    return full


@pytest.mark.parametrize(
    "end",
    [
        f.RunCompleted(_run(1), "app-fn", 1, b"1"),
        f.RunFailed(_run(1), "app-fn", 0, "KeyError", "k", ""),
        f.RunCancelled(_run(1), "app-fn", "enough"),
    ],
    ids=lambda end: type(end).__name__,
)
def test_what_a_run_left_open_has_ended_with_it(tmp_path: Path, end: f.Fact) -> None:
    run = _run(1)
    full = _in_full(
        tmp_path,
        [
            [f.RunStarted(run, "app-fn", (_event(1).internal_id,), "", 0)],
            [f.BodyAttemptFailed(run, 0, 1, "ValueError", "no", "", AT + 2)],
            [f.StepCompleted(run, "s1", "one", "run", 0, 2, b"1", AT, True)],
            [f.SleepStarted(run, "z", "nap", 3, AT + 99)],
            [f.StepAttemptFailed(run, "s2", "two", 0, 1, "ValueError", "no", "", AT, AT + 99)],
            [f.StepPlanned(run, "s3", "three", 4), f.StepPlanned(run, "s4", "four", 4)],
            [f.DispatchParked(run, "s4", "app-fn", 6)],
            [end],
        ],
    )
    assert [(step.name, step.status) for step in full.steps] == [
        ("(function body)", full.run.status.lower()),
        ("one", "completed"),
        ("nap", "cancelled"),
        ("two", "cancelled"),
        ("three", "cancelled"),
        ("four", "cancelled"),
    ]
    assert {step.ended_at_ms for step in full.steps if step.name != "one"} == {full.run.ended_ms}
    assert not any(trail.wakes_at_ms(step) for step in full.steps)
    assert not any(attempt.retry_at_ms for step in full.steps[1:] for attempt in step.attempts), "none is tried again"


def test_a_hand_out_that_a_stopping_worker_gave_back_does_not_lack_code(tmp_path: Path) -> None:
    run = _run(1)
    facts = [
        [f.RunStarted(run, "app-fn", (_event(1).internal_id,), "", 0)],
        [f.DispatchParked(run, "", "app-fn", 1, given_back=True)],
    ]
    full = _in_full(tmp_path, facts)
    ((body,), state) = full.steps, full.run.state
    assert (body.status, state) == ("planned", "Running")
    assert [(attempt.status, attempt.error.name if attempt.error else "") for attempt in body.attempts] == [
        ("stopped", "GivenBack")
    ]


def test_a_parked_hand_out_shows_how_long_it_was_parked(tmp_path: Path) -> None:
    run = _run(1)
    parked = [f.DispatchParked(run, "", "app-fn", 1)]
    started = [f.RunStarted(run, "app-fn", (_event(1).internal_id,), "", 0)]
    (body,) = _in_full(tmp_path, [started, parked, [], [f.DispatchUnparked(run, "", "app-fn")]]).steps
    (attempt,) = body.attempts
    assert (attempt.status, attempt.ended_at_ms - attempt.started_at_ms) == ("parked", 2)


def test_runs_are_filtered_by_what_they_do_and_paged_without_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.history.queries.TRAILS_READ_MAX", 3)
    index, changes = Index(tmp_path / "i.db"), Changes()
    why = "its code has changed: step 'a'"
    decisions: list[Sequence[f.Fact]] = []
    for n in range(18):
        started = f.RunStarted(_run(n), "app-fn", (_event(n).internal_id,), "", 0)
        does = (
            f.SleepStarted(_run(n), "z", "nap", 1, AT + 9),
            f.DispatchParked(_run(n), "", "app-fn", 1, why),
            f.DispatchParked(_run(n), "", "app-fn", 1),
            f.RunCompleted(_run(n), "app-fn", 1, b"1"),
            f.StepHeld(_run(n), "s", "s", "run", 2, 1, "E", "no", "", AT),
            f.BodyHeld(_run(n), 0, 1, "E", "no", ""),
        )[n % 6]
        decisions.append([started, does])
    for record in _records(decisions):
        changes.fold(record)
    index.apply(changes, [])
    index.close()
    queries = Queries(tmp_path / "i.db")
    states = {"Sleeping": (0,), "Parked": (1,), "Waiting": (2,), "Parked,Completed": (1, 3), "Held": (4, 5)}
    states["Running"] = (0, 1, 2, 4, 5)
    for words, kinds in states.items():
        named = words.split(",")
        wanted = RunFilter(
            statuses=tuple(word for word in named if word in fold.STATUSES),
            states=tuple(word for word in named if word not in fold.STATUSES),
        )
        found, page = [], Page(2)
        while True:
            runs, cursor = queries.runs(wanted, page)
            found += runs
            if not cursor:
                break
            page = Page(2, cursor)
        assert [run.run for run in found] == [_run(n) for n in reversed(range(18)) if n % 6 in kinds], words
        assert {run.reason for run in found if run.state == "Parked"} <= {why}
        held = {run.reason for run in found if run.state == "Held"}
        assert held <= {"step 's' failed for good: E: no", "the function body failed for good: E: no"}
    assert [notice.reason for notice in queries.notices(_run(1))] == [why]
    queries.close()


def test_the_filter_of_runs_knows_every_word_that_a_run_is_shown_with() -> None:
    assert set(arguments.STATUSES) == {*fold.STATUSES, *trail.STATES}


def test_a_step_that_was_held_resumed_and_let_fail_shows_each_attempt_once(tmp_path: Path) -> None:
    run = _run(0)
    held = f.StepHeld(run, "s", "s", "run", 0, 1, "E", "no", "", AT)
    decisions: list[list[f.Fact]] = [
        [f.RunStarted(run, "app-fn", (_event(0).internal_id,), "", 0), held],
        [f.HeldResumed(run, "s")],
        [f.StepHeld(run, "s", "s", "run", 0, 2, "E", "no", "", AT)],
        [f.StepFailed(run, "s", "s", "run", 0, 2, "E", "no", "", AT, True)],
        [f.BodyHeld(run, 0, 3, "E", "no", "")],
        [f.HeldResumed(run, "")],
        [f.RunCompleted(run, "app-fn", 4, b"1")],
    ]
    shown = []
    for upto in range(1, len(decisions) + 1):
        changes = Changes()
        for record in _records(decisions[:upto]):
            changes.fold(record)
        steps = trail.read([trail.pack(changes.runs[run].entries)])
        shown.append((trail.state_of(steps), [(step.status, len(step.attempts)) for step in steps]))
    assert shown == [
        ("Held", [("held", 1)]),
        ("Running", [("planned", 1)]),
        ("Held", [("held", 2)]),
        ("Running", [("failed", 2)]),
        ("Held", [("failed", 2), ("held", 1)]),
        ("Running", [("failed", 2), ("planned", 1)]),
        ("Running", [("failed", 2), ("planned", 1)]),
    ]
