"""Events, inbox records, replies and apps as bytes: the values of every topic but the journal and the tables.

One schema under ``schemas/messages/`` each. ``encode_envelope`` runs once per event at the door and ``decode_envelope``
once per event in a lane, so both are straight lines.

The rule: what is read equals what was written; other bytes are Corruption. For the events topic, which others may
write to, a lane turns that into a dead letter (``RefuseRecord``); for our own topics it stops.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final

import fastavro
import msgspec
from msgspec.structs import asdict

from penstock.errors import FunctionError
from penstock.model.event import Envelope
from penstock.model.function import AppSpec
from penstock.model.messages import InboxRecord, Reply
from penstock.wire.plain import corrupt, message_of, plain_message, read_datum
from penstock.wire.schemas import load_schema

_EVENT: Final = load_schema("messages/event")
_INBOX: Final = load_schema("messages/inbox")
_REPLY: Final = load_schema("messages/reply")
_APP: Final = load_schema("messages/app")
_NAMESPACE: Final = "penstock.messages"


def encode_envelope(envelope: Envelope) -> bytes:
    """The value of an event in the events topic."""
    target = BytesIO()
    fastavro.schemaless_writer(target, _EVENT, asdict(envelope))
    return target.getvalue()


def decode_envelope(data: bytes) -> Envelope:
    """The event of a value of the events topic. Raises Corruption on other bytes; the payload is not looked at."""
    return Envelope(**read_datum(_EVENT, data, "event"))


def encode_inbox(record: InboxRecord) -> bytes:
    """The value of a record for a lane's inbox."""
    message = plain_message(record.message, _NAMESPACE)
    return _written(_INBOX, {"from_lane": record.from_lane, "seq": record.seq, "message": message})


def decode_inbox(data: bytes) -> InboxRecord:
    """The record of a value of the inbox topic. Raises Corruption on other bytes."""
    plain = read_datum(_INBOX, data, "inbox record")
    return InboxRecord(plain["from_lane"], plain["seq"], message_of(plain["message"]))


def encode_reply(reply: Reply) -> bytes:
    """The value of a record for the replies topic."""
    return _written(_REPLY, asdict(reply))


def decode_reply(data: bytes) -> Reply:
    """The reply of a value of the replies topic. Raises Corruption on other bytes."""
    return Reply(**read_datum(_REPLY, data, "reply"))


def encode_app(app: AppSpec) -> bytes:
    """The value of an app in the functions topic: what identifies it as fields, all of it as JSON."""
    spec = msgspec.json.encode(app)
    return _written(_APP, {"id": app.id, "version": app.version, "endpoint": app.endpoint, "spec": spec})


def decode_app(data: bytes) -> AppSpec:
    """The app of a value of the functions topic. Raises Corruption on other bytes, or a spec that is no valid app."""
    plain = read_datum(_APP, data, "app")
    try:
        app = msgspec.json.decode(plain["spec"], type=AppSpec)
    except (msgspec.MsgspecError, FunctionError, UnicodeDecodeError) as broken:
        raise corrupt("app", data, f"a spec that is not one: {broken}") from broken
    outside, inside = (plain["id"], plain["version"], plain["endpoint"]), (app.id, app.version, app.endpoint)
    if outside != inside:
        raise corrupt("app", data, f"id, version and endpoint {outside!r} around the spec of {inside!r}")
    return app


def _written(schema: Any, plain: dict[str, Any]) -> bytes:
    target = BytesIO()
    fastavro.schemaless_writer(target, schema, plain)
    return target.getvalue()
