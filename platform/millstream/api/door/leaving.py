"""How a door ends behind a load balancer: it says so, answers on for a while, and then listens no more.

    told to stop ── /readyz 503, each answer ends its connection ── delay ── listens no more ── answers those under way

Whoever spreads connections over several doors (Kubernetes, a proxy) learns of an end a moment after it was asked for,
and leads new connections here until then. A door that closed its port at once would refuse those. A client that keeps a
connection is told with its next answer to open another one, which finds another door; without that it might write its
next request into a connection that closes at this moment.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiohttp import web
from aiohttp.hdrs import CONNECTION

from millstream.api.door.door import DOOR, Door
from millstream.telemetry import say

LOG: Final = logging.getLogger("millstream.door")


async def leave(door: Door, delay_s: float) -> None:
    """Be ready no more, and answer on for ``delay_s``."""
    door.leaving = True
    if delay_s:
        say(LOG, "shutdown delayed", delay_s=delay_s)
        await asyncio.sleep(delay_s)


async def end_connections(request: web.Request, response: web.StreamResponse) -> None:
    """Called with each answer before its headers are sent: the last one of its connection, where the door is left."""
    if request.app[DOOR].leaving:
        response.force_close()
        response.headers[CONNECTION] = "close"
