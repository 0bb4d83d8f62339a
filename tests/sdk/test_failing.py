"""What fails is retried, caught, or the end of its run; what is recorded is never redone."""

from __future__ import annotations

from tests.sdk.rig.processes import PYTHON
from tests.sdk.rig.stage import Host, over


@over()
def test_a_step_that_fails_is_retried_alone(host: Host) -> None:
    run = host.does("step-retry")
    assert run["output"] == {"attempt": 2, "after": 0}
    assert host.ledger(run["run_id"]) == ["before", "shaky", "shaky", "shaky", "after"]
    shaky = next(step for step in run["steps"] if step["name"] == "shaky")
    assert [attempt["status"] for attempt in shaky["attempts"]] == ["failed", "failed", "completed"]


@over()
def test_a_body_that_fails_is_retried_without_its_steps(host: Host) -> None:
    run = host.does("body-retry")
    assert run["output"] == 2
    assert host.ledger(run["run_id"]) == ["before"]


@over()
def test_a_step_that_failed_for_good_can_be_caught(host: Host) -> None:
    run = host.does("fails", catch=True)
    name = "ValueError" if host.name in PYTHON else "Error"
    assert (run["status"], run["output"]) == ("Completed", {"name": name, "message": "it burst"})
    assert host.ledger(run["run_id"]) == ["bursts", "bursts", "mend"]


@over()
def test_a_step_that_failed_for_good_fails_its_run(host: Host) -> None:
    run = host.does("fails", n=7)
    assert run["status"] == "Failed"
    assert run["output"]["message"] == "it burst"
    assert run["output"]["name"] in ("ValueError", "Error")
    assert "bursts" in run["output"]["stack"]
    assert host.ledger(run["run_id"]) == ["bursts", "bursts"]


@over()
def test_the_failure_handler_hears_of_the_run_and_its_event(host: Host) -> None:
    run = host.does("fails", n=7)["run_id"]

    def handled() -> list[dict[str, object]]:
        return [row for row in host.rows() if row["what"] == "on-failure" and row["of"] == run]

    row = host.until("the failure handler", handled)[0]
    assert (row["function"], row["event"]) == (f"{host.id}-fails", {"n": 7})
    assert "it burst" in str(row["message"])
    host.ended(str(row["run"]))
    assert len(handled()) == 1


@over()
def test_an_error_that_forbids_it_is_not_retried(host: Host) -> None:
    run = host.does("non-retriable")
    assert (run["status"], run["output"]["message"]) == ("Failed", "never again")
    assert host.ledger(run["run_id"]) == ["bursts"]


@over()
def test_an_error_says_when_to_retry(host: Host) -> None:
    run = host.does("retry-after")
    assert run["output"] == 1
    first, second = (row["at"] for row in host.rows() if row["run"] == run["run_id"] and row["what"] == "later")
    assert second - first >= 0.9, "two seconds were asked for, of which a fraction may be lost on the way"
