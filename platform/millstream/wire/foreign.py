"""A record of a foreign topic as an event: its format says what is in it, the rules say what it is called.

| of the event  | by rule            | else the format | else                                     |
|---------------|--------------------|-----------------|------------------------------------------|
| name          | ``name=``          | its own         | the topic's name                         |
| id            | ``id=``            | its own         | header ``millstream-id``, else the place   |
| key           | ``key=``           | its own         | the record's key                         |
| ts            | –                  | its own         | the record's time                        |

The same record read in the same way is always the same event, whenever it is read: a scan that comes by later makes the
same run ids. A tombstone is no event. ``meta.kafka`` says where the record lay, and has its headers.

The formats are in ``wire/formats``; their names stand in ``model.function.FORMATS``, too. ``envelope``, millstream's
own events in another topic than the events topic, is here.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import blake2b
from typing import Any, Final

import msgspec

from millstream.errors import Corruption
from millstream.model import limits
from millstream.model.event import ID_HEADER, Envelope
from millstream.model.function import Reading, is_path
from millstream.model.ids import ulid
from millstream.wire.formats.content import Content, ForeignRecord, SchemaSource, SchemaWanted
from millstream.wire.formats.json_text import event_data, parse_json
from millstream.wire.formats.reading import read_content
from millstream.wire.messages import decode_envelope

ENVELOPE: Final = "envelope"
_encode: Final = msgspec.json.Encoder().encode


def read_record(reading: Reading, record: ForeignRecord, schemas: SchemaSource) -> Envelope | None:
    """The event of a record; None: it is a tombstone. Raises Corruption, SchemaWanted, and nothing else."""
    try:
        return _event(reading, record, schemas)
    except (Corruption, SchemaWanted):
        raise
    except Exception as error:  # Whatever nobody has thought of is one record's trouble, never the lane's.
        raise Corruption(f"a record could not be read: {type(error).__name__}: {error}") from error


def _event(reading: Reading, record: ForeignRecord, schemas: SchemaSource) -> Envelope | None:
    value = record.value
    if value is not None and len(value) > limits.EVENT_BYTES_MAX:
        raise Corruption(f"a record was refused: at most {limits.EVENT_BYTES_MAX} bytes are taken, got {len(value)}")
    if reading.format == ENVELOPE:
        content = _envelope(value) if value is not None else None
    else:
        content = read_content(reading.format, reading.schema, record, schemas)
    if content is None:
        return None
    id = _by_rule(reading.id, record, content) or content.id or record.header(ID_HEADER)
    place = f"{record.topic}-{record.partition}-{record.offset}"
    at_ms = min(max(record.at_ms, 0), limits.EVENT_TS_MAX_MS)
    meta = _meta(record, content)
    if len(content.data) + len(meta) > limits.EVENT_BYTES_MAX:
        raise Corruption(
            f"a record was refused: as JSON it may have {limits.EVENT_BYTES_MAX} bytes, got {len(content.data)} "
            f"and {len(meta)} of headers"
        )
    return Envelope(
        internal_id=_internal_id(reading, place, at_ms),
        id=_shortened(id or place),
        id_is_clients=bool(id),
        name=(_name(reading, record, content) or record.topic)[: limits.EVENT_NAME_CHARS_MAX],
        data=content.data,
        ts_ms=content.ts_ms if 0 <= content.ts_ms <= limits.EVENT_TS_MAX_MS else at_ms,
        received_at_ms=at_ms,
        key=_shortened(_by_rule(reading.key, record, content) or content.key or _text(record.key or b"")),
        meta=meta,
    )


def _shortened(text: str) -> str:
    """An id or key within the limit. Of a longer one the end is a hash: two that begin alike stay two."""
    if len(text) <= limits.EVENT_ID_CHARS_MAX:
        return text
    end = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{text[: limits.EVENT_ID_CHARS_MAX - len(end) - 1]}~{end}"


def _envelope(value: bytes) -> Content:
    event = decode_envelope(value)
    try:
        data = event_data(parse_json(event.data))
        meta = parse_json(event.meta).text if event.meta else b""
    except Corruption as error:
        raise Corruption(f"a record was refused: its event's data or meta are no JSON: {error}") from error
    id = event.id if event.id_is_clients else event.internal_id
    return Content(data, event.name, id, event.key, event.ts_ms, meta)


def _name(reading: Reading, record: ForeignRecord, content: Content) -> str:
    if reading.name and not is_path(reading.name):
        return reading.name
    return _by_rule(reading.name, record, content) or content.name


def _by_rule(rule: str, record: ForeignRecord, content: Content) -> str:
    """What a path leads to, as text; empty where it leads nowhere, or to something that is no single value."""
    if not rule:
        return ""
    where, _, rest = rule.partition(".")
    if where == "key":
        return _text(record.key or b"")
    if where == "headers":
        return record.header(rest)
    found: Any = msgspec.json.decode(content.data)
    for part in rest.split("."):
        if not isinstance(found, dict) or part not in found:
            return ""
        found = found[part]
    if isinstance(found, bool):
        return "true" if found else "false"
    return str(found) if isinstance(found, str | int | float) else ""


def _text(raw_text: bytes) -> str:
    return raw_text.decode("utf-8", "backslashreplace")


def _internal_id(reading: Reading, place: str, at_ms: int) -> str:
    """One for each record and way of reading it: two ways make two events, which may differ."""
    how = "\x00".join((place, reading.format, reading.schema, reading.name, reading.key, reading.id))
    return ulid(at_ms, blake2b(how.encode(), digest_size=10).digest())


def _meta(record: ForeignRecord, content: Content) -> bytes:
    kafka: dict[str, object] = {
        "topic": record.topic, "partition": record.partition, "offset": record.offset, "ts": record.at_ms,
    }  # fmt: skip
    if record.headers:
        kafka["headers"] = {name: _shown(text) for name, text in record.headers}
    meta = msgspec.json.decode(content.meta) if content.meta else {}
    return _encode({**(meta if isinstance(meta, dict) else {}), "kafka": kafka})


def _shown(text: bytes | None) -> object:
    try:
        return text.decode() if text is not None else None
    except UnicodeDecodeError:
        return {"base64": b64encode(text or b"").decode()}
