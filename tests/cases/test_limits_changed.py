"""Limits changed on a real server, embedded and on Kafka: at once for what queues, over kill -9, until reset."""

from __future__ import annotations

from collections.abc import Callable

from tests.cases.server import Server

LIMITS = "/api/functions/cases-narrow/limits"


def states(server: Server, runs: list[str]) -> list[str]:
    return sorted(server.run(run)["state"] for run in runs)


def queue(server: Server) -> list[str]:
    """Three runs: one sleeps, two wait for it."""
    runs = [str(server.run_of(server.send("cases/narrow"))["run_id"]) for _ in range(3)]
    server.until("one to sleep", lambda: states(server, runs) == ["Queued", "Queued", "Sleeping"])
    return runs


def test_queued_runs_begin_when_the_limit_is_raised_and_wait_again_when_it_is_reset(server: Server) -> None:
    runs = queue(server)
    status, answer = server.ask("PUT", LIMITS, {"concurrency": 3, "by": "the tests"})
    assert status == 200 and answer["data"]["limits"][0]["override"] == {"limit": 3}
    server.until("all to sleep", lambda: states(server, runs) == ["Sleeping"] * 3)
    assert server.ask("DELETE", LIMITS)[0] == 200
    more = str(server.run_of(server.send("cases/narrow"))["run_id"])
    server.until("one to queue", lambda: server.run(more)["state"] == "Queued")
    for run in (more, *runs):
        assert server.ask("DELETE", f"/v1/runs/{run}")[0] == 200
    assert server.get(LIMITS)[1]["data"]["limits"][0]["override"] is None


def test_an_override_outlives_kill_9(fresh: Callable[..., Server]) -> None:
    server = fresh(flags=("--lanes", "2"))
    assert server.ask("PUT", LIMITS, {"concurrency": 3})[0] == 200
    server.kill()
    server.start()
    assert server.get(LIMITS)[1]["data"]["limits"][0]["override"] == {"limit": 3}
    runs = [str(server.run_of(server.send("cases/narrow"))["run_id"]) for _ in range(3)]
    server.until("all to sleep", lambda: states(server, runs) == ["Sleeping"] * 3)
