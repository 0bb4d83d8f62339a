"""Cancel and invoke: asked over HTTP, decided by the lane that owns the run."""

from __future__ import annotations

from typing import Any

from tests.cases.server import Server


def test_a_cancelled_run_ends_at_once_and_stays_ended(server: Server) -> None:
    event = server.send("cases/forever")
    run = server.run_of(event)["run_id"]
    server.until("the step under way", lambda: f"begun {run}" in server.notes.read_text())
    status, answer = server.ask("DELETE", f"/v1/runs/{run}")
    assert status in (200, 204), answer
    assert server.run(run)["status"] == "Cancelled"  # An answer is given once the read side shows it.
    server.until("the step to be told", lambda: f"told {run}" in server.notes.read_text())


def test_many_runs_are_cancelled_by_one_request_on_every_lane(server: Server) -> None:
    runs = [server.run_of(server.send("cases/forever", {"batch": n % 2}))["run_id"] for n in range(8)]
    wanted = {"function_id": "cases-endless", "started_before": "now", "if": "event.data.batch == 1", "reason": "cases"}
    for n, run in enumerate(runs):
        server.until(f"run {n} to execute", lambda run=run: f"begun {run}" in server.notes.read_text())
    status, answer = server.ask("POST", "/v1/cancellations", wanted)
    assert status == 200, answer
    id = answer["data"]["id"]

    def over() -> Any:
        rows = server.get("/v1/cancellations")[1]["data"]
        return next((row for row in rows if row["id"] == id and row["state"] == "done"), None)

    row = server.until("its end", over)
    assert row["cancelled"] == 4 and row["lanes"]["over"] == row["lanes"]["all"]
    for n, run in enumerate(runs):
        assert server.run(run)["status"] == ("Cancelled" if n % 2 else "Running")
        if n % 2:
            assert server.run(run)["error"]["message"] == f"cancellation {id}: cases"
            server.until("the step to be told", lambda run=run: f"told {run}" in server.notes.read_text())
        else:
            server.ask("DELETE", f"/v1/runs/{run}")


def test_cancelling_a_run_that_never_was_is_not_found(server: Server) -> None:
    assert server.ask("DELETE", "/v1/runs/01M83166TFPXY6W1PP2C82TPXR")[0] == 404


def test_a_function_can_be_invoked_directly(server: Server) -> None:
    status, answer = server.ask("POST", "/invoke/cases-on_demand", {"data": {"x": 1}})
    assert status == 200, answer
    runs = server.until("the run", lambda: server.get("/api/runs?function=cases-on_demand")[1]["data"])
    done = server.until("its end", lambda: (r := server.run(runs[0]["run_id"]))["status"] == "Completed" and r)
    assert done["output"]["got"]["x"] == 1


def test_invoking_an_unknown_function_says_so(server: Server) -> None:
    status, answer = server.ask("POST", "/invoke/cases-nothing", {"data": {}})
    assert status == 404
    assert "cases-nothing" in str(answer)


def test_metrics_count_what_happened(server: Server) -> None:
    server.does("cases/sequence")
    text = server.metrics()
    assert 'millstream_runs_finished_total{function="cases-sequence",status="completed"}' in text
    assert "millstream_journal_append_seconds_count" in text


def test_the_page_shows_runs_and_their_steps(server: Server) -> None:
    run = server.does("cases/exhausted")
    status, page = server.get("/")
    assert status == 200
    assert run["run_id"] in page
    assert "hopeless" in page
    assert "attempt 1 fails" in page
