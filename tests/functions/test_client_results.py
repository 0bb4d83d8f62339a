"""What do clients ask to learn how a run ended, and what do they make of the answers?"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

import pytest

from millstream import App, Client, Context, RunError, RunNotOver, SyncClient, SyncContext
from millstream.errors import Busy, FunctionError, MillstreamError, NotFound
from millstream.sdk.outside import client as module
from tests.functions.test_client import Door, Threaded, door

__all__ = ["door"]

RUN = "01M83166TFPXY6W1PP2C82TPXR"
RUNNING = (202, {"data": {"run_id": RUN, "function_id": "shop-add", "status": "Running"}})
app = App("shop")


@dataclasses.dataclass
class Sum:
    value: int


@app.function(on="shop/add")
async def add(ctx: Context) -> Sum:
    return Sum(3)


@app.function(on="shop/add")
def add_plain(ctx: SyncContext) -> Sum:
    return Sum(3)


def over(status: str = "Completed", **more: Any) -> tuple[int, object]:
    return 200, {"data": {"run_id": RUN, "function_id": "shop-add", "status": status, **more}}


async def test_a_result_is_asked_for_until_the_run_is_over(door: Door) -> None:
    door.answers = [RUNNING, RUNNING, over(output={"value": 3})]
    async with Client(door.url) as client:
        assert await client.result(RUN) == {"value": 3}
    assert [(method, path) for method, path, _, _ in door.asked] == [("GET", f"/v1/runs/{RUN}/result")] * 3


async def test_a_run_that_failed_or_was_cancelled_is_an_error_that_says_why(door: Door) -> None:
    error = {"name": "ValueError", "message": "no card", "stack": "Traceback …"}
    door.answers = [over("Failed", error=error), over("Cancelled", error={"name": "Cancelled", "message": "by Ada"})]
    async with Client(door.url) as client:
        with pytest.raises(RunError, match=f"run {RUN} of shop-add failed: ValueError: no card") as failed:
            await client.result(RUN)
        with pytest.raises(RunError, match=f"run {RUN} of shop-add was cancelled: by Ada") as cancelled:
            await client.result(RUN)
    assert (failed.value.run, failed.value.status, failed.value.name) == (RUN, "Failed", "ValueError")
    assert failed.value.stack == "Traceback …"
    assert cancelled.value.status == "Cancelled"


async def test_a_run_that_is_not_over_in_time_is_a_timeout_that_says_how_to_go_on(door: Door) -> None:
    door.answers = [RUNNING] * 1_000
    began = time.monotonic()
    async with Client(door.url) as client:
        with pytest.raises(TimeoutError, match=r"not over after 50ms: it is Running, and goes on.*cancel") as late:
            await client.result(RUN, timeout="50ms")
        assert isinstance(late.value, RunNotOver) and isinstance(late.value, MillstreamError)
        with pytest.raises(FunctionError, match="timeout refused"):
            await client.result(RUN, timeout="soon")
    assert time.monotonic() - began < 5


async def test_a_server_where_too_many_wait_is_asked_again(door: Door) -> None:
    door.answers = [(503, {"error": "too many wait"})] * 7 + [over(output=1)]
    async with Client(door.url) as client:
        assert await client.result(RUN, timeout="10s") == 1
        door.answers = [(503, {"error": "too many wait"})] * 100
        with pytest.raises(Busy, match="too many wait"):
            await client.result(RUN, timeout=0)


async def test_a_run_that_is_not_there_says_so(door: Door) -> None:
    door.answers = [(404, {"error": f"Run not found: {RUN}"})]
    async with Client(door.url) as client:
        with pytest.raises(NotFound, match=f"Run not found: {RUN}"):
            await client.result(RUN, timeout="10s")


async def test_an_invocation_gives_the_result_as_the_function_says_it_is(door: Door) -> None:
    done = over(output={"value": 3})[1]
    door.answers = [(200, {"run_id": RUN, **done}), (202, {"run_id": RUN}), RUNNING, over(output={"value": 3})]  # type: ignore[dict-item]
    async with Client(door.url, "key") as client:
        assert await client.invoke(add, {"a": 1}) == Sum(3)
        assert await client.invoke("shop-add", {"a": 1}, timeout="1m") == {"value": 3}
    assert [(method, path, body) for method, path, _, body in door.asked] == [
        ("POST", "/invoke/shop-add", {"data": {"a": 1}}),
        ("POST", "/invoke/shop-add", {"data": {"a": 1}}),
        ("GET", f"/v1/runs/{RUN}/result", None),
        ("GET", f"/v1/runs/{RUN}/result", None),
    ]
    assert len({seed for _, _, seed, _ in door.asked[:2]}) == 2 and all(seed for _, _, seed, _ in door.asked[:2])


async def test_an_invocation_that_is_tried_again_has_the_same_seed(door: Door) -> None:
    door.answers = [(503, {}), (500, {}), (200, {"run_id": RUN, **over(output=1)[1]})]  # type: ignore[dict-item]
    async with Client(door.url) as client:
        assert await client.invoke("shop-add") == 1
    assert len({seed for _, _, seed, _ in door.asked}) == 1 and len(door.asked) == 3


async def test_a_run_that_was_just_started_may_not_be_shown_yet(door: Door) -> None:
    door.answers = [(202, {"run_id": RUN}), (404, {"error": "Run not found"}), RUNNING, over(output=7)]
    async with Client(door.url) as client:
        assert await client.invoke("shop-add") == 7


async def test_a_function_that_is_none_is_refused_before_anything_is_sent(door: Door) -> None:
    async with Client(door.url) as client:
        with pytest.raises(FunctionError, match=r"invoke refused: .*@app\.function.*'app-function'"):
            await client.invoke(over)
    assert not door.asked


async def test_a_signal_is_sent_with_a_seed_and_names_the_run(door: Door) -> None:
    door.answers = [(503, {}), (200, {"data": {"run_id": RUN}}), (404, {"error": "no run waits for the signal 'go'"})]
    async with Client(door.url, "key") as client:
        assert await client.send_signal("go", {"by": "Ada"}) == RUN
        with pytest.raises(NotFound, match="no run waits for the signal 'go'"):
            await client.send_signal("go")
    assert [(path, body) for _, path, _, body in door.asked] == [
        ("/v1/signals", {"signal": "go", "data": {"by": "Ada"}}),
        ("/v1/signals", {"signal": "go", "data": {"by": "Ada"}}),
        ("/v1/signals", {"signal": "go", "data": None}),
    ]
    assert len({seed for _, _, seed, _ in door.asked}) == 2


def test_code_without_an_event_loop_has_all_of_it() -> None:
    with Threaded() as door, SyncClient(door.url) as client:
        door.answers = [(202, {"run_id": RUN}), RUNNING, over(output={"value": 3}), over(output=8)]
        assert client.invoke(add_plain) == Sum(3)
        assert client.result(RUN, timeout=5) == 8
        door.answers = [(200, {"data": {"run_id": RUN}})]
        assert client.send_signal("go") == RUN


async def test_more_tasks_than_threads_wait_and_a_send_does_not_wait_behind_them(door: Door) -> None:
    count = module.WAITS_AT_ONCE_MAX * 3
    door.answers = [RUNNING] * count + [over(output=n) for n in range(count)]
    async with Client(door.url) as client:
        got = await asyncio.gather(*(client.result(RUN) for _ in range(count)))
    assert sorted(got) == list(range(count))
