"""A record that could not be taken: found with its reason, and taken once what was wrong is mended."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from millstream import App, Context, Topic
from millstream.log.memory.log import MemoryLog
from millstream.log.port import Produced, TopicSpec
from millstream.model.event import Envelope
from millstream.model.facts import RunCompleted
from millstream.wire.messages import encode_app, encode_envelope
from tests.api.door import SOON_S, World, open_world

POISON = Produced(b"{no json", b"k", (("trace", b"\xff"), ("millstream-reason", b"forged")))


def make_app() -> App:
    """Two functions on the topic, one of which cannot read what the other can."""
    app = App("shop")

    @app.function(on=Topic("pay", format="json", since="earliest"), retries=0)
    async def bill(ctx: Context) -> object:
        return ctx.event.data

    @app.function(on="shop/*", retries=0)
    async def note(ctx: Context) -> str:
        return ctx.event.name

    return app


async def topic_with(*records: Produced, topic: str = "pay") -> MemoryLog:
    log = MemoryLog()
    await log.create_topics([TopicSpec(topic, 1)])
    writer = log.writer(topic, 0)
    await writer.append(list(records))
    await writer.close()
    return log


async def letters(world: World, count: int) -> list[Any]:
    """The dead letters, once there are so many."""
    async with asyncio.timeout(SOON_S):
        while True:
            _, found, _ = await world.call("GET", "/api/dead-letters")
            if len(found["data"]) >= count:
                return list(found["data"])
            await asyncio.sleep(0.02)


async def test_letters_are_listed_the_newest_first_and_shown_with_their_bytes(tmp_path: Path) -> None:
    log = await topic_with(POISON, Produced(b"\xff", None))
    async with open_world(tmp_path, log, apps=[make_app()]) as world:
        newest, oldest = await letters(world, 2)
        assert (newest["id"], newest["topic"], newest["partition"], newest["offset"]) == ("1", "pay", 0, 1)
        assert "expected UTF-8 JSON" in oldest["reason"], "our own header counts, not its producer's"
        _, page, _ = await world.call("GET", "/api/dead-letters?limit=1")
        assert [one["id"] for one in page["data"]] == ["1"]
        _, page, _ = await world.call("GET", f"/api/dead-letters?limit=1&before={page['metadata']['before']}")
        assert [one["id"] for one in page["data"]] == ["0"]
        assert page["metadata"]["before"] is None
        _, shown, _ = await world.call("GET", "/api/dead-letters/0")
        assert (shown["data"]["key"], shown["data"]["value"]) == ("k", "{no json")
        assert shown["data"]["headers"] == [["trace", {"base64": "/w=="}]]
        _, shown, _ = await world.call("GET", "/api/dead-letters/1")
        assert shown["data"]["value"] == {"base64": "/w=="}


async def test_a_letter_is_taken_once_the_code_can_read_it(tmp_path: Path) -> None:
    app = App("shop")

    @app.function(on=Topic("pay", format="auto", since="latest"), retries=0)
    async def bill(ctx: Context) -> object:
        return ctx.event.data

    log = await topic_with(POISON)
    async with open_world(tmp_path, log, apps=[make_app()]) as world:
        await letters(world, 1)
        status, redriven, _ = await world.call("POST", "/api/dead-letters/0/redrive", headers={"X-Millstream": "1"})
        assert status == 200 and [one["function_id"] for one in redriven["data"]["redriven"]] == ["shop-bill"]
        assert [one["offset"] for one in await letters(world, 2)] == [0, 0], "it is still no JSON: a new letter"
        writer = world.log.writer("shop.functions", 0)
        await writer.append([Produced(encode_app(app.spec()), app.id.encode())])
        await writer.close()
        async with asyncio.timeout(SOON_S):  # Until the lane has seen the new version.
            for _ in range(1_000):
                body = {"function": "shop-bill"}
                assert (await world.call("POST", "/api/dead-letters/0/redrive", json=body))[0] == 200
                if any(isinstance(fact, RunCompleted) for fact in world.facts):
                    break
                await asyncio.sleep(0.1)
        run = await world.fact(lambda fact: isinstance(fact, RunCompleted))
        assert run.result == b'{"value":"{no json"}'


async def test_an_event_that_no_function_could_take_is_not_driven_again(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_app()]) as world:
        writer = world.log.writer("events", 0)
        refused = Envelope("", "1", True, "shop/x", b"[1]", 0, 0)
        await writer.append([Produced(encode_envelope(refused)), Produced(b"no event")])
        await writer.close()
        await letters(world, 2)
        for id in (0, 1):
            status, wrong, _ = await world.call(
                "POST", f"/api/dead-letters/{id}/redrive", headers={"X-Millstream": "1"}
            )
            assert status == 400 and "still no event" in wrong["error"]


@pytest.mark.parametrize(
    ("id", "body", "status", "words"),
    [
        ("9", None, 404, "no dead letter 9"),
        ("x", None, 400, "expected a number"),
        ("-1", None, 400, "expected a number"),
        ("9" * 30, None, 400, "expected a number"),
        ("0", {"function": "shop-none"}, 404, "does not read"),
        ("0", {"other": 1}, 400, "expected"),
        ("0", [1], 400, "expected"),
    ],
)
async def test_what_cannot_be_driven_again_is_said(tmp_path: Path, id: str, body: Any, status: int, words: str) -> None:
    async with open_world(tmp_path, await topic_with(POISON), apps=[make_app()]) as world:
        await letters(world, 1)
        got, answer, _ = await world.call("POST", f"/api/dead-letters/{id}/redrive", json=body or {})
        assert got == status and words in answer["error"]


async def test_a_record_that_its_topic_has_dropped_is_a_404(tmp_path: Path) -> None:
    async with open_world(tmp_path, await topic_with(POISON), apps=[make_app()]) as world:
        await letters(world, 1)
        await world.log.trim("pay", 0, 1)
        status, answer, _ = await world.call("POST", "/api/dead-letters/0/redrive", headers={"X-Millstream": "1"})
        assert status == 404 and "not in its topic any more" in answer["error"]


async def test_driving_again_asks_for_a_key(tmp_path: Path) -> None:
    async with open_world(tmp_path, await topic_with(POISON), apps=[make_app()], event_keys=frozenset({"K"})) as world:
        await letters(world, 1)
        assert (await world.call("POST", "/api/dead-letters/0/redrive", headers={"X-Millstream": "1"}))[0] == 401
        assert (await world.call("GET", "/api/dead-letters"))[0] == 200
