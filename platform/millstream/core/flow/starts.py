"""The beginning of a start's way through the gates (``verdicts.py`` has how it goes on)."""

from __future__ import annotations

from millstream.core.flow.delay import place_here
from millstream.core.flow.gates import way_of
from millstream.core.flow.verdicts import home_of_start
from millstream.core.origin import Origin, new_run_id
from millstream.core.tables import Tables
from millstream.core.triggers.readable import readable
from millstream.errors import BadRequest
from millstream.model.event import Envelope
from millstream.model.facts import Post
from millstream.model.function import FunctionSpec
from millstream.model.gates.messages import AdmitStart


def through_gates(
    tables: Tables,
    function: FunctionSpec,
    event: Envelope,
    origin: Origin,
    *,
    cause: str = "",
    at_ms: int = 0,
    request: str = "",
    reply_to: int = -1,
) -> tuple[Post, str]:
    """The message with which a start begins its way through the gates, and the id of the run that it may become.

    Raises BadRequest on a time no run can have.
    """
    try:
        value = readable(event)
    except BadRequest:
        value = {}  # No JSON: its producer went past the door. Every key is null.
    place = tables.place
    way = way_of(function, value, at_ms or event.received_at_ms, lane=place.lane, lanes=place.lanes)
    run = new_run_id(tables, function.slug, event, cause, lane=way.lane)
    admits = (place_here(tables, origin, run), *way.admits) if at_ms else way.admits
    message = AdmitStart(
        function.slug, event, cause, at_ms, admits, 0, way.flow, way.lane, origin.topic, origin.partition,
        origin.offset, request, reply_to,
    )  # fmt: skip
    return Post(home_of_start(tables, message), message), run
