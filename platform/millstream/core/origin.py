"""What a start is made of, before any gate: where its event was read, the facts that hold it, the id of its run."""

from __future__ import annotations

from typing import NamedTuple

from millstream.core.tables import Tables
from millstream.errors import BadRequest
from millstream.model import limits
from millstream.model.event import Envelope
from millstream.model.facts import EventAccepted, EventNoted
from millstream.model.ids import run_id


class Origin(NamedTuple):
    """Where an event was read, and the hash by which its id is remembered (empty: it is not).

    The default is an event that the lane made itself: a cron's tick, an invocation.
    """

    topic: str = ""
    partition: int = 0
    offset: int = 0
    seen: bytes = b""


OWN_EVENT = Origin()


def noted(event: Envelope, origin: Origin) -> EventNoted:
    """The fact by which the id of an event is remembered that starts nothing on this lane."""
    return EventNoted(
        event.internal_id, event.id, event.id_is_clients, event.name, event.received_at_ms, origin.topic,
        origin.partition, origin.seen,
    )  # fmt: skip


def new_run_id(tables: Tables, function: str, event: Envelope, cause: str, *, lane: int = -1) -> str:
    """The id that a function's run on this event (the first of several) has. The same arguments give the same id.

    ``lane``: where the run lives; -1: here.

    Raises BadRequest on a time that no run can have.
    """
    if not 0 <= event.ts_ms <= limits.EVENT_TS_MAX_MS:
        raise BadRequest(
            f"event {event.id!r} refused: ts must be Unix milliseconds up to {limits.EVENT_TS_MAX_MS}, "
            f"got {event.ts_ms}. Fix the producer's clock or unit."
        )
    place = tables.place
    lane = place.lane if lane < 0 else lane
    return run_id(event.ts_ms, event.internal_id, function, cause, lane=lane, lanes=place.lanes)


def accepted(event: Envelope, origin: Origin) -> EventAccepted:
    """The fact that holds the event's payload, once for all runs that it starts."""
    return EventAccepted(
        event.internal_id, event.id, event.id_is_clients, event.name, event.data, event.ts_ms, event.received_at_ms,
        event.key, event.user, event.v, event.meta, *origin,
    )  # fmt: skip
