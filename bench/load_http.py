"""Posts events over HTTP as fast as the door answers, with raw sockets: the generator must cost less than the door.

    python bench/load_http.py --url http://127.0.0.1:8288 --events 100 --connections 16 --seconds 10

One JSON line out: what, value, unit, p50_ms, p99_ms, generator_cpu (this process's share of one core).

Caveats: HTTP/1.1 with keep-alive, one post under way per connection, answers only checked for their status.
Generator and door share the machine; read ``generator_cpu`` beside the rate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Tally:
    """What was measured."""

    posts: int = 0
    refused: int = 0
    took_s: list[float] = field(default_factory=list)


class _Connection(asyncio.Protocol):
    """One connection: posts, waits for the answer, posts again."""

    def __init__(self, request: bytes, tally: Tally, done: asyncio.Future[None]) -> None:
        self.request, self.tally, self.done = request, tally, done
        self.buffer = b""
        self.stopping = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.post()

    def post(self) -> None:
        self.begun = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, gap, body = self.buffer.partition(b"\r\n\r\n")
        if not gap:
            return
        at = head.lower().index(b"content-length:") + 15
        length = int(head[at:].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self.buffer = body[length:]
        self.tally.posts += 1
        self.tally.refused += not head.startswith(b"HTTP/1.1 200")
        self.tally.took_s.append(time.perf_counter() - self.begun)
        if self.stopping:
            self.transport.close()
        else:
            self.post()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def load(url: str, *, events: int, connections: int, seconds: float, name: str) -> dict[str, object]:
    """Post for a while; the line to print."""
    parts = urlsplit(url)
    event = {"name": name, "data": {"order": 4711, "amount": 99.5, "customer": "c-1234567890"}}
    body = json.dumps([event] * events, separators=(",", ":")).encode()
    head = f"POST /e/bench HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    request = head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    tally, loop = Tally(), asyncio.get_running_loop()
    made: list[tuple[_Connection, asyncio.Future[None]]] = []
    begun, cpu = time.perf_counter(), time.process_time()
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        connection = _Connection(request, tally, done)
        await loop.create_connection(lambda c=connection: c, parts.hostname, parts.port)  # type: ignore[misc]
        made.append((connection, done))
    await asyncio.sleep(seconds)
    took, used, posts = time.perf_counter() - begun, time.process_time() - cpu, tally.posts
    for connection, _ in made:
        connection.stopping = True
    await asyncio.wait([done for _, done in made], timeout=10)
    times = sorted(tally.took_s)
    return {
        "what": f"events over HTTP, {events} a post, {connections} connections",
        "value": round(posts * events / took),
        "unit": "events/s",
        "posts_per_s": round(posts / took),
        "p50_ms": round(times[len(times) // 2] * 1e3, 2),
        "p99_ms": round(times[len(times) * 99 // 100] * 1e3, 2),
        "refused": tally.refused,
        "generator_cpu": round(used / took, 2),
    }


def main() -> None:
    """Read the flags, post, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8288")
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--name", default="bench/nobody")
    given = parser.parse_args()
    line = asyncio.run(
        load(given.url, events=given.events, connections=given.connections, seconds=given.seconds, name=given.name)
    )
    print(json.dumps(line))


if __name__ == "__main__":
    main()
