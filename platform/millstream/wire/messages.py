"""Events, inbox records, replies and apps as bytes: the values of every topic but the journal and the tables.

One schema under ``schemas/messages/`` each. ``encode_envelope`` runs once per event at the door and ``decode_envelope``
once per event in a lane, so both are compiled codecs (``compiled_avro.py``); so are those of inbox records and replies.
An app is JSON inside and rare: fastavro writes and reads it.

The rule: what is read equals what was written; other bytes are Corruption. For the events topic, which others may
write to, a lane turns that into a dead letter (``RefuseRecord``); for our own topics it stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from io import BytesIO
from typing import Any, Final, get_args

import fastavro
import msgspec

from millstream.errors import FunctionError
from millstream.model.commands import ScanRange
from millstream.model.event import Envelope
from millstream.model.function import AppSpec
from millstream.model.gates.declared import RunFlow, Slot
from millstream.model.messages import InboxRecord, Message, Reply
from millstream.model.operations import Condition, Failure, Operation, RetryPolicy
from millstream.wire.compiled_avro import CompiledCodec
from millstream.wire.reference_avro import corrupt, read_datum
from millstream.wire.schemas import load_schema

_KINDS: Final[tuple[type[Any], ...]] = (
    *(Envelope, InboxRecord, Reply, ScanRange, Failure, Condition, RunFlow, Slot),
    *(Envelope, InboxRecord, Reply, ScanRange, Failure, Condition, RetryPolicy),
    *get_args(Message),
    *get_args(Operation),
)
_CLASSES: Final[dict[str, type[Any]]] = {"Header": tuple, **{kind.__name__: kind for kind in _KINDS}}
_EVENT: Final = CompiledCodec[Envelope](load_schema("messages/event"), _CLASSES)
_INBOX: Final = CompiledCodec[InboxRecord](load_schema("messages/inbox"), _CLASSES)
_REPLY: Final = CompiledCodec[Reply](load_schema("messages/reply"), _CLASSES)
_APP: Final = load_schema("messages/app")


def encode_envelope(envelope: Envelope) -> bytes:
    """The value of an event in the events topic."""
    return _EVENT.encode(envelope)


def decode_envelope(data: bytes) -> Envelope:
    """The event of a value of the events topic. Raises Corruption on other bytes; the payload is not looked at."""
    return _EVENT.decode(data, "event")


def encode_inbox(record: InboxRecord) -> bytes:
    """The value of a record for a lane's inbox."""
    return _INBOX.encode(record)


def decode_inbox(data: bytes) -> InboxRecord:
    """The record of a value of the inbox topic. Raises Corruption on other bytes."""
    return _INBOX.decode(data, "inbox record")


def encode_reply(reply: Reply) -> bytes:
    """The value of a record for the replies topic."""
    return _REPLY.encode(reply)


def decode_reply(data: bytes) -> Reply:
    """The reply of a value of the replies topic. Raises Corruption on other bytes."""
    return _REPLY.decode(data, "reply")


def encode_app(app: AppSpec, replaced: Sequence[str] = ()) -> bytes:
    """The value of an app in the functions topic: what identifies it as fields, all of it as JSON.

    ``replaced`` are fingerprints of what it was before, the latest first.
    """
    datum = {"id": app.id, "version": app.version, "endpoint": app.endpoint, "spec": msgspec.json.encode(app)}
    return _written(_APP, datum | {"replaced": list(replaced)})


def replaced_by(data: bytes) -> tuple[str, ...]:
    """The fingerprints of what an app of the functions topic was before. Raises Corruption on other bytes."""
    return tuple(read_datum(_APP, data, "app")["replaced"])


def fingerprint(app: AppSpec) -> str:
    """What tells one version of an app from another, whatever its team calls them."""
    return blake2b(msgspec.json.encode(app), digest_size=8).hexdigest()


def decode_app(data: bytes) -> AppSpec:
    """The app of a value of the functions topic. Raises Corruption on other bytes, or a spec that is no valid app."""
    datum = read_datum(_APP, data, "app")
    try:
        app = msgspec.json.decode(datum["spec"], type=AppSpec)
    except (msgspec.MsgspecError, FunctionError, UnicodeDecodeError) as broken:
        raise corrupt("app", data, f"a spec that is not one: {broken}") from broken
    outside, inside = (datum["id"], datum["version"], datum["endpoint"]), (app.id, app.version, app.endpoint)
    if outside != inside:
        raise corrupt("app", data, f"id, version and endpoint {outside!r} around the spec of {inside!r}")
    return app


def _written(schema: Any, datum: dict[str, Any]) -> bytes:
    target = BytesIO()
    fastavro.schemaless_writer(target, schema, datum)
    return target.getvalue()
