"""An app of the Python SDK on FastAPI, as a team would write it: ``python app_python.py PORT NOTES``.

What user code really did is noted in a file, a line each, so that a test sees what ran twice.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import sys
from pathlib import Path
from typing import Any

import fastapi
import inngest
import inngest.fast_api
import uvicorn

NOTES = Path(sys.argv[2])
client = inngest.Inngest(app_id="shop app", is_production=bool(os.environ.get("INNGEST_SIGNING_KEY")))


def note(line: str) -> str:
    with NOTES.open("a") as file:
        file.write(f"{line}\n")
    return line


def on(event: str, **options: Any) -> Any:
    return client.create_function(fn_id=event, trigger=inngest.TriggerEvent(event=event), **options)


@on("row", retries=0)
async def row(ctx: inngest.Context) -> object:
    async def step(name: str) -> str:
        return note(name)

    return [await ctx.step.run(name, step, name) for name in ("a", "b", "c")]


@on("none", retries=0)
async def none(ctx: inngest.Context) -> object:
    return {"data": dict(ctx.event.data), "id": ctx.run_id}


@on("nap", retries=0)
async def nap(ctx: inngest.Context) -> object:
    await ctx.step.sleep("nap", datetime.timedelta(seconds=1))
    return "awake"


@on("wait", retries=0)
async def wait(ctx: inngest.Context) -> object:
    came = await ctx.step.wait_for_event(
        "reply", event="reply", if_exp="event.data.id == async.data.id", timeout=datetime.timedelta(seconds=30)
    )
    return came.data if came is not None else None


@on("wait-long", retries=0)
async def wait_long(ctx: inngest.Context) -> object:
    return await ctx.step.wait_for_event("reply", event="never", timeout=datetime.timedelta(seconds=1)) is None


@on("child", retries=0)
async def child(ctx: inngest.Context) -> object:
    if ctx.event.data.get("fail"):
        raise inngest.NonRetriableError("child says no")
    if ctx.event.data.get("slow"):
        await ctx.step.sleep("slow", datetime.timedelta(seconds=4))
    return {"got": ctx.event.data.get("n")}


@on("parent", retries=0)
async def parent(ctx: inngest.Context) -> object:
    good = await ctx.step.invoke("good", function=child, data={"n": 7})
    errors = []
    for id, data, timeout in (("bad", {"fail": True}, None), ("late", {"slow": True}, datetime.timedelta(seconds=1))):
        try:
            await ctx.step.invoke(id, function=child, data=data, timeout=timeout)
        except inngest.StepError as error:
            errors.append([error.name, error.message])
    return [good, *errors]


@on("side", retries=0)
async def side(ctx: inngest.Context) -> object:
    async def step(name: str) -> str:
        return note(name)

    async def chain(name: str) -> str:
        await ctx.step.run(f"{name}.1", step, f"{name}.1")
        return await ctx.step.run(f"{name}.2", step, f"{name}.2")

    mode = inngest.ParallelMode.RACE if ctx.event.data.get("race") else inngest.ParallelMode.WAIT
    return await ctx.group.parallel((lambda: chain("a"), lambda: chain("b")), parallel_mode=mode)


@on("flaky", retries=2)
async def flaky(ctx: inngest.Context) -> object:
    async def step() -> int:
        note(f"flaky {ctx.attempt}")
        if ctx.attempt < 2:
            raise ValueError("not yet")
        return ctx.attempt

    return await ctx.step.run("flaky", step)


@on("caught", retries=0)
async def caught(ctx: inngest.Context) -> object:
    async def bad() -> None:
        raise ValueError("no luck")

    try:
        await ctx.step.run("bad", bad)
    except inngest.StepError as error:
        message = f"undone after {error.name}: {error.message}"
        return await ctx.step.run("undo", lambda: _async(message))
    return None


async def _async(value: str) -> str:
    return value


@on("uncaught", retries=0)
async def uncaught(ctx: inngest.Context) -> object:
    async def bad() -> None:
        raise ValueError("no luck")

    return await ctx.step.run("bad", bad)


@on("body", retries=1)
async def body(ctx: inngest.Context) -> object:
    note(f"body {ctx.attempt}")
    if ctx.attempt == 0:
        raise inngest.RetryAfterError("later", datetime.timedelta(seconds=1))
    raise inngest.NonRetriableError("never")


@on("hang", retries=0)
async def hang(ctx: inngest.Context) -> object:
    async def step() -> str:
        note("hang begun")
        while not Path(f"{NOTES}-go").exists():  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)
        return note("hang done")

    return await ctx.step.run("hang", step)


@on("big", retries=0)
async def big(ctx: inngest.Context) -> object:
    async def step() -> str:
        return "a" * int(ctx.event.data["bytes"])

    sizes = [len(await ctx.step.run(f"big{n}", step)) for n in range(int(ctx.event.data["steps"]))]
    return sum(sizes)


FUNCTIONS = [row, none, nap, wait, wait_long, child, parent, side, flaky, caught, uncaught, body, hang, big]
app = fastapi.FastAPI()
inngest.fast_api.serve(app, client, FUNCTIONS)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
