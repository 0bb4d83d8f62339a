"""What a function can do, on a real server."""

from __future__ import annotations

import time

from tests.cases.server import Server


def steps_of(run: dict) -> dict[str, dict]:
    return {step["id"]: step for step in run["steps"]}


def test_steps_run_in_order_and_their_results_are_remembered(server: Server) -> None:
    run = server.does("cases/sequence")
    assert run["status"] == "Completed"
    assert run["output"] == {"sum": 4}
    assert [(s["id"], s["output"]) for s in run["steps"]] == [("one", 2), ("two", 3), ("three", 4)]


def test_a_step_id_used_again_gets_a_number(server: Server) -> None:
    run = server.does("cases/loop")
    assert run["output"] == [1, 2, 3, 4, 5]
    assert list(steps_of(run)) == ["again", "again:1", "again:2", "again:3", "again:4"]


def test_plain_gather_and_task_groups_run_steps_side_by_side(server: Server) -> None:
    run = server.does("cases/parallel")
    assert run["status"] == "Completed", run
    assert run["output"] == 10


def test_a_plain_function_runs_steps_too(server: Server) -> None:
    assert server.does("cases/plain")["output"] == 42


def test_a_failing_step_is_tried_again_alone(server: Server) -> None:
    run = server.does("cases/retry")
    assert run["output"] == 2
    assert [a["status"] for a in steps_of(run)["flaky"]["attempts"]] == ["failed", "failed", "completed"]


def test_a_step_is_tried_again_as_its_own_retry_says(server: Server) -> None:
    run = server.does("cases/retrying")
    assert run["output"] == [2, "FileNotFoundError"]
    assert [len(steps_of(run)[id]["attempts"]) for id in ("patient", "choosy")] == [3, 2]


def test_a_step_that_used_up_its_attempts_can_be_caught_and_compensated(server: Server) -> None:
    run = server.does("cases/exhausted")
    assert run["output"] == "caught ValueError: attempt 1 fails"
    assert len(steps_of(run)["hopeless"]["attempts"]) == 2


def test_an_uncaught_step_error_fails_the_run_and_calls_its_failure_handler(server: Server) -> None:
    run = server.does("cases/uncaught")
    assert run["status"] == "Failed"
    assert "attempt 0 fails" in str(run["output"])
    wanted = "failure-handler cases-uncaught attempt 0 fails"
    server.until("the failure handler's note", lambda: wanted in server.notes.read_text())


def test_a_non_retriable_error_is_not_tried_again(server: Server) -> None:
    run = server.does("cases/non-retriable")
    assert run["status"] == "Failed"
    assert len(steps_of(run)["never"]["attempts"]) == 1


def test_retry_after_chooses_when_the_next_attempt_starts(server: Server) -> None:
    began = time.monotonic()
    assert server.does("cases/retry-after")["output"] == "ok"
    assert time.monotonic() - began >= 1.0


def test_a_failing_body_is_tried_again_and_its_steps_are_not(server: Server) -> None:
    run = server.does("cases/body-fails")
    assert run["output"] == 2
    assert server.notes.read_text().count(f"before {run['run_id']}") == 1


def test_a_sleep_waits_and_goes_on(server: Server) -> None:
    began = time.monotonic()
    run = server.does("cases/sleep")
    assert run["output"] == "awake"
    assert time.monotonic() - began >= 1.0
    assert steps_of(run)["nap"]["kind"] == "sleep"


def test_send_event_starts_other_functions_once_each(server: Server) -> None:
    run = server.does("cases/send")
    ids = run["output"]
    assert len(set(ids)) == 3
    assert sorted(server.ended(id)["output"] for id in ids) == [0, 1, 2]


def test_publish_is_a_step(server: Server) -> None:
    run = server.does("cases/publish")
    assert run["status"] == "Completed"
    assert steps_of(run)["out"]["kind"] == "publish"


def test_a_cron_fires_on_its_own(server: Server) -> None:
    def ticks() -> list[dict]:
        return [r for r in server.get("/api/runs?function=cases-tick")[1]["data"] if r["status"] == "Completed"]

    runs = server.until("two ticks", lambda: len(ticks()) >= 2 and ticks())
    assert runs[0]["output"] == "@every 1s"
    assert runs[0]["event_name"] == "inngest/scheduled.timer"


def test_a_step_that_takes_too_long_is_stopped(server: Server) -> None:
    run = server.does("cases/timeout")
    assert run["status"] == "Failed"
    assert "StepTimeout" in str(run["output"])


def test_a_result_that_is_not_json_names_the_path_of_the_bad_field(server: Server) -> None:
    run = server.does("cases/unserialisable")
    assert run["status"] == "Failed"
    assert "items[1].bad" in str(run["output"])


def test_a_run_with_too_many_steps_fails_by_name(server: Server) -> None:
    run = server.does("cases/many-steps")
    assert run["status"] == "Failed"
    assert run["output"]["name"] == "InngestErrFunctionOverflowed"
