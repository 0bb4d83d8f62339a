"""Callbacks over HTTP: one post is taken, from anywhere, with nothing but the URL; a GET resolves nothing."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from millstream import App, Context
from millstream.api.door.seeds import SEED_HEADER
from millstream.model import limits
from millstream.model.facts import CallbackOpened, CallbackUsed, SignalAwaited, WaitStarted
from millstream.model.waits.callback_token import KEY_BYTES, PATH, callback_id, token_of
from millstream.wire.callback_key import key_in
from tests.api.door import World, open_world

STRANGER = {"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
JSON = {"Content-Type": "application/json"}


def make_desk() -> App:
    desk = App("desk")

    @desk.function(on="shop/paid")
    async def approve(ctx: Context) -> Any:
        made = await ctx.step.callback("approve", timeout=ctx.event.data.get("timeout", "1h"))
        if ctx.event.data.get("first"):
            await ctx.step.wait_for_signal("first", "first", timeout="1h")
        return await made.result()

    return desk


async def opened(world: World, **data: Any) -> tuple[str, str]:
    """Start a run that makes a callback; its id, and the path of the callback."""
    await world.send(**data)
    fact = await world.fact(lambda f: isinstance(f, CallbackOpened))
    return fact.run, urlsplit(fact.url).path


async def waiting(world: World) -> tuple[str, str]:
    """The same, once the run waits for the post."""
    run, path = await opened(world)
    await world.fact(lambda f: isinstance(f, WaitStarted))
    return run, path


async def post(world: World, path: str, **more: Any) -> tuple[int, Any]:
    """Post; the status and the answer."""
    status, answer, _ = await world.call("POST", path, **more)
    return status, answer


async def test_what_is_posted_is_the_result_and_a_second_post_is_gone(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_desk()]) as world:
        run, path = await waiting(world)
        status, answer = await post(world, path, json={"by": "Ada", "ok": True})
        assert (status, answer["data"]) == (200, {"run_id": run})
        assert (await world.shown(run, "Completed"))["output"] == {"by": "Ada", "ok": True}
        status, answer = await post(world, path, json={"ok": False})
        assert (status, answer["status"], answer["data"]) == (410, 410, None)
        assert "the run that waited for it is over" in answer["error"]


async def test_of_two_posts_at_once_one_is_taken_and_one_is_gone(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_desk()]) as world:
        _, path = await opened(world, first=True)
        answers = await asyncio.gather(*(post(world, path, json=n) for n in range(2)))
        assert sorted(status for status, _ in answers) == [200, 410]
        (gone,) = (answer["error"] for status, answer in answers if status == 410)
        assert "takes one post" in gone


async def test_a_post_that_comes_before_the_run_asks_is_kept(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_desk()]) as world:
        run, path = await opened(world, first=True)
        assert (await post(world, path, data=b"yes", headers={"Content-Type": "text/plain"}))[0] == 200
        await world.fact(lambda f: isinstance(f, CallbackUsed) and f.data == b'"yes"')
        await world.fact(lambda f: isinstance(f, SignalAwaited))
        assert (await world.call("POST", "/v1/signals", json={"signal": "first"}))[0] == 200
        assert (await world.shown(run, "Completed"))["output"] == "yes"


async def test_a_post_that_comes_too_late_is_gone(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_desk()]) as world:
        _, path = await opened(world, first=True, timeout="1ms")
        await asyncio.sleep(0.002)
        status, answer = await post(world, path, json=1)
        assert (status, "its time is over" in answer["error"]) == (410, True)


async def test_whoever_has_the_url_posts_from_anywhere_without_a_key(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_desk()], event_keys=frozenset({"K"})) as world:
        run, path = await waiting(world)
        assert (await post(world, path, data=b"yes", headers=STRANGER))[0] == 200
        assert (await world.shown(run, "Completed"))["output"] == "yes"


async def test_opening_the_url_resolves_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_desk()]) as world:
        _, path = await waiting(world)
        for _ in range(2):
            status, text, answer = await world.call("GET", path, headers=STRANGER)
            assert (status, "POST your answer" in text, answer.headers["Cache-Control"]) == (200, True, "no-store")
        assert not [f for f in world.facts if isinstance(f, CallbackUsed)]
        assert (await post(world, path, json=1))[0] == 200


async def test_any_other_address_is_not_found_and_no_lane_is_asked(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_desk()]) as world:
        run, path = await opened(world, first=True)
        forged = token_of(bytes(KEY_BYTES), callback_id(run, "approve"))
        for other in (path[:-1], path + "x", path.replace(run, run[:-1] + ("0" if run[-1] != "0" else "1")),
                      PATH + forged, PATH + "x", PATH + "%ff", PATH + "..."):  # fmt: skip
            status, answer = await post(world, other, json=1)
            assert (status, "no such callback" in answer["error"]) == (404, True), other
            assert (await world.call("GET", other))[0] == 404
        assert not [f for f in world.facts if isinstance(f, CallbackUsed)]


async def test_a_door_without_a_worker_knows_no_callback(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        token = token_of(bytes(KEY_BYTES), callback_id("01JQ0000000000000000000000", "approve"))
        assert (await post(world, PATH + token, json=1))[0] == 404


async def test_a_post_whose_answer_was_lost_is_answered_the_same_again(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_desk()]) as world:
        run, path = await waiting(world)
        seed = {SEED_HEADER: f"{time.time_ns() // 1_000_000},{base64.b64encode(b'0123456789').decode()}"}
        answers = [await post(world, path, json=1, headers=seed) for _ in range(2)]
        assert [(status, answer["data"]) for status, answer in answers] == [(200, {"run_id": run})] * 2
        assert (await post(world, path, json=1))[0] == 410


@pytest.mark.parametrize(
    ("body", "kind", "given"),
    [
        (b'{"a": 1}', "application/json", {"a": 1}),
        (b'{"a": 1}', "application/cloudevents+json; charset=utf-8", {"a": 1}),
        (b'{"a": 1}', "application/x-www-form-urlencoded", {"a": 1}),
        (b'{"a": 1}', "text/plain", '{"a": 1}'),
        (b"a=1&b=2", "application/x-www-form-urlencoded", "a=1&b=2"),
        ("schön".encode(), "text/plain; charset=utf-8", "schön"),
        (b"", "application/json", ""),
        (b"", "", ""),
    ],
)
async def test_json_is_taken_as_json_and_anything_else_as_text(
    tmp_path: Path, body: bytes, kind: str, given: object
) -> None:
    async with open_world(tmp_path, apps=[make_desk()]) as world:
        run, path = await waiting(world)
        assert (await post(world, path, data=body, headers={"Content-Type": kind}))[0] == 200
        assert (await world.shown(run, "Completed"))["output"] == given


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[" * 5_000 + b"]" * 5_000, "application/json", 400),
        (b"\xff\xfe", "text/plain", 400),
        (b"x" * (limits.EVENT_BYTES_MAX + 1), "text/plain", 413),
        (b"\n" * (limits.EVENT_BYTES_MAX // 2 + 1), "text/plain", 413),
    ],
)
async def test_what_cannot_be_a_result_is_refused_and_the_callback_stays_open(
    tmp_path: Path, body: bytes, kind: str, status: int
) -> None:
    async with open_world(tmp_path, apps=[make_desk()]) as world:
        _, path = await waiting(world)
        told, answer = await post(world, path, data=body, headers={"Content-Type": kind})
        assert told == status, answer
        assert answer["error"]
        assert (await post(world, path, json=1))[0] == 200


async def test_whoever_reads_the_history_sees_the_callback_and_not_its_url(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_desk()]) as world:
        run, path = await waiting(world)
        shown = await world.shown(run, "Waiting")
        made, wait = (step for step in shown["steps"] if step["kind"].startswith("callback"))
        assert made["output"] == {"id": callback_id(run, "approve")}
        assert wait["waits_for"] == {"callback": "approve"}
        assert wait["wake_at"]
        for where in (f"/v1/runs/{run}", f"/v1/runs/{run}/output", "/api/runs", "/v1/events", "/", "/dev", "/metrics"):
            _, _, answer = await world.call("GET", where)
            text = await answer.text()
            assert path.rpartition(".")[2] not in text, where


async def test_the_first_key_of_a_group_counts(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_desk()]) as world:
        reader = world.log.reader("shop.functions", 0, 0)
        records = await reader.read(max_records=100, max_bytes=1 << 20, wait_s=0)
        keys = [key for record in records if (key := key_in(record.key, record.value)) is not None]
        await reader.close()
        assert len(keys) == 1 and len(keys[0]) == KEY_BYTES
