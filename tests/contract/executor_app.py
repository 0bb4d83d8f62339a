"""The functions that the executor suite runs, importable by child processes. What they did is noted in a file."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from millstream import App, Context, NonRetriableError, Retry, RetryAfterError, StepError, SyncContext, current

app = App("suite")


def note(ctx: Any, line: str) -> str:
    """A line outside of the engine: what user code really did."""
    with Path(ctx.event.data["notes"]).open("a") as file:
        file.write(f"{line}\n")
    return line


@app.function(on="row")
async def row(ctx: Context) -> list[str]:
    async def step(name: str) -> str:
        return note(ctx, name)

    return [await ctx.step.run(name, step, name) for name in ("a", "b", "c")]


@app.function(on="side")
async def side(ctx: Context) -> list[int]:
    async def slow(n: int) -> int:
        await asyncio.sleep(0.05)
        return n

    gathered = await asyncio.gather(*(ctx.step.run("one", slow, n) for n in range(5)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ctx.step.run("two", slow, n)) for n in range(5)]
    return [*gathered, *(task.result() for task in tasks)]


@app.function(on="many")
async def many(ctx: Context) -> int:
    return sum(await asyncio.gather(*(ctx.step.run("n", lambda: 1) for _ in range(200))))


@app.function(on="flaky", retries=3)
async def flaky(ctx: Context) -> int:
    async def step() -> int:
        note(ctx, f"{current().attempt} {current().idempotency_key}")
        if current().attempt < 2:
            raise ValueError("not yet")
        return current().attempt

    return await ctx.step.run("flaky", step)


@app.function(on="retrying", retries=0)
async def retrying(ctx: Context) -> list[object]:
    async def step(error: type[Exception]) -> int:
        note(ctx, f"{current().step} {current().attempt}")
        if current().attempt < 2:
            raise error("not yet")
        return current().attempt

    steps = ctx.step.retrying(Retry(attempts=3, on=OSError, not_on=FileNotFoundError))
    results: list[object] = [await steps.run("resets", step, ConnectionResetError)]
    for id, error in (("missing", FileNotFoundError), ("wrong", ValueError)):
        try:
            await steps.run(id, step, error)
        except StepError as failed:
            results.append(failed.name)
    return results


@app.function(on="compensate", retries=1)
async def compensate(ctx: Context) -> list[str]:
    def bad() -> None:
        raise ValueError("bad failed")

    try:
        await ctx.step.run("bad", bad)
    except StepError as error:
        return [error.name, str(error), error.step, await ctx.step.run("undo", lambda: "undone")]
    return []


@app.function(on="final")
async def final(ctx: Context) -> None:
    def later() -> None:
        note(ctx, str(current().attempt))
        if current().attempt == 0:
            raise RetryAfterError("busy", 1)
        raise NonRetriableError("never")

    await ctx.step.run("later", later)


@app.function(on="body", retries=2)
async def body(ctx: Context) -> str:
    once = await ctx.step.run("once", note, ctx, "once")
    note(ctx, f"attempt {ctx.attempt}")
    if ctx.attempt < 2:
        raise RuntimeError("body")
    return once


@app.function(on="slow", retries=0, step_timeout=0.3)
async def slow(ctx: Context) -> str:
    try:
        await ctx.step.run("hang", asyncio.sleep, 60)
    except StepError as error:
        return error.name
    return "no"


@app.function(on="plain")
def plain(ctx: SyncContext) -> list[object]:
    first = ctx.step.run("first", lambda: 20)
    ctx.step.sleep("nap", 0.05)
    return [first, ctx.step.run("second", lambda: 22), ctx.run_id]


@app.function(on="nap")
async def nap(ctx: Context) -> str:
    try:
        await ctx.step.run("before", note, ctx, "before")
        await ctx.step.sleep("nap", 2)
        return await ctx.step.run("behind", note, ctx, "behind")
    finally:
        note(ctx, "finally")


@app.function(on="changing", retries=0)
async def changing(ctx: Context) -> None:
    code = Path(ctx.event.data["notes"] + "-code")  # What it says is the version of the code; none: the first.
    name = "new" if code.exists() and code.read_text() == "changed" else "old"
    await ctx.step.run(name, note, ctx, name)
    await ctx.step.sleep("nap", 0.5)
    if not code.exists():
        await asyncio.sleep(3_600)  # However long the nap has been over: the first code comes to no end.


@app.function(on="leave", retries=0)
async def leave(ctx: Context) -> str:
    """A task of its own calls ``sys.exit``; ``how`` it is waited for."""

    async def go() -> None:
        sys.exit("gone")

    async def wait(how: str) -> str:
        match how:
            case "await":
                await asyncio.create_task(go())
            case "gather":
                await asyncio.gather(go(), asyncio.sleep(0))
            case "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(go())
            case "timeout":
                await asyncio.wait_for(go(), 60)
            case "nobody":
                await asyncio.wait([asyncio.create_task(go())])
        return how

    where, how = ctx.event.data["where"], ctx.event.data["how"]
    return await wait(how) if where == "body" else await ctx.step.run("wait", wait, how)


@app.function(on="long")
async def long(ctx: Context) -> None:
    async def step(name: str) -> None:
        note(ctx, f"{name} begun")
        try:
            await asyncio.sleep(3_600)
        finally:
            note(ctx, f"{name} stopped")

    await asyncio.gather(ctx.step.run("x", step, "x"), ctx.step.run("y", step, "y"))


@app.function(on="uneven")
async def uneven(ctx: Context) -> None:
    async def step(name: str, length_s: float) -> None:
        note(ctx, f"{name} begun")
        await asyncio.sleep(length_s)

    await asyncio.gather(ctx.step.run("short", step, "short", 0.5), ctx.step.run("long", step, "long", 3_600))


@app.function(on="behind")
async def behind(ctx: Context) -> list[object]:
    async def beside() -> object:
        await asyncio.sleep(2.5)  # The answer is delayed for 1 to 1.5 s; the other two steps end a while after this.
        return await ctx.step.run("late", note, ctx, "late")

    async def after_late() -> None:
        while not Path(ctx.event.data["notes"]).exists():  # noqa: ASYNC110 - perhaps of another process
            await asyncio.sleep(0.05)

    return await asyncio.gather(ctx.step.sleep("nap", 4), beside(), ctx.step.run("x", after_late))


@app.function(on="foreign")
async def foreign(ctx: Context) -> None:
    await asyncio.sleep(3_600)  # Between steps: no code of a step runs.


@app.function(on="large")
async def large(ctx: Context) -> int:
    async def text() -> str:
        return "x" * 3_000_000

    return len(await ctx.step.run("first", text)) + len(await ctx.step.run("second", text))


# --- for children only ------------------------------------------------------------------------


@app.function(on="die", retries=0)
async def die(ctx: Context) -> str:
    async def deadly() -> str:
        notes = Path(ctx.event.data["notes"])
        if (notes.read_text() if notes.exists() else "").count("died") < ctx.event.data["times"]:
            note(ctx, "died")
            os._exit(3)
        return note(ctx, "survived")

    return await ctx.step.run("deadly", deadly)


@app.function(on="process")
async def process(ctx: Context) -> list[int]:
    async def pid() -> int:
        return os.getpid()

    first = await ctx.step.run("first", pid)
    await asyncio.gather(ctx.step.run("a", pid), ctx.step.run("b", pid))
    await ctx.step.sleep("nap", 0.1)
    return [first, await ctx.step.run("last", pid)]


@app.function(on="burn")
async def burn(ctx: Context) -> int:
    """Computes until it is told that it is enough."""
    enough = Path(ctx.event.data["notes"] + "-enough")

    async def step() -> int:
        note(ctx, "burning")
        n = 0
        while not enough.exists():
            n += 1
        return n

    return await ctx.step.run("burn", step)


@app.function(on="block", retries=0, step_timeout=1)
async def block(ctx: Context) -> str:
    async def step() -> str:
        if not Path(ctx.event.data["notes"] + "-survive").exists():
            note(ctx, "blocking")
            time.sleep(3_600)  # noqa: ASYNC251 - what a step must not do
        return "through"

    return await ctx.step.run("block", step)


@app.function(on="brief", step_timeout=2)
async def brief(ctx: Context) -> int:
    async def compute() -> int:
        note(ctx, "computing")
        ends = time.monotonic() + 0.4
        while time.monotonic() < ends:
            pass
        return 1

    return sum(await asyncio.gather(*(ctx.step.run("n", compute) for _ in range(8))))


@app.function(on="environ")
async def environ(ctx: Context) -> str:
    return os.environ.get("SUITE_TOLD", "")


@app.function(on="logs")
async def logs(ctx: Context) -> None:
    ctx.logger.warning("heard in step of %s", ctx.run_id)
