"""Foreign records that nobody meant: valid ones of every kind, broken at random, read in every way.

    python -m tests.wire.fuzz --inputs 100000 [--seed 7]

What must hold for each: it becomes an event, a tombstone, a reason that somebody has thought of (Corruption) or a wish
for a schema, and nothing else is raised; it takes no long time; an event is the same when it is read again, has an
object of JSON as data, can be written as an envelope, and a lane decides about it. The first input that breaks this is
printed with its seed.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import sys
import time
from typing import Any, Final

import msgspec

from millstream.core.decide import decide
from millstream.core.triggers.expressions import compile_expression
from millstream.errors import Corruption
from millstream.model import limits
from millstream.model.commands import AcceptEvent
from millstream.model.event import Envelope
from millstream.model.facts import CommandRefused
from millstream.model.function import FORMATS, EventTrigger, Reading
from millstream.model.ids import ulid
from millstream.wire.events_topic import Written, read_event
from millstream.wire.foreign import read_record
from millstream.wire.formats.content import ForeignRecord, SchemaWanted
from millstream.wire.formats.foreign_schema import ForeignSchema
from millstream.wire.formats.framing import SchemaRef
from millstream.wire.formats.known import KnownSchemas
from millstream.wire.formats.reading import may_want_schema
from millstream.wire.messages import decode_envelope, encode_envelope
from tests.core.harness import Harness
from tests.core.values import START_MS, app, function, see

SECONDS_MAX: Final = 5.0
"""For one input, on a slow machine; a runaway takes minutes or all memory."""
NODE: Final = {"type": "record", "name": "N", "fields": [{"name": "n", "type": ["null", "N"]}]}
ALL: Final = {
    "type": "record",
    "name": "All",
    "fields": [
        {"name": "a", "type": {"type": "array", "items": ["null", "string", "long"]}},
        {"name": "m", "type": {"type": "map", "values": {"type": "array", "items": "null"}}},
        {"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "u", "type": {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}},
        {"name": "f", "type": "double"},
    ],
}
SCHEMAS: Final = (
    ForeignSchema("AVRO", json.dumps(NODE)),
    ForeignSchema("AVRO", json.dumps(ALL)),
    ForeignSchema("AVRO", '{"type": "array", "items": "null"}'),
    ForeignSchema("JSON", "{}"),
    ForeignSchema("AVRO", "no schema"),
)
CLOUD: Final = {
    "specversion": "1.0",
    "id": "1",
    "source": "/s",
    "type": "t",
    "time": "2026-01-01T00:00:00Z",
    "data": {},
}
CHANGE: Final = {"op": "c", "source": {}, "before": None, "after": {"id": 7}, "ts_ms": START_MS}
ENVELOPE: Final = Envelope("", "i", True, "order/placed", b'{"n": 1}', START_MS, START_MS, "k", b"{}", "1", b"{}", 0)
VALUES: Final = (
    b"", b"{}", b"null", b"12.5", b'"text"', b"\xef\xbb\xbf{}", b'{"n": NaN}', b'{"id": {"a": [1, 2.50, "x"]}}',
    b"\xff\xfe", b"[" * 300 + b"]" * 300, b"1" * 400, "grüezi".encode(),
    b"\x02" * 90 + b"\x00", b"\x80\xa8\xd6\xb9\x07\x00",
    b"\x04\x02\x02x\x00\x00\x02\x02k\x02\x00\x00\x04\x04\xe2" + bytes(16) + b"\x02" + struct.pack("<d", 1.5),
    json.dumps(CLOUD).encode(), json.dumps(CHANGE).encode(), json.dumps({"schema": {}, "payload": CHANGE}).encode(),
    encode_envelope(ENVELOPE),
)  # fmt: skip
HEADERS: Final = (
    (),
    (("content-type", b"application/cloudevents+json; charset=x"),),
    (("content-type", b"application/cloudevents-batch+json"),),
    tuple((f"ce_{name}", str(value).encode()) for name, value in CLOUD.items()),
    (("__value_schema_id", b"\0\0\0\0\1"),),
    (("__value_schema_id", b"\1" + bytes(16)),),
    (("millstream-id", b"\xff\0"), ("x", b"")),
)
PIECES: Final = (
    b"\0", b"\xff", b"\x7f" * 9, b"\x80" * 11, b"\xc3\x01" + bytes(8), b"\0\0\0\0\1", b"\0\0\0\0\2", b"\0\0\0\0\3",
    b"\0\0\0\0\4", b"NaN", b"1e999", b'"op":[1],', b"null", b"\\ud800", b"9" * 5_000, b"[[[[", b"\xed\xa0\x80",
)  # fmt: skip
READINGS: Final = (
    *(Reading(format) for format in FORMATS),
    Reading("auto", name="data.type", key="data.id", id="data.id.a"),
    Reading("json", name="headers.x", key="key", id="headers.millstream-id"),
    Reading("avro", "All"),
    Reading("auto", "Nobody"),
)


class Wrong(AssertionError):
    """An input that broke a promise."""


class Fuzz:
    """One stream of inputs; the same seed gives the same."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._registry = KnownSchemas(has_registry=True)
        for number, schema in enumerate(SCHEMAS):
            self._registry.learn(SchemaRef("id", str(number)), schema)
        self._registry.learn(SchemaRef("name", "All"), SCHEMAS[1])
        self._alone = KnownSchemas()
        trigger = EventTrigger("order/placed", "event.data.n * 1.5 > 1 && event.data.id.a != 'x' || event.key == 'k'")
        compile_expression(trigger.expression)
        self._harness = Harness()
        self._harness.do(see(app(function("shop-f", trigger), function("shop-g", "order/*"))))

    def run(self, inputs: int) -> None:
        """Read so many inputs. Raises Wrong at the first that breaks a promise."""
        for number in range(inputs):
            record, reading = self._record(number), self._random.choice(READINGS)
            schemas = self._random.choice((self._registry, self._alone))
            begun = time.monotonic()
            try:
                self._foreign(record, reading, schemas)
                self._event(record)
            except Exception as error:
                raise Wrong(f"input {number}: {type(error).__name__}: {error}; {reading}, {record!r:.2000}") from error
            if time.monotonic() - begun > SECONDS_MAX:
                raise Wrong(f"input {number} took {time.monotonic() - begun:.1f} s: {reading}, {record!r:.2000}")

    def _foreign(self, record: ForeignRecord, reading: Reading, schemas: KnownSchemas) -> None:
        try:
            event = read_record(reading, record, schemas)
        except (Corruption, SchemaWanted) as reason:
            _thought_of(reason)
            if isinstance(reason, SchemaWanted):
                assert may_want_schema(reading.format, reading.schema, record), "nobody would have asked for it"
            return
        if event is not None:
            assert event == read_record(reading, record, schemas), "read again it is another event"
            assert 0 <= event.ts_ms <= limits.EVENT_TS_MAX_MS
            self._taken(event)

    def _event(self, record: ForeignRecord) -> None:
        try:
            event = read_event(Written("events", 0, record.offset, record.at_ms), record.value or b"")
        except Corruption as reason:
            _thought_of(reason)
            return
        self._taken(event)

    def _taken(self, event: Envelope) -> None:
        assert isinstance(json.loads(event.data), dict)
        assert len(event.id) <= limits.EVENT_ID_CHARS_MAX
        written = decode_envelope(encode_envelope(event))
        assert written == event
        named = msgspec.structs.replace(written, name="order/placed")
        facts = decide(self._harness.tables, AcceptEvent(named, "events", 0, 1 << 40), START_MS)
        assert not [fact for fact in facts if isinstance(fact, CommandRefused)], facts

    def _record(self, number: int) -> ForeignRecord:
        draw = self._random
        at_ms = draw.choice((START_MS, -1, 0, 2**62, -(2**63)))
        value = self._broken(self._value()) if draw.random() < 0.97 else None
        headers = tuple((name, self._broken(text)) for name, text in draw.choice(HEADERS))
        return ForeignRecord("pay", 0, number, at_ms, draw.choice((None, b"k", b"\xff" * 2_000)), value, headers)

    def _value(self) -> bytes:
        draw = self._random
        if draw.random() < 0.15:
            change: dict[str, Any] = {
                "internal_id": draw.choice(("", "x", ulid(START_MS, bytes(10)))),
                "name": draw.choice(("order/placed", "inngest/function.failed", "")),
                "received_at_ms": draw.choice((0, -1, 2**62, START_MS)),
                "ts_ms": draw.choice((0, -1, 2**62, START_MS)),
                "data": draw.choice(VALUES),
            }
            return encode_envelope(msgspec.structs.replace(ENVELOPE, **change))
        value = draw.choice(VALUES)
        return b"\0" + struct.pack(">I", draw.randrange(7)) + value if draw.random() < 0.4 else value

    def _broken(self, data: bytes) -> bytes:
        """The bytes with some changes, or none."""
        draw = self._random
        for _ in range(draw.choice((0, 0, 1, 1, 2, 5))):
            at = draw.randrange(len(data) + 1)
            match draw.randrange(5):
                case 0:
                    data = data[:at]
                case 1:
                    data = data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
                case 2:
                    data = data[:at] + draw.choice(PIECES) + data[at:]
                case 3:
                    data = data[:at] + data[at + draw.randrange(1, 5) :]
                case _:
                    data = data[:at] + draw.choice(VALUES)[:200] + data[at:]
        return data


def _thought_of(reason: Exception) -> None:
    """The readers turn whatever they raise into a reason; a surprise is one all the same."""
    if "could not be read" in str(reason):
        raise reason


def main() -> int:
    """Read as many inputs as asked for; 1 where one broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.wire.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    asked = parser.parse_args()
    begun = time.monotonic()
    try:
        Fuzz(asked.seed).run(asked.inputs)
    except Wrong as wrong:
        print(f"seed {asked.seed}: {wrong}", file=sys.stderr)
        return 1
    print(f"{asked.inputs} foreign records of seed {asked.seed} held in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
