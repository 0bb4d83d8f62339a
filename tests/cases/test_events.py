"""Which functions an event starts, and when it starts none."""

from __future__ import annotations

import time

from tests.cases.server import Server

NOTHING_FOR_S = 0.5


def test_an_acknowledged_event_is_listed_though_nothing_subscribes(server: Server) -> None:
    event = server.send("cases/nobody", {"a": 1})
    found = server.until("the event", lambda: (a := server.get(f"/v1/events/{event}"))[0] == 200 and a[1]["data"])
    assert found["name"] == "cases/nobody"
    assert found["data"] == {"a": 1}


def test_a_wildcard_matches_at_a_boundary_and_nowhere_else(server: Server) -> None:
    assert server.does("cases/wild/one")["output"] == "cases/wild/one"
    assert server.does("cases/wild/one.two")["output"] == "cases/wild/one.two"
    other = server.send("cases/wilder")
    time.sleep(NOTHING_FOR_S)
    assert server.runs_of(other) == []


def test_an_expression_decides_whether_a_function_starts(server: Server) -> None:
    too_small = server.send("cases/if", {"amount": 100, "country": "FR"})
    without = server.send("cases/if", {"country": "FR"})
    assert server.does("cases/if", {"amount": 100.5, "country": "FR"})["output"] == 100.5
    assert server.runs_of(too_small) == []
    assert server.runs_of(without) == []


def test_several_fitting_triggers_start_a_function_once(server: Server) -> None:
    event = server.send("cases/both")
    server.ended(event)
    assert len(server.runs_of(event)) == 1


def test_the_same_id_starts_nothing_a_second_time(server: Server) -> None:
    id = f"order-{time.time_ns()}"
    first = server.send("cases/sequence", id=id)
    server.ended(first)
    second = server.send("cases/sequence", id=id)
    assert second != first
    time.sleep(NOTHING_FOR_S)
    runs = [r for r in server.get("/api/runs?function=cases-sequence")[1]["data"] if r["event_id"] in (first, second)]
    assert len(runs) == 1


def test_a_repeated_post_with_its_seed_gives_the_same_ids_and_one_run_each(server: Server) -> None:
    seed = {"x-inngest-event-id-seed": f"{time.time_ns() // 1_000_000},p9+5CvIKPgf6gw=="}
    body = [{"name": "cases/sequence"}, {"name": "cases/sequence"}]
    first = server.ask("POST", "/e/test", body, seed)[1]["ids"]
    second = server.ask("POST", "/e/test", body, seed)[1]["ids"]
    assert first == second
    for event in first:
        server.ended(event)
    time.sleep(NOTHING_FOR_S)
    assert [len(server.runs_of(event)) for event in first] == [1, 1]


def test_an_event_of_the_future_starts_its_functions_then(server: Server) -> None:
    at_ms = int(time.time() * 1000) + 3_000
    event = server.send("cases/sequence", ts=at_ms)
    server.ended(event)
    assert time.time() * 1000 >= at_ms


def test_an_event_that_breaks_its_schema_is_refused_naming_the_field(server: Server) -> None:
    status, answer = server.ask("POST", "/e/test", {"name": "order/placed", "data": {"order_id": 5}})
    assert status == 400
    assert "order_id" in answer["error"]
    assert "must be string" in answer["error"]
    assert answer["ids"] == [""]


def test_a_post_is_taken_up_to_its_first_bad_event(server: Server) -> None:
    body = [{"name": "cases/sequence"}, {"name": ""}, {"name": "cases/sequence"}]
    status, answer = server.ask("POST", "/e/test", body)
    assert status == 400
    assert len(answer["ids"]) == 1
    assert server.ended(answer["ids"][0])["status"] == "Completed"
