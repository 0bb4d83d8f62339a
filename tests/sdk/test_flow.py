"""Each option of flow control reaches the engine, and has its effect."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.sdk.rig.stage import Host, over, unique


def notices(host: Host, event: str) -> list[str]:
    """Why an event has not started a run, once that is decided."""
    found = host.server.get(f"/v1/events/{event}")[1]["data"]
    return [str(one) for one in found["notices"]] if found else []


@over()
def test_concurrency_lets_one_run_at_a_time(host: Host) -> None:
    key = unique()
    first = host.begin("concurrency", key=key, gate=key, n=1)
    host.until_executed(first, "held begins")
    second = host.begin("concurrency", key=key, gate=key, n=2)
    host.until_state(second, "Queued")
    assert host.ledger(second) == []
    host.open(key)
    assert [host.ended(run)["output"] for run in (first, second)] == [1, 2]
    assert host.times(first)["held"] <= host.times(second)["held begins"]


@over()
def test_priority_lets_the_more_urgent_run_first(host: Host) -> None:
    gate = unique()
    first = host.begin("priority", gate=gate, n=0)
    host.until_executed(first, "held begins")
    runs = [host.begin("priority", gate=gate, n=n) for n in (1, 300, 200)]
    host.open(gate)
    began = {run: host.times(run)["held begins"] for run in runs if host.ended(run)}
    assert sorted(runs, key=began.__getitem__) == [runs[1], runs[2], runs[0]]


@over()
def test_singleton_skips_a_second_run(host: Host) -> None:
    key = unique()
    run = host.begin("singleton", key=key, gate=key, n=1)
    skipped = host.send("singleton", key=key, gate=key, n=2)
    assert "singleton" in host.until("the second is skipped", lambda: notices(host, skipped))[0]
    host.open(key)
    assert host.ended(run)["output"] == 1
    assert host.server.runs_of(skipped) == []


@over()
def test_throttle_spreads_runs_out(host: Host) -> None:
    key = unique()
    runs = [host.ended(host.run_of(event)) for event in [host.send("throttle", key=key, n=n) for n in (1, 2)]]
    assert [run["output"] for run in runs] == [1, 2]
    first, second = (datetime.fromisoformat(run["gates"][0]["passed_at"]) for run in runs)
    assert second - first >= timedelta(seconds=2)


@over()
def test_rate_limit_drops_what_is_too_much(host: Host) -> None:
    key = unique()
    run = host.does("rate-limit", key=key, n=1)
    dropped = host.send("rate-limit", key=key, n=2)
    assert run["output"] == 1
    host.until("the second is dropped", lambda: notices(host, dropped))
    assert host.server.runs_of(dropped) == []


@over()
def test_debounce_keeps_the_last_event(host: Host) -> None:
    key = unique()
    events = host.send_all("debounce", *({"key": key, "n": n} for n in (1, 2, 3)))
    run = host.ended(host.run_of(events[-1]))
    assert run["output"] == 3
    assert [row["what"] for row in host.rows() if row["run"] == run["run_id"]].count("ran") == 1
    assert all(host.server.runs_of(event) == [] for event in events[:2])


@over()
def test_idempotency_takes_a_key_once(host: Host) -> None:
    key = unique()
    assert host.does("idempotency", key=key, n=1)["output"] == 1
    dropped = host.send("idempotency", key=key, n=2)
    host.until("the second is dropped", lambda: notices(host, dropped))
    assert host.server.runs_of(dropped) == []
