"""Apps with the unmodified Python SDK, served by uvicorn in the test's own loop.

async with sdk_app(world.served.url, functions=("hello", "bye")) as app: app.url, app.put()
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import fastapi
import inngest
import inngest.fast_api
import uvicorn

PATH = "/api/inngest"


@dataclass(frozen=True)
class SdkApp:
    """An app that serves."""

    id: str
    url: str
    client: inngest.Inngest

    async def put(self, query: str = "", **headers: str) -> tuple[int, Any]:
        """Have it register, as a user does; the status and the body of its answer."""
        async with aiohttp.ClientSession() as http, http.put(self.url + query, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)


@contextlib.asynccontextmanager
async def sdk_app(
    server: str,
    *,
    id: str = "sdk",
    functions: Sequence[str] = ("hello",),
    cron: str = "",
    signing_key: str | None = None,
    fallback: str | None = None,
    port: int = 0,
) -> AsyncIterator[SdkApp]:
    """An app with functions that start on an event of their name, and one on a ``cron``; signed with a key."""
    with _environment(INNGEST_SIGNING_KEY_FALLBACK=fallback):
        client = inngest.Inngest(
            app_id=id,
            api_base_url=server,
            event_api_base_url=server,
            is_production=signing_key is not None,
            signing_key=signing_key,
            event_key="K",
        )

    async def handler(ctx: inngest.Context) -> str:
        return "done"

    made = [
        client.create_function(fn_id=name, trigger=inngest.TriggerEvent(event=f"app/{name}"))(handler)
        for name in functions
    ]
    if cron:
        made.append(client.create_function(fn_id="tick", trigger=inngest.TriggerCron(cron=cron))(handler))
    web = fastapi.FastAPI()
    inngest.fast_api.serve(web, client, made)
    listening = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(web, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    serving = uvicorn.Server(config)
    serving.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    task = asyncio.get_running_loop().create_task(serving.serve(sockets=[listening]))
    try:
        yield SdkApp(id, f"http://127.0.0.1:{listening.getsockname()[1]}{PATH}", client)
    finally:
        serving.should_exit = True
        await task
        listening.close()


@contextlib.contextmanager
def _environment(**variables: str | None) -> Iterator[None]:
    """Variables that the SDK reads when a client is made, and has no argument for."""
    given = {name: value for name, value in variables.items() if value is not None}
    os.environ.update(given)
    try:
        yield
    finally:
        for name in given:
            del os.environ[name]
