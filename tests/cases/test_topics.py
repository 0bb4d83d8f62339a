"""Functions on an existing topic: started by its records, and once more by a backfill."""

from __future__ import annotations

from typing import Any

from tests.cases.server import Server

CONSUME = "/api/runs?function=cases-consume&limit=100"
BACKFILL = "/api/functions/cases-consume/backfill"


def test_records_of_a_topic_start_a_function_and_a_backfill_starts_it_again(server: Server) -> None:
    server.send("cases/produce", {"records": 4})
    runs = server.until("the runs", lambda: len(found := _ended(server)) == 3 and found)
    assert sorted(run["output"]["n"] for run in runs) == [1, 2, 3]
    assert {run["output"]["name"] for run in runs} == {"foreign/record"}

    status, told = server.ask("POST", BACKFILL, {"topic": "cases.foreign", "dry_run": True})
    assert (status, told["data"]["records"], told["data"]["scan"]) == (200, 4, None)
    status, told = server.ask("POST", BACKFILL, {"topic": "cases.foreign"})
    assert status == 200, told
    server.until("six runs", lambda: len(_ended(server)) == 6)
    scan = told["data"]["scan"]
    assert server.ask("POST", BACKFILL, {"topic": "cases.foreign", "scan": scan})[0] == 200  # Asked again: nothing new.
    (row,) = server.until("the end of the scan", lambda: _scans(server, scan, "Completed"))
    assert (row["status"], row["runs_started"], row["at"], row["purpose"]) == ("Completed", 3, 4, "backfill")
    assert server.ask("DELETE", f"/api/scans/{scan}")[0] == 404  # It is over.
    assert len(_ended(server)) == 6


def test_a_backfill_that_cannot_be_is_refused_with_what_to_do(server: Server) -> None:
    status, told = server.ask("POST", BACKFILL, {"topic": "cases.other"})
    assert status == 400 and "does not subscribe" in str(told)
    assert server.ask("POST", "/api/functions/cases-nothing/backfill", {"topic": "x"})[0] == 404
    assert server.ask("POST", BACKFILL, {"topik": "x"})[0] == 400


def _ended(server: Server) -> list[dict[str, Any]]:
    return [run for run in server.get(CONSUME)[1]["data"] if run["status"] == "Completed"]


def _scans(server: Server, scan: str, status: str) -> list[dict[str, Any]]:
    return [one for one in server.get("/api/scans")[1]["data"] if (one["scan"], one["status"]) == (scan, status)]
