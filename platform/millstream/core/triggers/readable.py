"""An event as expressions see it."""

from __future__ import annotations

import json

from millstream.errors import BadRequest
from millstream.model.announcement import event_json
from millstream.model.event import Envelope


def readable(event: Envelope) -> dict[str, object]:
    """The event as functions see it, ``key`` and ``meta`` too. Raises BadRequest where its data is no JSON."""
    try:
        value = event_json(event)
        value["key"] = event.key
        if event.meta:
            value["meta"] = json.loads(event.meta)
        return value
    except (ValueError, RecursionError) as error:
        raise BadRequest(
            f"event {event.id!r} refused: data must be JSON, since an expression reads it; got "
            f"{event.data[:100]!r}: {error}. Fix its producer."
        ) from error
