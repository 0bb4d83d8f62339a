"""Python apps with the unmodified SDK: `python -m tests.sdk.hosts.python.app fastapi|flask|django`, on PORT.

FUNCTIONS, ids with commas, leaves out all others: an app after a deploy.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from tests.sdk.hosts.python.dressed import add_dressed, middleware
from tests.sdk.hosts.python.failing import add_ending, add_failing
from tests.sdk.hosts.python.held import add_held
from tests.sdk.hosts.python.host import APP, Host
from tests.sdk.hosts.python.limited import add_limited
from tests.sdk.hosts.python.plain import add_invoking, add_plain


def made(*, waits: bool) -> Host:
    """The app with its functions."""
    host = Host(middleware(), waits=waits)
    for add in (add_plain, add_invoking, add_failing, add_ending, add_limited, add_held, add_dressed):
        add(host)
    only = os.environ.get("FUNCTIONS")
    if only:
        kept = {f"{APP}-{id}" for id in only.split(",")}
        host.functions = [function for function in host.functions if function.id in kept]
    return host


def on_fastapi(port: int) -> None:
    """Coroutines, on uvicorn."""
    import fastapi
    import inngest.fast_api
    import uvicorn

    host = made(waits=True)
    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, host.client, host.functions)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def on_flask(port: int) -> None:
    """Plain functions, a thread a request."""
    import flask
    import inngest.flask

    host = made(waits=False)
    app = flask.Flask("app")
    inngest.flask.serve(app, host.client, host.functions)
    app.run("127.0.0.1", port, threaded=True)


def on_django(port: int) -> None:
    """Plain functions, on the server that Django develops with."""
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.core.servers.basehttp import run

    settings.configure(
        ROOT_URLCONF=_Urls, ALLOWED_HOSTS=["*"], SECRET_KEY="of-a-test", DATA_UPLOAD_MAX_MEMORY_SIZE=None
    )
    import django
    import inngest.django

    django.setup()
    host = made(waits=False)
    _Urls.urlpatterns = [inngest.django.serve(host.client, host.functions)]
    run("127.0.0.1", port, WSGIHandler(), threading=True)


class _Urls:
    """Django asks a class for its urls as gladly as a module."""

    urlpatterns: list[Any] = []


if __name__ == "__main__":
    {"fastapi": on_fastapi, "flask": on_flask, "django": on_django}[sys.argv[1]](int(os.environ["PORT"]))
