"""Events as Kafka records, for Python programs that write to the events topic themselves with a producer of theirs.

What comes out is what ``schemas/messages/event.avsc`` says, as docs/how-to/produce-events.md describes it for every
language.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from millstream.model.event import Event
from millstream.sdk.outgoing import envelope_of


class EventRecord(NamedTuple):
    """A record for the events topic; ``key`` None: any partition will do."""

    key: bytes | None
    value: bytes


def event_record(event: Event) -> EventRecord:
    """The record of one event, to be produced with ``partitioner=murmur2_random``, idempotence and ``acks=all``.

    The key is the event's, else its id. Raises BadRequest, LimitExceeded and UnserialisableResult as the event API
    would refuse it; schemas of events are not looked at.
    """
    from millstream.wire.messages import encode_envelope  # Here, so that declaring functions needs no Avro.

    envelope = envelope_of(event, time.time_ns() // 1_000_000)
    key = envelope.key or envelope.id
    return EventRecord(key.encode() if key else None, encode_envelope(envelope))
