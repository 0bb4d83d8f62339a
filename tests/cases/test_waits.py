"""Waiting as users see it, on one machine and on Kafka, with two lanes each: for events, signals, other runs, ends."""

from __future__ import annotations

import itertools
import time
from typing import Any

from millstream.model.ids import lane_of
from tests.cases.server import ENDED, Server

ORDERS = itertools.count(time.time_ns())
LANES = 2


def waiting(server: Server, event: str, **data: Any) -> str:
    """Send an event, and return once its run waits; the run's id."""
    run = str(server.run_of(server.send(event, data))["run_id"])
    steps_waiting(server, run)
    return run


def steps_waiting(server: Server, run: str, count: int = 1) -> dict[str, dict[str, Any]]:
    """The steps at which the run waits, once there are so many; a child may be shown later than its parent."""

    def look() -> dict[str, dict[str, Any]]:
        status, answer = server.get(f"/v1/runs/{run}")
        steps = answer["data"]["steps"] if status == 200 else ()
        found = {step["name"]: step for step in steps if step["status"] == "waiting"}
        return found if len(found) >= count else {}

    return dict(server.until(f"run {run} waits at {count} steps", look))


def over(server: Server, run: str) -> dict[str, Any]:
    return dict(server.until(f"the end of run {run}", lambda: (r := server.run(run))["status"] in ENDED and r))


def output(server: Server, run: str) -> Any:
    ended = over(server, run)
    assert ended["status"] == "Completed", ended
    return ended["output"]


def test_an_event_ends_all_waits_for_its_value_on_every_lane_and_no_others(server: Server) -> None:
    orders = [next(ORDERS) for _ in range(6)]
    runs = [waiting(server, "waiting/order", order_id=order, wait_s=3600) for order in orders]
    twins = [runs[0]]
    while {lane_of(run, LANES) for run in twins} != set(range(LANES)):
        twins.append(waiting(server, "waiting/order", order_id=orders[0], wait_s=3600))
    server.send("waiting/paid", {"order_id": next(ORDERS)})
    for order in reversed(orders[1:]):
        server.send("waiting/paid", {"order_id": order, "n": order % 100})
    for run, order in zip(runs[1:], orders[1:], strict=True):
        assert output(server, run) == {"order_id": order, "n": order % 100}
    for run in twins:
        assert server.run(run)["status"] == "Running"
    server.send("waiting/paid", {"order_id": orders[0]})
    for run in twins:
        assert output(server, run) == {"order_id": orders[0]}


def test_an_answer_that_comes_before_its_run_waits_is_not_missed(server: Server) -> None:
    orders = [next(ORDERS) for _ in range(6)]
    events = {}
    for order in orders:
        events[order] = server.send("waiting/order", {"order_id": order, "wait_s": 3600, "before_s": 0.5})
        server.send("waiting/paid", {"order_id": order, "n": 1})
    for event in events.values():
        assert server.ended(event)["output"]["n"] == 1


def test_a_wait_says_for_what_and_until_when_and_ends_with_nothing_when_its_time_is_over(server: Server) -> None:
    order = next(ORDERS)
    run = waiting(server, "waiting/order", order_id=order, wait_s=3600)
    (step,) = steps_waiting(server, run).values()
    assert step["waits_for"] == {"events": [{"event": "waiting/paid", "match": "data.order_id"}]}
    assert step["wake_at"] > step["started_at"]
    in_vain = server.does("waiting/order", {"order_id": next(ORDERS), "wait_s": 1})
    assert (in_vain["status"], in_vain["output"]) == ("Completed", None)
    assert [step["timed_out"] for step in in_vain["steps"] if step["name"] == "paid"] == [True]
    server.send("waiting/paid", {"order_id": order})
    assert output(server, run) == {"order_id": order}


def test_a_lookback_finds_an_event_of_before_the_run(server: Server) -> None:
    order = next(ORDERS)
    server.send("waiting/paid", {"order_id": order, "n": 7})
    time.sleep(1.2)  # With several lanes the doors' clocks may differ by a second.
    assert server.does("waiting/order", {"order_id": order, "wait_s": 0.5})["output"] is None
    found = server.does("waiting/order", {"order_id": order, "wait_s": 3600, "lookback": "1h"})
    assert found["output"] == {"order_id": order, "n": 7}


def test_the_event_that_starts_a_run_does_not_end_its_wait_and_the_next_one_does(server: Server) -> None:
    order = next(ORDERS)
    first = waiting(server, "waiting/own", order_id=order, wait_s=3600)
    second = server.send("waiting/own", {"order_id": order, "wait_s": 1})
    assert output(server, first)["wait_s"] == 1
    # Received within the second by which clocks may differ, the first event is an answer for the second run, too.
    assert server.ended(second)["output"] in (None, {"order_id": order, "wait_s": 3600})


def test_an_expression_over_both_events_decides(server: Server) -> None:
    item = next(ORDERS)
    run = waiting(server, "waiting/expression", item=item, most=10)
    for price in (11, 10.5, 9):
        server.send("waiting/offer", {"item": item, "price": price})
    server.send("waiting/offer", {"item": next(ORDERS), "price": 1})
    assert output(server, run) == {"item": item, "price": 9}


def test_a_loop_of_waits_takes_each_event_once(server: Server) -> None:
    order = next(ORDERS)
    event = server.send("waiting/loop", {"order_id": order})
    for n in range(3):
        server.send("waiting/next", {"order_id": order, "n": n}, id=f"next-{order}-{n}")
        server.send("waiting/next", {"order_id": order, "n": n}, id=f"next-{order}-{n}")
    assert sorted(server.ended(event)["output"]) == [0, 1, 2]


def test_one_of_several_events_says_which_and_all_of_them_come_in_their_order(server: Server) -> None:
    order = next(ORDERS)
    run = waiting(server, "waiting/several", order_id=order)
    server.send("waiting/shipped", {"order_id": order, "n": 1})
    server.until("the second wait", lambda: "all" in steps_waiting(server, run))
    server.send("waiting/shipped", {"order_id": order, "n": 2})
    server.send("waiting/paid", {"order_id": order, "n": 3})
    assert output(server, run) == [1, 1, [3, 2]]


def test_an_event_cancels_the_runs_it_matches_and_a_time_limit_those_that_last_too_long(server: Server) -> None:
    order, other = next(ORDERS), next(ORDERS)
    sent = [server.send("waiting/stoppable", {"order_id": n}) for n in (order, order, order, other)]
    *stopped, going = (server.run_of(event)["run_id"] for event in sent)
    server.send("waiting/stop", {"order_id": order})
    for run in stopped:
        assert over(server, run)["status"] == "Cancelled"
    assert server.does("waiting/bounded")["status"] == "Cancelled"
    assert server.run(going)["status"] == "Running"
    server.send("waiting/stop", {"order_id": other})
    assert over(server, going)["status"] == "Cancelled"


def test_a_function_of_another_app_is_invoked_by_its_id(server: Server) -> None:
    events = {n: server.send("waiting/caller", {"function": "cases-double", "n": n}) for n in range(-1, 6)}
    nobody = server.send("waiting/caller", {"function": "cases-nobody"})
    found = {n: server.ended(event)["output"] for n, event in events.items()}
    failed = found.pop(-1)
    assert found == {n: 2 * n for n in range(6)}
    assert failed == "NonRetriableError: n must not be negative"
    assert server.ended(nobody)["output"].startswith("FunctionNotStarted: ")


def test_a_cancelled_child_fails_its_step_which_says_so(server: Server) -> None:
    run = waiting(server, "waiting/caller", function="waiting-endless")
    child = steps_waiting(server, run)["call"]["waits_for"]["run_id"]
    steps_waiting(server, child)
    assert server.run(child)["parent"] == {"run_id": run, "step": "call"}
    assert server.ask("DELETE", f"/v1/runs/{child}")[0] == 200
    assert "cancelled" in output(server, run)


def test_a_child_not_over_in_time_goes_on_and_a_cancelled_parent_takes_along_those_it_waits_for(server: Server) -> None:
    run = str(server.run_of(server.send("waiting/parent"))["run_id"])
    steps = server.until(
        "both children", lambda: {"detached", "taken-along"} <= (found := steps_waiting(server, run)).keys() and found
    )
    children = {name: step["waits_for"]["run_id"] for name, step in steps.items()}
    (late,) = (step for step in server.run(run)["steps"] if step["name"] == "late")
    children["late"] = late["waits_for"]["run_id"]
    for child in children.values():
        steps_waiting(server, child)
    assert server.ask("DELETE", f"/v1/runs/{run}")[0] == 200
    assert over(server, run)["status"] == "Cancelled"
    assert over(server, children["taken-along"])["status"] == "Cancelled"
    for name in ("late", "detached"):
        assert server.run(children[name])["status"] == "Running"
        server.ask("DELETE", f"/v1/runs/{children[name]}")


def test_a_signal_reaches_one_run_and_a_second_one_is_refused_or_takes_its_place(server: Server) -> None:
    signal = f"ok-{next(ORDERS)}"
    first = waiting(server, "waiting/approval", signal=signal, wait_s=3600, how="fail")
    refused = server.does("waiting/approval", {"signal": signal, "wait_s": 3600, "how": "fail"})
    assert f"run {first} waits for it" in refused["output"]
    second = waiting(server, "waiting/approval", signal=signal, wait_s=3600, how="replace")

    def sent() -> bool:
        """Once the second has the first one's place."""
        status, answer = server.ask("POST", "/v1/signals", {"signal": signal, "data": {"by": "ann"}})
        return bool(status == 200 and answer["data"]["run_id"] == second)

    server.until("the signal", sent)
    assert output(server, second) == {"by": "ann"}
    assert server.ask("POST", "/v1/signals", {"signal": signal})[0] == 404
    assert server.run(first)["status"] == "Running", "it waits until its time is over, and nobody can reach it"
    server.ask("DELETE", f"/v1/runs/{first}")
