"""Many small runs from a direct producer: what makes a million of them affordable, and how they are checked.

An event ``chaos/volume`` carries a number; its run has two steps, each of which leaves one short line in a file opened
with O_APPEND. The producer is librdkafka with an Avro writer of its own: what any program in any language would do.

    a <number> <run> <pid> <ns>      the first step began           b …   the second one
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import fastavro
from confluent_kafka import KafkaError, Message, Producer

from millstream import App, Context, current
from tests.chaos.halts import Halts

VOLUME_VARIABLE: Final = "CHAOS_VOLUME"
SCHEMA: Final = Path(__file__).resolve().parents[3] / "schemas" / "messages" / "event.avsc"
OUTSTANDING_MAX: Final = 12_000
POLL_S: Final = 0.02


class _File:
    """The file of this process, opened at the first line."""

    handle: int = -1

    def write(self, line: str) -> None:
        if self.handle < 0:
            self.handle = os.open(os.environ[VOLUME_VARIABLE], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(self.handle, line.encode())


_FILE: Final = _File()


async def note(step: str, number: int) -> int:
    """A step: one line."""
    _FILE.write(f"{step} {number} {current().run_id} {os.getpid()} {time.monotonic_ns()}\n")
    return number


def declare(app: App) -> None:
    """Add the function of the many small runs."""

    @app.function(on="chaos/volume")
    async def volume(ctx: Context) -> int:
        number = int(ctx.event.data["n"])
        await ctx.step.run("a", note, "a", number)
        return await ctx.step.run("b", note, "b", number)


@dataclass
class Poured:
    """What the producer was told. ``unknown``: reported as failed, so there or not there."""

    sent: int = 0
    acknowledged: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)


class Pourer:
    """Produces events straight to the topic until ``stop``, at most so many that have no second step yet."""

    def __init__(self, brokers: str, file: Path, *, total: int, rate: float) -> None:
        self.poured = Poured()
        self._file = file
        self._total = total
        self._rate = rate
        self._stopping = False
        self._lines = 0
        self._read_to = 0
        self._schema = fastavro.parse_schema(fastavro.schema.load_schema(str(SCHEMA)))
        self._producer = Producer(
            {
                "bootstrap.servers": brokers,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 5,
                "partitioner": "murmur2_random",
                "message.timeout.ms": 0,
            }
        )

    async def run(self) -> None:
        """Produce; return when every record is reported."""
        begun = time.monotonic()
        while not self._stopping and self.poured.sent < self._total:
            wanted = min(
                int((time.monotonic() - begun) * self._rate) - self.poured.sent,
                OUTSTANDING_MAX - (self.poured.sent - self.through()),
                self._total - self.poured.sent,
                1_000,
            )
            for _ in range(max(wanted, 0)):
                self._send(self.poured.sent)
                self.poured.sent += 1
            self._producer.poll(0)
            await asyncio.sleep(POLL_S)
        left = await asyncio.to_thread(self._producer.flush, 120.0)
        assert left == 0, f"{left} records were never reported by the producer"

    def stop(self) -> None:
        """Send nothing new."""
        self._stopping = True

    def through(self) -> int:
        """How many second steps there were so far, repetitions counted in."""
        if self._file.exists():
            with self._file.open("rb") as lines:
                lines.seek(self._read_to)
                while chunk := lines.read(1 << 20):
                    whole = chunk[: chunk.rfind(b"\n") + 1]  # A line that is cut is read again.
                    if not whole:
                        break
                    self._lines += whole.count(b"\nb ") + whole.startswith(b"b ")
                    self._read_to += len(whole)
                    lines.seek(self._read_to)
        return self._lines

    def _send(self, number: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        target = io.BytesIO()
        event: dict[str, Any] = {
            "internal_id": "",
            "id": f"volume-{number}",
            "id_is_clients": True,
            "name": "chaos/volume",
            "data": b'{"n": %d}' % number,
            "ts_ms": now_ms,
            "received_at_ms": now_ms,
            "user": b"",  # fastavro does not turn a default of bytes into bytes.
            "meta": b"",
        }
        fastavro.schemaless_writer(target, self._schema, event)
        report = lambda error, message: self._reported(number, error, message)  # noqa: E731 - one a record
        self._producer.produce("events", target.getvalue(), key=f"volume-{number}", on_delivery=report)

    def _reported(self, number: int, error: KafkaError | None, message: Message) -> None:
        (self.poured.unknown if error is not None else self.poured.acknowledged).add(number)


@dataclass
class Seen:
    """What the file says."""

    runs: int = 0
    lines: int = 0
    again: int = 0
    wrong: list[str] = field(default_factory=list)
    finished: set[int] = field(default_factory=set)


def judge(lines: Iterable[bytes], halts: Halts) -> Seen:
    """Two runs of one event, and a first step that began again after the second had: neither may be."""
    seen = Seen()
    run_of: dict[int, bytes] = {}
    second: set[int] = set()
    for line in lines:
        step, number, run, pid, at_ns = line.split()
        n = int(number)
        seen.lines += 1
        held = run_of.setdefault(n, run)
        if held != run:
            seen.wrong.append(f"event volume-{n} has two runs: {held.decode()} and {run.decode()}")
        if step == b"b":
            seen.again += n in second
            second.add(n)
        elif n in second and not halts.excuses(int(pid), int(at_ns)):
            seen.wrong.append(f"run {run.decode()} began its first step again after its second had begun")
    seen.runs = len(run_of)
    seen.finished = second
    return seen
