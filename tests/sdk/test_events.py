"""Events that steps send, batches of events, and ticks of crons."""

from __future__ import annotations

from tests.sdk.rig.stage import Host, over


@over()
def test_a_step_sends_events_once(host: Host) -> None:
    run = host.does("send-event")
    ids = run["output"]
    assert len(set(ids)) == 2
    told = [host.ended(host.run_of(id)) for id in ids]
    assert [one["output"] for one in told] == [1, 2]
    assert sorted(row["what"] for row in host.rows() if row.get("by") == run["run_id"]) == ["told", "told"]


@over()
def test_a_batch_starts_when_it_is_full(host: Host) -> None:
    events = [host.send("batch", n=n) for n in (1, 2, 3)]
    runs = {host.run_of(event) for event in events}
    assert len(runs) == 1
    assert host.ended(runs.pop())["output"] == [1, 2, 3]


@over()
def test_a_batch_starts_when_its_time_is_over(host: Host) -> None:
    events = [host.send("batch-late", n=n) for n in (1, 2)]
    runs = [host.ended(run) for run in {host.run_of(event) for event in events}]
    assert sorted(n for run in runs for n in run["output"]) == [1, 2]
