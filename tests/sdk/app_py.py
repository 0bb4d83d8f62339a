"""An app with the unmodified Python SDK, as a user starts it: all that it knows of its server is in the environment."""

from __future__ import annotations

import logging
import os

import fastapi
import inngest
import inngest.fast_api

client = inngest.Inngest(app_id=os.environ["APP"], logger=logging.getLogger("uvicorn"))


@client.create_function(fn_id="hello", trigger=inngest.TriggerEvent(event="app/hello"), retries=2)
async def hello(ctx: inngest.Context) -> str:
    """It has nothing to do."""
    return "done"


app = fastapi.FastAPI()
inngest.fast_api.serve(app, client, [hello])
