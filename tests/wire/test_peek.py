"""``peek_event``: what is said of an event without reading it is true, or too careful."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from millstream.model.event import Envelope
from millstream.model.ids import encode_ulid
from millstream.wire.events_topic import peek_event
from millstream.wire.messages import encode_envelope
from millstream.wire.schemas import load_schema
from tests.wire.drawn import structs

ULIDS = st.integers(0, (1 << 128) - 1).map(encode_ulid)
STAMPS = st.integers(0, 1 << 40)


@given(structs(Envelope, load_schema("messages/event")), ULIDS, STAMPS)
def test_the_name_is_the_events_and_the_stamp_at_least_its_own(event: Envelope, id: str, stamp: int) -> None:
    event = msgspec.structs.replace(event, internal_id=id, catalogue=stamp)
    peeked = peek_event(encode_envelope(event))
    if peeked is not None:
        assert peeked[0] == event.name
        assert peeked[1] >= stamp


@given(structs(Envelope, load_schema("messages/event")))
def test_an_event_that_the_door_has_not_seen_is_read_in_full(event: Envelope) -> None:
    assert peek_event(encode_envelope(msgspec.structs.replace(event, internal_id=""))) is None


@given(st.binary(max_size=200))
def test_other_bytes_raise_nothing(value: bytes) -> None:
    peek_event(value)


def test_an_ordinary_event_is_not_read_in_full() -> None:
    id = encode_ulid(1 << 100)
    for stamp in (0, 5, 63, 64, 5_000):
        event = Envelope(id, id, False, "order/placed", b"{}", 1, 1, catalogue=stamp)
        assert peek_event(encode_envelope(event)) == ("order/placed", stamp)
