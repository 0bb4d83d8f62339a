"""Who may act: the event keys of a door, compared in constant time.

Posts of events carry their key in the path, as the SDKs' protocol has it. What acts on functions and runs carries one
as ``Authorization: Bearer <event key>``, the way the SDKs' other calls carry their key. A door without keys (dev) takes
anybody but web pages (``browsers.py``). Reading asks for none.
"""

from __future__ import annotations

import hmac
from typing import Final

from aiohttp import web

from millstream.api.door.browsers import refuse_forged
from millstream.api.door.door import DOOR
from millstream.errors import NotAllowed

BEARER: Final = "bearer"


def may_send(keys: frozenset[str], key: str) -> None:
    """Raise NotAllowed for a key that is none of these; any does where there are none."""
    if keys and not sum(hmac.compare_digest(key.encode("utf-8", "surrogateescape"), k.encode()) for k in keys):
        raise NotAllowed("Event key not found")


def has_key(request: web.Request) -> bool:
    """Whether it carries a key of the server's."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    keys = request.app[DOOR].config.event_keys
    if not keys or scheme.lower() != BEARER:
        return False
    try:
        may_send(keys, key.strip())
    except NotAllowed:
        return False
    return True


def may_act(request: web.Request) -> None:
    """Raise NotAllowed, or Forbidden, where the request may not start or end runs."""
    keys = request.app[DOOR].config.event_keys
    if not keys:
        refuse_forged(request)
        return
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != BEARER:
        raise NotAllowed(
            f"{request.method} {request.path[:200]} was refused: expected the header Authorization: Bearer "
            f"<event key>, got {'another scheme' if scheme else 'none'}. Send one of the server's event keys."
        )
    may_send(keys, key.strip())
