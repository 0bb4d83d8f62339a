"""Bytes that nobody means into a real door, with good events between them: none of those is lost, nothing else breaks.

    python -m tests.api.fuzz --requests 100000 [--seed 7]

What must hold: no answer is a 500; a good event is answered 200 whatever is beside it, stored once, and starts its run;
nothing is logged as an error; at the end the door holds no bytes of bodies or headers. Requests are those of
``hostile.py``, with bytes changed, parts of others put in, ends cut off, said in pieces, or one behind another.

``test_fuzz.py`` runs a few of them with every test run, ``make fuzz`` a million.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Final

from millstream import App, Context
from millstream.model.facts import RunCompleted
from tests.api.door import World, open_world
from tests.api.hostile import bodies, encodings, headers, methods, paths, queries, sent

AT_ONCE: Final = 30
GOOD_EVERY: Final = 20
ANSWER_S: Final = 0.2
"""A request that lacks a part is not answered: its rest may be on the way."""
LARGE_BYTES: Final = 20_000
LARGE_SHARE: Final = 50
"""One in so many is a large one, as it is."""
ENDS_S: Final = 60.0


def drawn(draw: Random) -> Iterator[list[bytes]]:
    """Requests without end, each as the pieces that it is said in."""
    every = [said for _, said in (*paths(), *queries(), *bodies(), *encodings(), *headers(), *methods())]
    small = [said for said in every if len(said) < LARGE_BYTES]
    large = [said for said in every if len(said) >= LARGE_BYTES]
    while True:
        if not draw.randrange(LARGE_SHARE):
            yield [draw.choice(large)]
            continue
        said = bytearray(draw.choice(small))
        if not draw.randrange(4):
            said = said.replace(b"Connection: close\r\n", b"") + draw.choice(small)
        for _ in range(draw.randint(0, 4)):
            at = draw.randrange(len(said) + 1)
            match draw.randrange(5):
                case 0:
                    said[at : at + draw.randint(0, 3)] = draw.randbytes(draw.randint(0, 3))
                case 1:
                    other = draw.choice(small)
                    begin = draw.randrange(len(other))
                    said[at:at] = other[begin : begin + draw.randint(1, 200)]
                case 2:
                    del said[at : at + draw.randint(1, 50)]
                case 3:
                    said[at:at] = said[at : at + draw.randint(1, 30)] * draw.randint(1, 20)
                case _ if not draw.randrange(4):
                    del said[at + 1 :]
        cut = draw.randrange(len(said) + 1) if not draw.randrange(5) else 0
        yield [bytes(said[:cut]), bytes(said[cut:])] if cut else [bytes(said)]


async def say(world: World, pieces: list[bytes]) -> list[bytes]:
    """Say it and hang up; the status lines of what came back."""
    try:
        reader, writer = await asyncio.open_connection(world.served.host, world.served.port)
    except ConnectionError:
        return []
    got = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        async with asyncio.timeout(ANSWER_S):
            while more := await reader.read(1 << 16):
                got += more
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.close()
    return [line for line in got.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


async def good(world: World, number: int) -> str:
    """Post a good event; its id. Nothing beside it may be in its way."""
    body = b'{"name":"good/event","id":"good-%d","data":{"n":%d}}' % (number, number)
    reader, writer = await asyncio.open_connection(world.served.host, world.served.port)
    writer.write(sent(b"POST", b"/e/K", (), body)[1])
    async with asyncio.timeout(ENDS_S):
        answer = await reader.read(-1)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 "), f"good event {number} was answered {answer[:300]!r}"
    return answer.partition(b'"ids":["')[2][:26].decode()


class Faults(logging.Handler):
    """What was logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter().format(record)[-2_000:])


async def fuzz(requests: int, seed: int, folder: Path) -> None:
    """So many requests. Raises AssertionError, with the request, for the first that breaks a promise."""
    app = App("fuzz")

    @app.function(on="good/event")
    async def run(ctx: Context) -> int:
        return int(ctx.event.data["n"])

    every = enumerate(islice(drawn(Random(seed)), requests))
    faults, acknowledged = Faults(), list[str]()
    logging.getLogger().addHandler(faults)
    try:
        async with open_world(folder, apps=[app], follows=False) as world:

            async def some() -> None:
                for number, pieces in every:  # Shared by those who send.
                    if number % GOOD_EVERY == 0:
                        acknowledged.append(await good(world, number))
                    for status in await say(world, pieces):
                        fine = status[9:10] in b"1234" or status[9:12] == b"503"
                        assert fine, f"request {number} of seed {seed} was answered {status!r}: {pieces!r}"
                    assert not faults.found, f"request {number} of seed {seed} or one beside it: {faults.found}"

            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(some())
            await _settled(world, acknowledged)
    finally:
        logging.getLogger().removeHandler(faults)


async def _settled(world: World, acknowledged: list[str]) -> None:
    stored = [event.internal_id for event in await world.stored() if event.name == "good/event"]
    assert sorted(stored) == sorted(acknowledged), "each good event is there once"
    ends = time.monotonic() + ENDS_S
    while sum(isinstance(fact, RunCompleted) for fact in world.facts) < len(acknowledged):
        assert time.monotonic() < ends, "a good event's run has not ended"
        await asyncio.sleep(0.05)
    while world.served.connections.header_bytes or len(world.served.connections):
        assert time.monotonic() < ends, "the door holds connections whose clients are gone"
        await asyncio.sleep(0.05)
    under_way = str((await world.call("GET", "/metrics"))[1]).partition("\nmillstream_ingest_bytes_under_way ")[2]
    assert under_way.startswith("0.0\n"), "the door holds bodies that were answered"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(fuzz(asked.requests, asked.seed, Path(folder)))
    print(f"fuzzed requests={asked.requests} seed={asked.seed} took_s={time.monotonic() - began:.0f} found=0")


if __name__ == "__main__":
    main()
