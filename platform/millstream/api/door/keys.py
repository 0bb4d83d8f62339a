"""Who may act: the event keys of a door, and its signing keys, compared in constant time.

Posts of events carry their key in the path, as the SDKs' protocol has it. What acts on functions and runs carries one
as ``Authorization: Bearer <event key>``, the way the SDKs' other calls carry the hash of their signing key, which is
taken as well. A door without keys (dev) takes anybody but web pages (``browsers.py``). Reading asks for none, unless
there is a signing key:

    with a signing key     /fn/, /v0/, /v1/, /dev    the hash of the signing key; also an event key, but for /fn/
    event keys alone       /fn/register              only from an address that the operator has named (--sdk-url), or
                                                     where the server itself has found an app (dev), and with
                                                     functions that are called at such a one
"""

from __future__ import annotations

import hmac
from typing import Final

from aiohttp import web

from millstream.api.apps.addresses import place_of
from millstream.api.door.browsers import refuse_forged
from millstream.api.door.door import DOOR
from millstream.errors import BadRequest, NotAllowed
from millstream.model.function import AppSpec
from millstream.model.waits.callback_token import PATH

BEARER: Final = "bearer"
ENVIRONMENT_HEADER: Final = "X-Inngest-Env"
REGISTRATIONS: Final = "/fn/"
SIGNED: Final = (REGISTRATIONS, "/v0/", "/v1/", "/dev")
OPEN: Final = (PATH, "/v0/gql")
"""A callback's path has a key of its own; the page asks for GraphQL."""


def may_send(keys: frozenset[str], key: str) -> None:
    """Raise NotAllowed for a key that is none of these; any does where there are none."""
    if keys and not sum(hmac.compare_digest(key.encode("utf-8", "surrogateescape"), k.encode()) for k in keys):
        raise NotAllowed("Event key not found")


def has_key(request: web.Request) -> bool:
    """Whether it carries a key of the server's."""
    return _has_signing_key(request) or _has_event_key(request)


def _has_signing_key(request: web.Request) -> bool:
    signing = request.app[DOOR].config.signing
    return bool(signing) and signing.accepts_bearer(request.headers.get("Authorization", ""))


def _has_event_key(request: web.Request) -> bool:
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
    if _has_signing_key(request):
        return
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


def refuse_unsigned(request: web.Request) -> None:
    """Raise NotAllowed in signed mode, where a path of the SDKs' API is asked for without the key."""
    path = request.path
    if not request.app[DOOR].config.signing or not path.startswith(SIGNED) or path.startswith(OPEN):
        return
    if not (_has_signing_key(request) or (not path.startswith(REGISTRATIONS) and _has_event_key(request))):
        got = "another" if request.headers.get("Authorization") else "none"
        raise NotAllowed(
            "Authentication failed: expected the header Authorization: Bearer <hash of the signing key>, as SDKs send "
            f"it, got {got}. Give the app this server's key as INNGEST_SIGNING_KEY."
        )


def refuse_other_environment(request: web.Request) -> None:
    """Raise BadRequest for a request that names an environment which is not this server's."""
    names = request.app[DOOR].config.environments
    named = request.headers.get(ENVIRONMENT_HEADER, "")
    if named and names and named not in names:
        raise BadRequest(
            f"environment {named[:100]!r} refused: this server is {' or '.join(map(repr, sorted(names)))}. Set "
            f"INNGEST_ENV={min(names)} in the app, or start the server with --environment {named[:100]}."
        )


def may_register(request: web.Request, app: AppSpec) -> None:
    """Raise NotAllowed, or Forbidden, where the request may not say which functions an app has."""
    door = request.app[DOOR]
    config = door.config
    if config.signing:
        return  # ``refuse_unsigned`` has let it through.
    refuse_forged(request)
    named = door.syncer.found | {place_of(url) for url in config.sync.urls}
    # Both the address that the app names and the one that its functions are called at: they may differ.
    said = (app.remote.url if app.remote is not None else app.endpoint, app.endpoint)
    stranger = next((url for url in said if place_of(url) not in named), "")
    if config.event_keys and stranger:
        raise NotAllowed(
            f"app {app.id!r} at {stranger} refused: this server has event keys and no signing key, and so takes "
            "apps only from addresses that it was told. Start it with --signing-key, or with --sdk-url "
            f"{stranger}."
        )
