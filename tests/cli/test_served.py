"""Commands against a real ``millstream dev``."""

from __future__ import annotations

import signal
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import PATIENCE_S, ROOT, Ended, Serving, millstream, serving, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("dev"), "--tick", "10") as served:
        yield served


def first(ended: Ended, column: str, wanted: int | None = None) -> Any:
    """The one row, once this column of it is as wanted, or anything but 0."""
    (row,) = ended.rows
    return row if (row[column] if wanted is None else row[column] == wanted) else None


def test_an_event_sent_starts_a_run_that_is_watched_to_its_end(server: Serving) -> None:
    run = server.start_run("shop/quick")
    watched = server.call("runs", "watch", run)
    assert watched.code == 0, watched.err
    assert watched.rows[-1]["status"] == "Completed" and watched.rows[-1]["output"]["step"] == 1
    assert [row["step"] for row in watched.rows if "step" in row] == ["one"]
    until("a line for each run", lambda: "shop-quick" in (server.folder / "out").read_text())


def test_watching_a_run_that_fails_is_exit_code_1_and_names_the_error(server: Serving) -> None:
    run = server.start_run("shop/bad")
    watched = server.call("runs", "watch", run, "-o", "table")
    assert watched.code == 1
    assert "it burst" in watched.err and "it burst" in watched.out
    shown = server.call("runs", "get", run, "-o", "table").out
    assert "explode" in shown and "Failed" in shown


def test_a_run_is_shown_with_its_input_results_attempts_times_and_tracebacks(server: Serving) -> None:
    run = server.start_run("shop/flaky", "--data", '{"order": 4711}')
    ends_s = time.monotonic() + PATIENCE_S
    while (shown := server.call("runs", "get", run).rows[0])["state"] != "Retrying":
        assert time.monotonic() < ends_s, shown
    assert shown["status"] == "Running" and shown["input"] == {"order": 4711}
    text = server.call("runs", "get", run, "-o", "table").out
    for said in ('{"order":4711}', "Retrying", '{"is":"there"}', "stumble, attempt 1 failed, at ", "again at ",
                 "ValueError: it stumbled", "Traceback", 'raise ValueError("it stumbled")'):  # fmt: skip
        assert said in text, said
    (row,) = [line.split() for line in text.splitlines() if line.startswith("stumble ")]
    assert row[:4] == ["stumble", "run", "retrying", "1"], "one attempt, everywhere"
    with urllib.request.urlopen(server.url, timeout=30) as page:
        html = page.read().decode()
    assert "attempt 1 failed" in html and "attempt 0" not in html


def test_status_words_say_what_a_run_that_is_under_way_does(server: Serving) -> None:
    asleep, retries = server.start_run("shop/long"), server.start_run("shop/flaky")
    ends_s = time.monotonic() + PATIENCE_S
    while True:
        states = {row["run_id"]: row["state"] for row in server.call("runs", "list", "--status", "running").rows}
        if (states[asleep], states[retries]) == ("Sleeping", "Retrying"):
            break
        assert time.monotonic() < ends_s, states
    for state, run in (("Sleeping", asleep), ("Retrying", retries)):
        rows = server.call("runs", "list", "--status", state.lower()).rows
        assert run in [row["run_id"] for row in rows] and {row["state"] for row in rows} == {state}
    ended = server.call("runs", "list", "--status", "sleeping,completed").rows
    assert asleep in [row["run_id"] for row in ended] and {row["state"] for row in ended} <= {"Sleeping", "Completed"}


def test_a_run_shows_what_it_waits_for_and_the_run_it_has_invoked_shows_by_whom(server: Serving) -> None:
    run = server.start_run("shop/asks", "--data", '{"order": 4711}')
    until("it waits for its child", lambda: (steps := server.call("runs", "get", run).rows[0]["steps"])[1:] and steps)
    text = server.call("runs", "get", run, "-o", "table").out
    child = server.call("runs", "get", run).rows[0]["steps"][1]["waits_for"]["run_id"]
    assert f"for run {child} of shop-answers until " in text and "timed out" in text and "Waiting" in text
    (reply,) = until("the child waits", lambda: server.call("runs", "get", child).rows[0]["steps"])
    assert reply["status"] == "waiting"
    text = server.call("runs", "get", child, "-o", "table").out
    assert "for event shop/reply (data.order) until " in text and f"step child of run {run}" in text
    said = "reply: event shop/reply (data.order)"
    until("a line for the child", lambda: said in (server.folder / "out").read_text())
    assert server.call("events", "send", "shop/reply", "--data", '{"order": 4711}').code == 0
    watched = server.call("runs", "watch", run)
    assert watched.code == 0 and watched.rows[-1]["status"] == "Completed", watched
    text = server.call("runs", "watch", run, "-o", "table").out
    assert "timed out wait_for_signal never" in text and "completed invoke child" in text
    assert f"child invoked run {child} of shop-answers" in server.call("runs", "get", run, "-o", "table").out


def test_an_unknown_function_app_or_event_is_not_an_empty_list(server: Serving) -> None:
    for option, said in (("--function", "shop-quick"), ("--app", "shop"), ("--event", "moment")):
        ended = server.call("runs", "list", option, "lost")
        assert ended.code == 4 and "'lost' not found" in ended.err and said in ended.err
    assert server.call("runs", "list", "--function", "shop-bad", "--to", "2000-01-01").code == 0, "none, but known"


def test_runs_are_found_by_the_event_s_id_of_its_sender_as_well(server: Serving) -> None:
    sent = server.call("events", "send", "shop/quick", "--id", "order-7-placed")
    ends_s = time.monotonic() + PATIENCE_S
    while not (rows := server.call("runs", "list", "--event", "order-7-placed").rows):
        assert time.monotonic() < ends_s
    assert rows == server.call("runs", "list", "--event", sent.rows[0]["id"]).rows


def test_runs_of_a_function_that_fit_are_cancelled_and_the_cancellation_is_listed(server: Serving) -> None:
    meant, other = (server.start_run("shop/long", "--data", f'{{"shop": {n}}}') for n in (71, 72))
    filters = ("--function", "shop-long", "--from", "2020-01-01", "--where", "event.data.shop == 71")
    assert server.call("runs", "cancel", *filters).code == 2, "destructive: it needs --yes"
    looked = server.call("runs", "cancel", *filters, "--dry-run")
    assert looked.code == 0 and {meant, other} <= {row["run_id"] for row in looked.rows}
    assert "whose event fulfils 'event.data.shop == 71'" in looked.err
    begun = server.call("runs", "cancel", *filters, "--reason", "by test", "--yes")
    assert begun.code == 0, begun.err
    id = begun.rows[0]["id"]
    listed = ("cancellations", "list")
    (row,) = until("its end", lambda: [r for r in server.call(*listed).rows if r["id"] == id and r["state"] == "done"])
    assert row["cancelled"] == 1 and row["reason"] == "by test"
    assert server.call("runs", "get", meant).rows[0]["error"]["message"] == f"cancellation {id}: by test"
    assert server.call("runs", "get", other).rows[0]["status"] == "Running"
    assert id in server.call(*listed, "-o", "table").out
    assert server.call("cancellations", "stop", id).rows == [{"id": id, "state": "stopping"}]
    assert server.call("cancellations", "stop", other).code == 4
    assert server.call("runs", "cancel", "--function", "lost", "--yes").code == 4
    assert server.call("runs", "cancel", other, "--where", "true", "--yes").code == 2


def test_limits_are_shown_set_without_a_deploy_and_reset(server: Serving) -> None:
    command = ("functions", "limit", "shop-narrow")
    assert [row["override"] for row in server.call(*command).rows] == [None, None]
    set_ = server.call(*command, "concurrency=5", "throttle=20/1m/3", "--by", "ada")
    assert set_.code == 0, set_.err
    numbers = [{"limit": 5}, {"limit": 20, "period": "1m", "burst": 3}]
    assert [row["override"] for row in set_.rows] == numbers and {row["by"] for row in set_.rows} == {"ada"}
    table = server.call(*command, "-o", "table").out
    assert "concurrency" in table and "20" in table
    assert [row["override"] for row in server.call(*command, "throttle=reset").rows] == [numbers[0], None]
    assert [row["override"] for row in server.call(*command, "reset").rows] == [None, None]
    for wrong, code, said in (
        (("concurrency=many",), 2, "expected a whole number from 1, got 'many'"),
        (("speed=5",), 2, "expected one such as concurrency=5"),
        (("reset", "concurrency=5"), 2, "it resets all"),
        (("rate_limit=5/1h",), 1, "declares no rate_limit"),
        (("throttle=5/30d",), 1, "must be 1s to 7d, got 30d"),
    ):
        ended = server.call(*command, *wrong)
        assert (ended.code, said in ended.err) == (code, True), ended
    assert server.call("functions", "limit", "lost").code == 4


def test_watching_longer_than_the_timeout_is_exit_code_7_and_cancelling_ends_the_run(server: Serving) -> None:
    run = server.start_run("shop/long")
    assert server.call("runs", "watch", run, "--timeout", "300ms").code == 7
    assert server.call("runs", "cancel", run).code == 2, "destructive: it needs --yes"
    looked = server.call("runs", "cancel", run, "--dry-run")
    assert looked.code == 0 and "would be cancelled" in looked.err and looked.rows[0]["status"] == "Running"
    assert server.call("runs", "cancel", run, "--yes").rows == [{"run_id": run, "status": "Cancelled"}]
    watched = server.call("runs", "watch", run)
    assert watched.code == 1
    assert [row["status"] for row in watched.rows] == ["cancelled", "Cancelled"], "its sleep, and the run"
    shown = server.call("runs", "get", "-o", "table", run).out
    assert "cancelled" in shown and "until" not in shown


def test_held_runs_are_listed_resumed_and_let_fail_by_name_and_by_filter(server: Serving) -> None:
    runs = [server.start_run("shop/held") for _ in range(3)]

    def held() -> set[str]:
        return {row["run_id"] for row in server.call("runs", "list", "--status", "held").rows}

    until("the holds", lambda: held() == set(runs))
    assert server.call("runs", "watch", runs[0], "--timeout", "300ms").code == 7
    shown = server.call("runs", "get", runs[0], "-o", "table").out
    assert "Held" in shown and "step 'explode' failed for good: RuntimeError: it burst" in shown
    assert server.call("runs", "resume", runs[0]).code == 2, "it needs --yes"
    assert server.call("runs", "resume", "--yes").code == 2, "which?"
    assert server.call("runs", "resume", "--yes", runs[0]).rows == [{"run_id": runs[0], "outcome": "resumed"}]
    until("it is held again", lambda: held() == set(runs))
    looked = server.call("runs", "fail", "--function", "shop-held", "--dry-run")
    assert looked.code == 0 and {row["run_id"] for row in looked.rows} == set(runs)
    failed = server.call("runs", "fail", "--function", "shop-held", "--from", "2020-01-01T00:00:00Z", "--yes")
    assert failed.code == 0 and {row["outcome"] for row in failed.rows} == {"failed"} and len(failed.rows) == 3
    assert server.call("runs", "watch", runs[1]).code == 1
    again = server.call("runs", "resume", "--yes", runs[1])
    assert again.code == 1 and "is not held: it is over, Failed" in again.err
    until("a line for it", lambda: "explode: RuntimeError: it burst" in (server.folder / "out").read_text())


def test_a_run_that_is_not_there_is_exit_code_4(server: Serving) -> None:
    for command in (("get",), ("cancel", "--yes"), ("resume", "--yes"), ("fail", "--yes")):
        ended = server.call("runs", *command, "01M8321AD85Y4GST1D5EH83AVG")
        assert ended.code == 4 and "not found" in ended.err


def test_events_are_listed_and_shown_with_their_runs_and_are_no_runs(server: Serving) -> None:
    run = server.start_run("shop/quick", "--data", '{"order": 7}', "--id", "order-8-placed")
    (listed,) = server.call("events", "list", "--name", "shop/quick", "--limit", "1").rows
    assert (listed["id"], listed["data"]) == ("order-8-placed", {"order": 7})
    (event,) = server.call("events", "get", "order-8-placed").rows
    assert event["internal_id"] == listed["internal_id"] and [one["run_id"] for one in event["runs"]] == [run]
    shown = server.call("events", "get", listed["internal_id"], "-o", "table").out
    assert run in shown and "order-8-placed" in shown
    for command in ("get", "watch"):
        wrong = server.call("runs", command, listed["internal_id"])
        assert wrong.code == 4 and run in wrong.err and "is an event, 'shop/quick'" in wrong.err
    assert server.call("events", "get", "nobody-sent-this").code == 4


def test_the_line_of_an_event_says_why_it_started_nothing(server: Serving) -> None:
    for name, why in {
        "shop/picky": "if_ does not hold for shop-picky",
        "shop/nobody": "no function subscribes",
    }.items():
        (sent,) = server.call("events", "send", name, "--data", '{"wanted": false}').rows
        line = until(f"a line of {name}", lambda: [line for line in server.out if sent["id"] in line])[0]  # noqa: B023
        assert "ignored" in line and why in line
    (unreadable,) = server.call("events", "send", "shop/picky").rows
    line = until("a line of it", lambda: [line for line in server.out if unreadable["id"] in line])[0]
    assert "skipped    shop-picky" in line and "wanted" in line
    (first,), (second,) = (server.call("events", "send", "shop/quick", "--id", "twice").rows for _ in range(2))
    line = until("a line of the second", lambda: [line for line in server.out if second["id"] in line])[0]
    assert "its id 'twice' was seen before" in line and first["id"] != second["id"]


def test_jsonl_is_sent_line_by_line_and_a_bad_line_is_named(server: Serving) -> None:
    lines = "".join(f'{{"name": "none/such", "data": {{"n": {n}}}}}\n' for n in range(250))
    sent = server.call("events", "send", "-", stdin=lines)
    assert sent.code == 0 and len({row["id"] for row in sent.rows}) == 250
    broken = server.call("events", "send", "-", stdin='{"name": "none/such"}\n{"name": \n')
    assert broken.code == 1 and "line 2" in broken.err
    many = server.call("events", "send", "none/such", "--data", "-", stdin='{"n": 1}\n{"n": 2}\n')
    assert [row["name"] for row in many.rows] == ["none/such"] * 2
    refused = server.call("events", "send", "inngest/none.such")
    assert refused.code == 1 and "refused" in refused.err


def test_a_function_is_invoked_by_its_id_and_watched_and_an_unknown_one_names_those_there_are(server: Serving) -> None:
    invoked = server.call("functions", "invoke", "shop-quick", "--data", '{"order": 7}')
    assert invoked.code == 0 and server.call("runs", "watch", invoked.rows[0]["run_id"]).code == 0
    watched = server.call("functions", "invoke", "shop-quick", "--data", '{"order": 7}', "--watch")
    assert watched.code == 0 and watched.rows[-1]["output"]["got"]["order"] == 7
    lost = server.call("functions", "invoke", "shop-lost")
    assert lost.code == 4 and "shop-quick" in lost.err


def test_lanes_are_inspected_and_verified_while_the_server_has_them(server: Serving) -> None:
    server.start_run("shop/long")
    row = until("its timer", lambda: first(server.call("lanes", "inspect", "--data", "data"), "timers"))
    assert row["fences"] == 1 and row["open_runs"] >= 1 and row["stuck"] == 0
    listed = until("no lag", lambda: first(server.call("lanes", "list", "--data", "data"), "lag", 0))
    assert (listed["lane"], listed["owner"]) == (0, row["worker"])
    assert listed["journal_end"] >= row["journal_end"]
    verified = server.call("lanes", "verify", "--data", "data")
    assert verified.code == 0 and "no problems" in verified.err, verified


def test_open_runs_without_code_are_said_once_and_measured_until_their_app_is_back(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        run = served.start_run("shop/long")
    (tmp_path / "other.py").write_text('from millstream import App\napp = App("other")\n')
    with serving(tmp_path, app="other:app") as served:
        ends_s = time.monotonic() + PATIENCE_S
        while 'millstream_runs_without_code{function="shop-long"} 1.0' not in (text := metrics(served)):
            assert time.monotonic() < ends_s, text
        served.process.send_signal(signal.SIGTERM)
        _, said = served.process.communicate(timeout=PATIENCE_S)
        said = "".join(served.told) + said
        assert said.count("open runs wait for code") == 1 and "shop-long" in said
    with serving(tmp_path) as served:
        assert served.call("runs", "cancel", "--yes", run).code == 0
        assert "runs_without_code{" not in metrics(served)


def metrics(served: Serving) -> str:
    with urllib.request.urlopen(f"{served.url}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def test_a_second_server_on_the_same_data_is_refused_in_one_line(server: Serving) -> None:
    ended = millstream("dev", "shop:app", "--port", "0", "--data", "data", cwd=server.folder)
    assert ended.code == 1 and "error:" in ended.err


def test_dev_stops_at_a_signal_and_what_it_wrote_verifies_until_a_byte_is_wrong(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        served.call("runs", "watch", served.start_run("shop/quick"))
        served.start_run("shop/long")
        served.process.send_signal(signal.SIGINT)
        served.process.communicate(timeout=30)
        assert served.process.returncode == 0
    assert millstream("lanes", "verify", "--data", "data", cwd=tmp_path).code == 0
    file = next(path for path in (tmp_path / "data" / "log").iterdir() if path.read_bytes()[:6] == b"SQLite")
    with sqlite3.connect(file) as log:
        log.execute("UPDATE batch SET crc = crc + 1 WHERE rowid = (SELECT rowid FROM batch LIMIT 1 OFFSET 3)")
    log.close()
    broken = millstream("lanes", "verify", "--data", "data", cwd=tmp_path)
    assert broken.code == 6 and broken.rows


def test_the_smoke_run_feeds_the_examples_with_real_webhooks_and_ends_by_itself(tmp_path: Path) -> None:
    apps = ("examples.contact_form:app", "examples.blog:app", "examples.webhooks:app")
    feed = ROOT / "examples" / "data" / "github-webhooks.jsonl"
    ended = millstream("dev", *apps, "--port", "0", "--feed", str(feed), "--smoke", "--data", str(tmp_path / "data"))
    assert ended.code == 0, ended.err[-2000:]
    assert "webhooks-tally" in ended.out and " failed " in ended.out
