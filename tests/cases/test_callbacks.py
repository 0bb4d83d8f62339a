"""Callbacks on a real server: whoever has the URL answers the run, once, whatever the run does meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cases.on_kafka import PUBLIC_URL, FleetServer
from tests.cases.server import Server

STRANGER = {"Host": "hooks.example.com", "Origin": "https://mail.example.com"}


def begun(server: Server, name: str = "cases/approval", **data: Any) -> tuple[str, str]:
    """Start a run that asks for an approval: its event, and the path of the URL that it has given away."""
    event = server.send(name, data)
    run = server.run_of(event)["run_id"]

    def told() -> str:
        lines = server.notes.read_text().splitlines()
        return next((line.partition(" ")[2] for line in lines if line.startswith(run)), "")

    url = server.until("a URL that was given away", told)
    base = PUBLIC_URL if isinstance(server, FleetServer) else server.url
    assert url.startswith(f"{base.rstrip('/')}/v1/callbacks/"), url
    return event, url.removeprefix(f"{urlsplit(url).scheme}://{urlsplit(url).netloc}").removeprefix("/millstream")


@pytest.mark.parametrize("name", ["cases/approval", "cases/plain-approval"])
def test_what_is_posted_is_what_the_run_gets(server: Server, name: str) -> None:
    event, path = begun(server, name)
    run = server.run_of(event)["run_id"]
    assert server.ask("GET", path, headers=STRANGER)[0] == 200
    status, answer = server.ask("POST", path, {"is_approved": True}, STRANGER)
    assert (status, answer["data"]) == (200, {"run_id": run}), answer
    output = server.ended(event)["output"]
    assert output in (
        {"is_approved": True},
        {"answer": {"is_approved": True}, "id": path.split("/")[3].rpartition(".")[0]},
    )
    status, answer = server.ask("POST", path, {"is_approved": False})
    assert (status, "the run that waited for it is over" in answer["error"]) == (410, True)


def test_of_many_posts_at_once_one_is_taken_and_kept_until_the_run_asks(server: Server) -> None:
    event, path = begun(server, think="2s")
    with ThreadPoolExecutor(8) as people:
        answers = list(people.map(lambda n: (server.ask("POST", path, n), n), range(8)))
    taken = [n for (status, _), n in answers if status == 200]
    assert sorted(status for (status, _), _ in answers) == [200] + [410] * 7, answers
    assert server.ended(event)["output"]["answer"] == taken[0]


def test_without_a_post_the_run_goes_on_when_the_time_is_over(server: Server) -> None:
    event, path = begun(server, timeout="300ms")
    assert server.ended(event)["output"]["answer"] is None
    assert server.ask("POST", path, "late")[0] == 410


def test_a_run_shows_that_it_waits_for_a_post_and_does_not_show_where(server: Server) -> None:
    event, path = begun(server)
    run = server.run_of(event)["run_id"]

    def waiting() -> Any:
        return next((s for s in server.run(run)["steps"] if s["status"] == "waiting" and s["waits_for"]), None)

    step = server.until("a run that waits", waiting)
    assert (step["id"], step["waits_for"], bool(step["wake_at"])) == ("approve/result", {"callback": "approve"}, True)
    assert path.rpartition(".")[2] not in str(server.run(run))
    assert server.ask("DELETE", f"/v1/runs/{run}", headers={"X-Millstream": "1"})[0] == 200
    assert server.ask("POST", path, "late")[0] == 410


def test_any_other_address_is_not_found(server: Server) -> None:
    _, path = begun(server, timeout="1ms")
    status, answer = server.ask("POST", path[:-2], "guess")
    assert (status, "no such callback" in answer["error"]) == (404, True)
