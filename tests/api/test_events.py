"""POST /e/{key}: the statuses and shapes that SDKs rely on, on a real port."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from millstream.model import limits
from millstream.model.ids import is_ulid
from millstream.wire.schemas import EventSchemas
from tests.api.door import NOW_MS, open_world

GOOD = {"name": "wire/api", "data": {"a": 1}}
SEED = {"x-inngest-event-id-seed": "1795323198051,p9+5CvIKPgf6gw=="}

# What is posted, the status, how many ids come back ("": the one empty id), and the words of the error.
POSTS: list[tuple[str, Any, int, int, str]] = [
    ("one event", GOOD, 200, 1, ""),
    ("a batch", [GOOD, {"name": "wire/api2", "data": {}}], 200, 2, ""),
    ("an empty array", [], 200, 0, ""),
    ("an empty body", b"", 200, 0, ""),
    ("spaces", b" \n", 200, 0, ""),
    ("every field", {**GOOD, "id": "d-1", "ts": 1795000000000, "v": "2", "user": {"id": 1}}, 200, 1, ""),
    ("no data", {"name": "wire/api"}, 200, 1, ""),
    ("data null", {"name": "wire/api", "data": None}, 200, 1, ""),
    ("unknown fields", {**GOOD, "extra": 1}, 200, 1, ""),
    ("a long name", {"name": "x" * 600, "data": {}}, 200, 1, ""),
    ("no name", {"data": {"a": 1}}, 400, 0, "event name is empty"),
    ("an empty name", {"name": "", "data": {}}, 400, 0, "event name is empty"),
    ("our name", {"name": "inngest/x"}, 400, 0, "event name is reserved for internal use: inngest/x"),
    ("data text", {"name": "wire/api", "data": "text"}, 400, 0, "event data must be an object, got a string"),
    ("data array", {"name": "wire/api", "data": [1]}, 400, 0, "event data must be an object, got an array"),
    ("data true", {"name": "wire/api", "data": True}, 400, 0, "event data must be an object, got true"),
    ("user 1", {**GOOD, "user": 1}, 400, 0, "event user must be an object, got a number"),
    ("ts text", {**GOOD, "ts": "x"}, 400, 0, "field 'ts' must be an integer, got a string"),
    ("ts fraction", {**GOOD, "ts": 1.5}, 400, 0, "field 'ts' must be an integer, got a fraction"),
    ("ts old", {**GOOD, "ts": 12}, 400, 0, "timestamp is before Jan 1, 1980"),
    ("ts late", {**GOOD, "ts": 9_999_999_999_999}, 400, 0, "timestamp is after Jan 1, 2100"),
    ("ts in seconds", {**GOOD, "ts": 1_795_000_000}, 400, 0, "1795000000 looks like seconds: send milliseconds, 17950"),
    ("ts in ns", {**GOOD, "ts": 1_795_000_000_123_456_789}, 400, 0, "nanoseconds: send milliseconds, 1795000000123."),
    ("name 5", {"name": 5, "data": {}}, 400, 0, "field 'name' must be a string, got an integer"),
    ("a bad one in the middle", [GOOD, {"name": ""}, GOOD], 400, 1, "event name is empty (event at index 1)"),
    ("seconds in the middle", [GOOD, GOOD, {**GOOD, "ts": 1_795_000_000}], 400, 2, "1795000000000. (event at index 2)"),
    ("a mistyped one in the middle", [GOOD, GOOD, {"name": 5}, GOOD], 400, 2, "got an integer (event at index 2)"),
    ("a number in the array", [1], 400, 0, "event must be an object, got a number"),
    ("a number", 5, 400, 0, "Request body must contain an event object or an array of event objects"),
    ("nonsense", b"{nonsense", 400, 0, "no valid JSON"),
    ("nonsense in the middle", b'[{"name":"a"},{nonsense]', 400, 1, "no valid JSON"),
    ("an array that stops", b'[{"name":"a"},', 400, 1, "no valid JSON"),
    ("lines", b'{"name":"wire/nd1"}\n{"name":"wire/nd2"}\n', 400, 0, "trailing characters"),
    ("a form", b"name=wire%2Fform&data=1", 400, 0, "no valid JSON"),
    ("not UTF-8", b'{"name":"\xff"}', 400, 0, "no UTF-8"),
    (
        "nested too deeply",
        b'{"name":"a","data":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001,
        400,
        0,
        "nested too deeply",
    ),
    ("too many", [{"name": "a"}] * 5_001, 400, 5_000, "too many events in one request: Max 5000"),
]


@pytest.mark.parametrize(("what", "posted", "status", "ids", "error"), POSTS, ids=[row[0] for row in POSTS])
async def test_a_post_is_answered_as_sdks_expect(
    tmp_path: Path, what: str, posted: Any, status: int, ids: int, error: str
) -> None:
    body = posted if isinstance(posted, bytes) else json.dumps(posted).encode()
    if what == "too many":
        ids = 0  # Refused as a whole, before any of it is stored.
    async with open_world(tmp_path) as world:
        got, answer, response = await world.call("POST", "/e/KEY", data=body)
        assert (got, answer["status"]) == (status, status)
        assert len(answer["ids"]) == max(ids, 1)
        assert [is_ulid(one) for one in answer["ids"]] == [True] * ids or answer["ids"] == [""]
        assert error in answer.get("error", ""), answer
        assert ("error" in answer) == (status != 200)
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.headers["X-Inngest-Server-Kind"] == "dev"
        assert [event.internal_id for event in await world.stored()] == [one for one in answer["ids"] if one]


async def test_what_was_sent_is_what_is_stored(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        text = (
            '{"name":"a/b","data": {"x" : 1.50,"é":"ü"} ,"id":"i","key":"k","ts":1795000000000,"v":"2","user":{"u":1}}'
        )
        await world.call("POST", "/e/KEY", data=text.encode(), headers={"Content-Type": "text/plain"})
        (event,) = await world.stored()
        assert event.data == '{"x" : 1.50,"é":"ü"}'.encode()
        assert (event.id, event.id_is_clients, event.key, event.ts_ms) == ("i", True, "k", 1795000000000)
        assert (event.received_at_ms, event.v, event.user) == (NOW_MS, "2", b'{"u":1}')


@pytest.mark.parametrize("field", ["_inngest", "\\u005finngest"])
async def test_the_servers_own_field_in_data_is_dropped(tmp_path: Path, field: str) -> None:
    async with open_world(tmp_path) as world:
        await world.call("POST", "/e/KEY", data=f'{{"name":"a","data":{{"{field}":{{"x":1}},"n":1.50}}}}')
        assert [event.data for event in await world.stored()] == [b'{"n":1.50}']


async def test_a_seed_gives_the_same_ids_at_every_try(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        answers = [(await world.call("POST", "/e/K", json=[GOOD, GOOD], headers=SEED))[1]["ids"] for _ in range(2)]
        assert answers[0] == answers[1]
        assert len(set(answers[0])) == 2
        for nonsense in ("nonsense", "1,AA==", "-1,p9+5CvIKPgf6gw==", "1795323198051,????"):
            headers = {"x-inngest-event-id-seed": nonsense}
            status, answer, _ = await world.call("POST", "/e/K", json=[GOOD], headers=headers)
            assert (status, len(answer["ids"])) == (200, 1)


async def test_an_event_over_its_limit_is_refused_and_those_before_it_are_stored(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        large = {"name": "wire/api", "data": {"big": "a" * 4_194_304}}
        status, answer, _ = await world.call("POST", "/e/K", data=json.dumps(large))
        words = "Event is over the max size: Max 3145728 bytes / Size 4194345 bytes"
        assert (status, answer["error"], answer["ids"]) == (400, words, [""])
        status, answer, _ = await world.call("POST", "/e/K", json=[GOOD, large, GOOD])
        assert (status, len(answer["ids"])) == (400, 1)
        fits = [{"name": "wire/api", "data": {"big": "a" * 1_048_576}}] * 9
        status, answer, _ = await world.call("POST", "/e/K", json=fits)
        assert (status, len(answer["ids"])) == (200, 9)
        assert len(await world.stored()) == 10


GZIPPED = gzip.compress(b'{"name":"x"}', mtime=0)  # The time would be in the tests' names.


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"name":"x"}',
        b"\x1f\x8b\x08" + b"\xff" * 200,
        gzip.compress(b"{}", mtime=0)[:-9] + b"\0" * 9,
        GZIPPED[:2],
        GZIPPED[:-4],
    ],
)
async def test_a_body_that_is_not_what_its_encoding_says_is_a_400_and_no_trouble_of_ours(
    tmp_path: Path, encoding: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(tmp_path) as world:
        host, port = world.served.host, world.served.port
        reader, writer = await asyncio.open_connection(host, port)
        head = f"POST /e/K HTTP/1.1\r\nHost: x\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        line = await reader.readline()
        writer.close()
        assert b" 400 " in line
        assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
        assert await world.stored() == []


async def test_a_body_over_its_limit_is_a_413(tmp_path: Path) -> None:
    async def chunks() -> Any:
        for _ in range(33):
            yield b" " * 1024 * 1024

    async with open_world(tmp_path) as world:
        status, answer, _ = await world.call("POST", "/e/K", data=chunks())
        assert (status, answer["ids"]) == (413, [""])
        assert f"Max {limits.REQUEST_BYTES_MAX} bytes" in answer["error"]
        assert await world.stored() == []


async def test_a_wrong_key_is_a_401_where_keys_are_set(tmp_path: Path) -> None:
    async with open_world(tmp_path, event_keys=frozenset({"right"})) as world:
        status, answer, _ = await world.call("POST", "/e/wrong", json=GOOD)
        assert (status, answer) == (401, {"status": 401, "message": "", "error": "Event key not found"})
        status, _, _ = await world.call("POST", "/e/right", json=GOOD)
        assert status == 200


async def test_an_event_that_breaks_its_schema_is_refused_by_field(tmp_path: Path) -> None:
    folder = tmp_path / "schemas" / "order"
    folder.mkdir(parents=True)
    fields = [{"name": "amount", "type": "long"}]
    (folder / "paid.avsc").write_text(json.dumps({"type": "record", "name": "paid", "fields": fields}))
    schemas = EventSchemas.from_directories([tmp_path / "schemas"])
    async with open_world(tmp_path, schemas=schemas) as world:
        right, wrong = ({"name": "order/paid", "data": {"amount": value}} for value in (5, "12.50"))
        status, answer, _ = await world.call("POST", "/e/K", json=[right, wrong, right])
        assert (status, len(answer["ids"])) == (400, 1)
        assert "amount" in answer["error"]
        assert "12.50" in answer["error"]
        assert len(await world.stored()) == 1


async def test_events_of_one_key_go_to_one_partition(tmp_path: Path) -> None:
    async with open_world(tmp_path, event_partitions=4) as world:
        posted = [{"name": "a", "key": f"k{n % 5}", "data": {"n": n}} for n in range(50)]
        await world.call("POST", "/e/K", json=posted)
        assert len(await world.stored(4)) == 50
        ends = [await world.log.end_offset("events", p) for p in range(4)]
        assert sum(end > 0 for end in ends) > 1
        assert all(end % 10 == 0 for end in ends)


async def test_when_the_door_is_full_a_post_is_told_to_come_again(tmp_path: Path) -> None:
    from millstream.api.door.door import DOOR

    async with open_world(tmp_path) as world:
        door = world.served.runner.app[DOOR]
        door.budget.take(door.budget.maximum)
        status, answer, response = await world.call("POST", "/e/K", json=GOOD)
        assert (status, answer["ids"], response.headers["Retry-After"]) == (503, [""], "1")
        door.budget.give_back(door.budget.maximum)
        assert (await world.call("POST", "/e/K", json=GOOD))[0] == 200
        assert door.budget.used == 0


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/e/K", 405), ("PUT", "/e/K", 405), ("POST", "/e", 404)]
)
async def test_other_methods_and_paths_get_their_real_status(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    async with open_world(tmp_path) as world:
        got, answer, response = await world.call(method, path, json=GOOD)
        assert (got, answer["status"]) == (status, status)
        assert ("POST" in response.headers.get("Allow", "")) == (status == 405)


@pytest.mark.parametrize("path", ["/", "/health", "/v1/events"])
async def test_what_can_be_read_answers_to_head_as_well_without_a_body(tmp_path: Path, path: str) -> None:
    async with open_world(tmp_path) as world:
        got, _, read = await world.call("GET", path)
        status, body, response = await world.call("HEAD", path)
        assert (got, status) == (200, 200) and not body
        assert response.headers["Content-Type"] == read.headers["Content-Type"]


async def test_a_browser_on_another_origin_may_post_events_and_read_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        headers = {"Origin": "http://x.test", "Access-Control-Request-Method": "POST"}
        status, _, response = await world.call("OPTIONS", "/e/K", headers=headers)
        assert (status, response.headers["Access-Control-Allow-Origin"]) == (200, "http://x.test")
        _, _, response = await world.call("GET", "/v1/events", headers=headers)
        assert "Access-Control-Allow-Origin" not in response.headers
