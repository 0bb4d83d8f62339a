"""``GET /api/functions/{slug}/queues``: who stands at the gates of a function, by value of the key.

The history knows who stands where; what is declared says when a throttle opens next, so another limit shows at once.
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from millstream.api.answers import found, iso, key_shown
from millstream.api.door.door import DOOR
from millstream.api.functions import flow_shown
from millstream.errors import NotFound
from millstream.history.queues import QueueSeen, next_slot_ms
from millstream.model.gates.declared import FlowSpec

KNOWN_NAMED_MAX: Final = 20


async def get_queues(request: web.Request) -> web.Response:
    """What is declared, sums, and the places with the longest queues. Raises NotFound for no function."""
    door, slug = request.app[DOOR], request.match_info["slug"]
    seen = await door.reads.ask(lambda queries: queries.queues(slug))
    specs = {spec.slug: spec for app in door.catalogue.apps.values() for spec in app.functions}
    spec = specs.get(slug)
    if spec is None and not seen.places:
        known = ", ".join(sorted(specs)[:KNOWN_NAMED_MAX])
        raise NotFound(f"function {slug[:255]!r} not found. Known functions: {known or 'none'}.")
    flow = (spec.flow if spec is not None else None) or FlowSpec()
    now_ms = door.config.now_ms()
    return found(
        {
            "function_id": slug,
            "flow": flow_shown(flow),
            "running": seen.running,
            "queued": seen.queued,
            "kept": seen.kept,
            "places": seen.places,
            "queues": [_queue(one, flow, now_ms) for one in seen.shown],
        }
    )


def _queue(one: QueueSeen, flow: FlowSpec, now_ms: int) -> dict[str, Any]:
    kept = {"events": one.kept, "event_id": one.kept_event, "due_at": iso(one.due_ms)} if one.kept else None
    return {
        "gate": one.gate,
        "key": key_shown(one.key),
        "running": one.running,
        "queued": one.queued,
        "oldest_at": iso(one.oldest_ms),
        "next_slot_at": iso(next_slot_ms(one, flow, now_ms)),
        "kept": kept,
    }
