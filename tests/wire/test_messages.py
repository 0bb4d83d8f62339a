"""Events, inbox records, replies and apps come back as they were written; keys go where Java's producers send them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.errors import Corruption
from millstream.model.event import Envelope
from millstream.model.function import AppSpec, Backoff, CronTrigger, EventTrigger, FunctionSpec
from millstream.model.messages import InboxRecord, Reply
from millstream.wire import messages
from millstream.wire.partition import murmur2, partition_of
from millstream.wire.schemas import load_schema
from tests.wire.drawn import structs

APP = AppSpec(
    "shop",
    (
        FunctionSpec("shop-fulfil", "Fulfil", (EventTrigger("order/placed", "event.data.total > 10"),), retries=2),
        FunctionSpec("shop-report", "Report", (CronTrigger("TZ=Europe/Paris 0 9 * * *"),), backoff=Backoff((1, 2), 3)),
    ),
    endpoint="http://127.0.0.1:3000/api/inngest",
    version="7",
)
DECODERS = (messages.decode_envelope, messages.decode_inbox, messages.decode_reply, messages.decode_app)


@given(structs(Envelope, load_schema("messages/event")))
def test_an_event_comes_back_as_it_was_written(event: Envelope) -> None:
    assert messages.decode_envelope(messages.encode_envelope(event)) == event


@given(structs(InboxRecord, load_schema("messages/inbox")))
def test_an_inbox_record_comes_back_as_it_was_written(record: InboxRecord) -> None:
    read = messages.decode_inbox(messages.encode_inbox(record))
    assert read == record
    assert type(read.message) is type(record.message)


@given(structs(Reply, load_schema("messages/reply")))
def test_a_reply_comes_back_as_it_was_written(reply: Reply) -> None:
    assert messages.decode_reply(messages.encode_reply(reply)) == reply


def test_an_app_comes_back_with_its_functions_and_triggers() -> None:
    assert messages.decode_app(messages.encode_app(APP)) == APP


@pytest.mark.parametrize("replaced", [b'{"id":"shop"}', b'{"id":"sh"', b"\xff\xfe"])
def test_an_app_whose_spec_is_none_is_corruption(replaced: bytes) -> None:
    data = messages._written(messages._APP, {"id": "shop", "version": "", "endpoint": "", "spec": replaced})
    with pytest.raises(Corruption, match="app cannot be read"):
        messages.decode_app(data)


def test_an_app_whose_name_is_not_its_specs_is_corruption() -> None:
    spec = msgspec.json.encode(APP)
    data = messages._written(messages._APP, {"id": "other", "version": "7", "endpoint": APP.endpoint, "spec": spec})
    with pytest.raises(Corruption, match="'other'"):
        messages.decode_app(data)


@pytest.mark.parametrize("decode", DECODERS, ids=lambda decode: decode.__name__)
@given(data=st.binary(max_size=120))
def test_arbitrary_bytes_are_a_message_or_corruption(decode: Callable[[bytes], Any], data: bytes) -> None:
    with contextlib.suppress(Corruption):
        decode(data)


def test_an_error_about_bytes_says_what_was_expected_and_got() -> None:
    with pytest.raises(Corruption, match=r"event cannot be read: expected one whole Avro record in 3 bytes, got EOF"):
        messages.decode_envelope(b"\x0aab")


# Vectors of org.apache.kafka.common.utils.UtilsTest#testMurmur2, signed there.
@pytest.mark.parametrize(
    ("key", "signed"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_a_key_hashes_as_in_java(key: str, signed: int) -> None:
    assert murmur2(key.encode()) == signed % 2**32
    assert partition_of(key, 12) == (signed & 0x7FFFFFFF) % 12


@given(st.text(), st.integers(1, 4096))
def test_every_key_has_a_partition(key: str, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions
