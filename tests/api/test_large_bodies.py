"""What is in a post is read within the limits of everything behind the door, and never holds up the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from millstream.model import limits
from tests.api.door import FULFIL, make_shop, open_world

HELD_UP_S_MAX = 2.0
"""How late the loop may be on a machine that does other things: what was mended here took 4 s."""
BLANKS = b" " * (limits.REQUEST_BYTES_MAX - 100)
EVENT = b'{"name":"a"}'
MIDDLING = b'{"name":"a","data":{"n":"' + b"x" * 6_000 + b'"}}'
LARGE = {
    "blanks": (b"[" + BLANKS + b"]", 200, 1),
    "blanks before one": (b"[" + BLANKS + EVENT + b"]", 200, 1),
    "blanks, and no end": (b"[" + EVENT + BLANKS, 400, 1),
    "blanks, and nonsense": (b"[" + EVENT + BLANKS + b"nonsense]", 400, 1),
    "nothing but blanks": (BLANKS, 200, 1),
    "brackets": (b"[" * len(BLANKS), 400, 1),
    "commas": (b"[" + EVENT + b"," * len(BLANKS) + b"]", 400, 1),
    "five thousand": (
        b"[" + b",".join([b'{"name":"a","data":{"n":"' + b"x" * 6_000 + b'"}}'] * 5_000) + b"]",
        200,
        5_000,
    ),
}


@asynccontextmanager
async def latest() -> AsyncIterator[list[float]]:
    """How late the loop was, at its worst."""
    worst = [0.0]

    async def tick() -> None:
        while True:
            due = time.perf_counter() + 0.01
            await asyncio.sleep(0.01)
            worst[0] = max(worst[0], time.perf_counter() - due)

    ticking = asyncio.create_task(tick())
    try:
        yield worst
    finally:
        ticking.cancel()


@pytest.mark.parametrize("what", LARGE)
async def test_no_body_holds_up_the_loop(tmp_path: Path, what: str) -> None:
    body, wanted, ids = LARGE[what]
    async with open_world(tmp_path) as world, latest() as late:
        status, answer, _ = await world.call("POST", "/e/K", data=body)
        assert (status, len(answer["ids"])) == (wanted, ids), answer
        assert late[0] < HELD_UP_S_MAX


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"a":' * 966 + b"1" + b"}" * 966, "nested too deeply"),
        (b'{"a":' + b"9" * 5_000 + b"}", "number out of range"),
        (b'{"a":0.' + b"3" * 5_000 + b"}", "number of more than 1,000 digits: send it as text"),
        (b'{"a":1e999}', "number out of range"),
    ],
)
async def test_what_the_lane_could_not_read_is_not_taken(tmp_path: Path, data: bytes, why: str) -> None:
    json = {"Content-Type": "application/json"}
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        for field in (b"data", b"user", b"meta"):
            status, answer, _ = await world.call("POST", "/e/K", data=b'{"name":"shop/paid","%b":%b}' % (field, data))
            assert status == 400 and why in answer["error"], answer
        status, answer, _ = await world.call("POST", f"/invoke/{FULFIL}", data=b'{"data":%b}' % data, headers=json)
        assert status == 400 and why in answer["error"], answer
        assert await world.stored() == []
