"""What other producers write to the events topic is an event like the door's, or is refused as the door would."""

from __future__ import annotations

import msgspec
import pytest

from millstream.errors import Corruption
from millstream.model import limits
from millstream.model.event import Envelope
from millstream.model.ids import ulid, ulid_time_ms
from millstream.wire.events_topic import Written, read_event
from millstream.wire.messages import encode_envelope
from millstream.wire.schemas import EventSchema, EventSchemas, event_schema

AT_MS = 1_795_356_850_000
AT = Written("events", 3, 7, AT_MS)
SCHEMA = '{"type": "record", "name": "Order", "fields": [{"name": "n", "type": "long"}]}'
PLAIN = Envelope("", "", False, "order/placed", b'{"n": 1}', 0, 0)

DOORS_ID = ulid(AT_MS, bytes(10))
DOORS = msgspec.structs.replace(PLAIN, internal_id=DOORS_ID, id=DOORS_ID, ts_ms=AT_MS, received_at_ms=AT_MS)


def read(event: Envelope, offset: int = 7, at_ms: int = AT_MS) -> Envelope:
    return read_event(Written("events", 3, offset, at_ms), encode_envelope(event))


def test_what_the_door_wrote_is_taken_as_it_is() -> None:
    assert read(DOORS) == DOORS


def test_an_event_without_an_id_gets_one_of_its_place() -> None:
    event = read(PLAIN)
    assert event == read(PLAIN)
    assert event.id == event.internal_id
    assert not event.id_is_clients
    assert ulid_time_ms(event.internal_id) == event.ts_ms == event.received_at_ms == AT_MS
    assert read(PLAIN, offset=8).internal_id != event.internal_id


def test_a_producers_own_id_and_time_are_kept() -> None:
    event = read(msgspec.structs.replace(PLAIN, id="order-1", ts_ms=AT_MS - 5))
    assert (event.id, event.id_is_clients, event.ts_ms) == ("order-1", True, AT_MS - 5)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": ""}, "expected a name"),
        ({"name": "x" * 2_000}, "expected a name"),
        ({"data": b"[1]"}, "expected a JSON object"),
        ({"data": b""}, "expected a JSON object"),
        ({"data": b"\xff"}, "expected a JSON object"),
        ({"data": b'{"a": {"b\xf8": 1}}'}, "expected a JSON object"),
        ({"data": b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}"}, "deep"),
        ({"meta": b"7"}, "expected a JSON object"),
        ({"id": "x" * 2_000}, "its id or key"),
        ({"name": "inngest/function.finished"}, "server's own"),
        ({"data": b'{"a": "' + b"x" * limits.EVENT_BYTES_MAX + b'"}'}, "bytes"),
        ({"ts_ms": 12}, "no time in Unix milliseconds"),
    ],
)
def test_what_the_door_would_refuse_is_refused(change: dict[str, object], expected: str) -> None:
    with pytest.raises(Corruption, match=expected):
        read(msgspec.structs.replace(PLAIN, **change))


def test_data_that_do_not_fit_the_schema_of_their_name_are_refused() -> None:
    schemas = EventSchemas([event_schema("order/placed", SCHEMA, "3")])
    assert read_event(AT, encode_envelope(PLAIN), schemas).name == "order/placed"
    with pytest.raises(Corruption, match="field 'n' must be long"):
        read_event(AT, encode_envelope(msgspec.structs.replace(PLAIN, data=b'{"n": "seven"}')), schemas)


def test_schemas_can_be_replaced_while_they_are_in_use() -> None:
    schemas = EventSchemas()
    found: EventSchema = event_schema("order/placed", SCHEMA, "3")
    schemas.replace([found])
    assert schemas.names == ("order/placed",) and schemas.get("order/placed") is found
