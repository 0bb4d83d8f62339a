"""``GET /v1/apps/{app}/functions``: the functions of an app as they are registered now, as a bare array."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from millstream.api.answers import answer
from millstream.api.door.door import DOOR
from millstream.api.functions import registered
from millstream.api.runs import NO_ENVIRONMENT
from millstream.errors import NotFound
from millstream.model.function import AppSpec, FunctionSpec

KNOWN_NAMED_MAX: Final = 20


async def list_functions(request: web.Request) -> web.Response:
    """Raises NotFound for no app."""
    apps, app = request.app[DOOR].catalogue.apps, request.match_info["app"]
    if app not in apps:
        known = ", ".join(sorted(apps)[:KNOWN_NAMED_MAX])
        raise NotFound(f"app {app[:255]!r} not found. Known apps: {known or 'none'}.")
    return answer([_function(apps[app], spec) for spec in apps[app].functions])


def _function(app: AppSpec, spec: FunctionSpec) -> dict[str, Any]:
    """``archived_at`` is null: what is archived is not listed."""
    return {
        "internal_id": spec.slug,
        "env_id": NO_ENVIRONMENT,
        "app_id": app.id,
        "id": spec.slug,
        "name": spec.name,
        "config": registered(app, spec),
        "created_at": None,
        "archived_at": None,
    }
