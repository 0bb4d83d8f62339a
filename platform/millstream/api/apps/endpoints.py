"""What is asked of apps over HTTP: register (the SDKs do), list, sync, remove (operators do).

POST   /fn/register        an app says which functions it has
DELETE /fn/remove?url=     take out the app at an address
GET    /api/apps           all apps, also those with code in workers; ``check=1`` looks whether each answers
POST   /api/apps/sync      {"url"}: have the app there register
DELETE /api/apps/{id}      take out an app
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import web

from millstream.api.answers import TEXT, answer, found, iso, status_of, words_of
from millstream.api.apps.addresses import place_of
from millstream.api.apps.syncing import Seen, remote_apps
from millstream.api.door.budget import read_body
from millstream.api.door.door import DOOR, Door
from millstream.api.door.keys import may_act, may_register
from millstream.errors import BadRequest, MillstreamError, NotFound
from millstream.execute.endpoint.caller import EXPECTED_KIND_HEADER
from millstream.model import limits
from millstream.model.address import http_url
from millstream.model.function import AppSpec
from millstream.model.text.redaction import redacted_by_form
from millstream.wire.app_urls import base_url
from millstream.wire.json_limits import read_json
from millstream.wire.registration.app import app_of

CHECKED_AT_ONCE_MAX: Final = 50


async def post_register(request: web.Request) -> web.Response:
    """``{"ok": true, "modified", "app_id", "sync_id"}`` once it is durable, and every later event finds it so.

    An error is ``{"error", "data": null, "status"}``: one SDK takes the status from there.
    """
    door = request.app[DOOR]
    body = await read_body(request, door.budget, limits.REGISTRATION_BYTES_MAX)
    try:
        _refuse_other_kind(request, door)
        app = app_of(body)
        may_register(request, app)
        if door.registry.is_answer(request.query.get("deployId", ""), app):
            return answer({"ok": True, "modified": False, "skipped": True}, content_type=TEXT)
        registered = await door.registry.register(app)
    except MillstreamError as refused:
        status = status_of(refused)
        if status == 500:
            raise
        return answer({"error": words_of(refused), "data": None, "status": status}, status, content_type=TEXT)
    finally:
        door.budget.give_back(len(body))
    said = {"ok": True, "modified": registered.modified, "sync_id": registered.sync_id, "app_id": registered.app_id}
    return answer(said, content_type=TEXT)


async def delete_remove(request: web.Request) -> web.Response:
    """Take out the app at the address in ``url``; 200 without a body."""
    door = request.app[DOOR]
    may_act(request)
    place = place_of(_url(request.query.get("url")))
    app = next((one for one in remote_apps(door.registry) if one.remote and place_of(one.remote.url) == place), None)
    if app is None:
        raise NotFound(f"no app is registered at {request.query['url'][:200]}. See them with: millstream apps list.")
    await door.registry.remove(app.id)
    return web.Response()


async def delete_app(request: web.Request) -> web.Response:
    """Take an app out: its crons stop, its open runs stay."""
    door = request.app[DOOR]
    may_act(request)
    id = request.match_info["id"]
    app = door.catalogue.apps.get(id)
    if app is None:
        raise NotFound(f"app {id[:255]!r} is not registered. See those that are with: millstream apps list.")
    shown = _shown(door, app)
    await door.registry.remove(id)
    return answer({"data": shown})


async def post_sync(request: web.Request) -> web.Response:
    """Have the app at ``url`` register: ``{"data": {"app", "url", "modified"}}``. Raises BadRequest with the reason."""
    door = request.app[DOOR]
    may_act(request)
    body = await read_body(request, door.budget, limits.HEADER_BYTES_MAX)
    wanted, problem = read_json(body)
    door.budget.give_back(len(body))
    if problem or not isinstance(wanted, dict):
        got = f"what {problem}" if problem else f"{body[:80]!r}"
        raise BadRequest(f'sync refused: expected {{"url": the address of an app}}, got {got}.')
    seen = await door.syncer.try_once(_url(wanted.get("url")))
    if seen.why:
        raise BadRequest(seen.why)
    return answer({"data": {"app": seen.app, "url": seen.url, "modified": seen.modified}})


async def get_apps(request: web.Request) -> web.Response:
    """Each app, and each address that was named and has no app yet; with ``why`` where one cannot be reached."""
    door = request.app[DOOR]
    if request.query.get("check"):
        urls = [app.remote.url for app in remote_apps(door.registry) if app.remote]
        await asyncio.gather(*(door.syncer.look(url) for url in urls[:CHECKED_AT_ONCE_MAX]))
    rows = [_shown(door, app) for _, app in sorted(door.catalogue.apps.items())]
    places = {place_of(row["url"]) for row in rows if row["url"]}
    places |= door.registry.removed
    waiting = [seen for place, seen in sorted(door.syncer.seen.items()) if seen.why and place not in places]
    return found([_without_secrets(row) for row in (*rows, *(_unregistered(seen) for seen in waiting))])


def _url(given: object) -> str:
    if not isinstance(given, str):
        raise BadRequest(f"the url must be the address of an app, got {str(given)!r:.80}.")
    try:
        http_url(given, "url")
    except MillstreamError as refused:
        raise BadRequest(str(refused)) from refused
    return base_url(given)


def _refuse_other_kind(request: web.Request, door: Door) -> None:
    ours, expected = door.config.signing.kind, request.headers.get(EXPECTED_KIND_HEADER, "")
    if expected and expected != ours:
        what = "without a signing key" if ours == "dev" else "with one"
        raise BadRequest(
            f"Expected server kind {ours}, got {expected[:20]}. This server runs {what}: set INNGEST_DEV="
            f"{'<its address>' if ours == 'dev' else '0'} in the app, or start the server "
            f"{'with' if ours == 'dev' else 'without'} --signing-key."
        )


def _shown(door: Door, app: AppSpec) -> dict[str, Any]:
    """An app as a row; ``reachable`` is null where its code is in a worker, or nobody has looked.

    What calls meet counts before what the last look has seen: that is what runs wait for.
    """
    remote = app.remote
    seen = door.syncer.seen.get(place_of(remote.url)) if remote is not None else None
    calls = door.config.calls(app.id) if app.endpoint else None
    looked = [calls.answers] if calls is not None else []
    looked += [not seen.why] if seen is not None else []
    return {
        "id": app.id,
        "url": remote.url if remote is not None else app.endpoint,
        "sdk": remote.sdk if remote is not None else "",
        "framework": remote.framework if remote is not None else "",
        "version": app.version,
        "functions": [function.slug for function in app.functions],
        "changed_at": iso(door.catalogue.changed_at_ms.get(app.id, 0)),
        "seen_at": iso(seen.at_ms) if seen is not None else None,
        "reachable": False if False in looked else True if True in looked else None,
        "why": (calls.why if calls is not None else "") or (seen.why if seen is not None else ""),
    }


def _without_secrets(row: dict[str, Any]) -> dict[str, Any]:
    """The row as anybody may see it: an address may hold a password, or a key that lets it through a protection."""
    return row | {"url": redacted_by_form(row["url"]), "why": redacted_by_form(row["why"])}


def _unregistered(seen: Seen) -> dict[str, Any]:
    """An address without an app, as a row."""
    nothing: dict[str, Any] = {"id": None, "sdk": "", "framework": "", "version": "", "functions": []}
    return nothing | {
        "url": seen.url, "changed_at": None, "seen_at": iso(seen.at_ms), "reachable": False, "why": seen.why,
    }  # fmt: skip
