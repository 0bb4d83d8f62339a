"""The functions that the cases run: one app, one function a promise. Names say what each is for."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from millstream import (
    App,
    Concurrency,
    Context,
    Event,
    NonRetriableError,
    Retry,
    RetryAfterError,
    StepError,
    SyncContext,
    Table,
    Topic,
    current,
)

app = App("cases")
SOON = Table(["50ms"])
NOTES = Path(os.environ.get("CASES_NOTES", "/dev/null"))


def note(text: str) -> None:
    """A line outside the product: what user code really did."""
    with NOTES.open("a") as file:
        file.write(text + "\n")


async def add(a: int, b: int) -> int:
    return a + b


@app.function(on="cases/sequence")
async def sequence(ctx: Context) -> dict[str, int]:
    one = await ctx.step.run("one", add, 1, 1)
    two = await ctx.step.run("two", add, one, 1)
    return {"sum": await ctx.step.run("three", add, two, 1)}


@app.function(on="cases/narrow", concurrency=Concurrency(1, per="run"))
async def narrow(ctx: Context) -> None:
    await ctx.step.sleep("long", "1d")


@app.function(on="cases/loop")
async def loop(ctx: Context) -> list[int]:
    return [await ctx.step.run("again", add, n, 1) for n in range(5)]


MEETINGS: dict[str, asyncio.Barrier] = {}


async def meet(run: str) -> None:
    """Ends once four of a run have begun: one after another they never would."""
    async with asyncio.timeout(30):
        await MEETINGS.setdefault(run, asyncio.Barrier(4)).wait()


@app.function(on="cases/parallel", retries=0)
async def parallel(ctx: Context) -> int:
    await asyncio.gather(*(ctx.step.run(f"branch-{n}", meet, ctx.run_id) for n in range(4)))
    async with asyncio.TaskGroup() as group:
        a = group.create_task(ctx.step.run("group-a", add, 1, 2))
        b = group.create_task(ctx.step.run("group-b", add, 3, 4))
    return a.result() + b.result()


@app.function(on="cases/plain")
def plain(ctx: SyncContext) -> int:
    first = ctx.step.run("first", lambda: 20)
    return first + ctx.step.run("second", lambda: 22)


def fails_until(limit: int) -> int:
    attempt = current().attempt
    if attempt < limit:
        raise ValueError(f"attempt {attempt} fails")
    return attempt


@app.function(on="cases/retry", retries=3, backoff=SOON)
async def retry(ctx: Context) -> int:
    return await ctx.step.run("flaky", fails_until, 2)


def refused_once(path: str) -> int:
    if current().attempt == 0:
        raise ConnectionRefusedError(path)
    raise FileNotFoundError(path)


@app.function(on="cases/retrying", retries=0)
async def retrying(ctx: Context) -> list[object]:
    patient = Retry(attempts=3, backoff=SOON)
    choosy = Retry(attempts=9, backoff=SOON, on=OSError, not_on=FileNotFoundError)
    first = await ctx.step.retrying(patient).run("patient", fails_until, 2)
    try:
        await ctx.step.retrying(choosy).run("choosy", refused_once, "/nowhere")
    except StepError as error:
        return [first, error.name]
    return [first]


async def tell(ctx: Context) -> None:
    note(f"failure-handler {ctx.event.data['function_id']} {ctx.event.data['error']['message']}")


def fails_while_closed(run: str) -> str:
    if not Path(f"{NOTES}-opened").exists():
        raise ConnectionError("closed")
    return f"paid by {run}"


@app.function(on="cases/held", retries=1, backoff=SOON, on_exhausted="hold", on_failure=tell)
async def held(ctx: Context) -> str:
    await ctx.step.run("before", lambda: note(f"before {ctx.run_id}"))
    try:
        return await ctx.step.run("ask", fails_while_closed, ctx.run_id)
    except StepError as error:
        if ctx.event.data.get("caught"):
            return f"without: {error}"
        raise


@app.function(on="cases/exhausted", retries=1, backoff=SOON)
async def exhausted(ctx: Context) -> str:
    try:
        await ctx.step.run("hopeless", fails_until, 99)
    except StepError as error:
        caught = f"caught {error.name}: {error}"
    return await ctx.step.run("compensate", lambda: caught)


@app.function(on="cases/uncaught", retries=0, on_failure=tell)
async def uncaught(ctx: Context) -> None:
    await ctx.step.run("hopeless", fails_until, 99)


def never() -> None:
    raise NonRetriableError("there is no such order")


@app.function(on="cases/non-retriable", retries=5, backoff=SOON)
async def non_retriable(ctx: Context) -> None:
    await ctx.step.run("never", never)


def later() -> str:
    if current().attempt == 0:
        raise RetryAfterError("busy", 1)
    return "ok"


@app.function(on="cases/retry-after")
async def retry_after(ctx: Context) -> str:
    return await ctx.step.run("later", later)


@app.function(on="cases/body-fails", retries=2, backoff=SOON)
async def body_fails(ctx: Context) -> int:
    await ctx.step.run("before", lambda: note(f"before {ctx.run_id}"))
    if ctx.attempt < 2:
        raise RuntimeError("the body fails")
    return ctx.attempt


@app.function(on="cases/sleep")
async def sleep(ctx: Context) -> str:
    await ctx.step.sleep("nap", "1s")
    return "awake"


@app.function(on="cases/long-sleep")
async def long_sleep(ctx: Context) -> str:
    before = await ctx.step.run("before", lambda: note(f"slept {ctx.run_id}") or "kept")
    await ctx.step.sleep("night", "3s")
    return before


@app.function(on="cases/send")
async def send(ctx: Context) -> list[str]:
    return await ctx.step.send_event("pass-on", [Event("cases/passed", {"n": n}) for n in range(3)])


@app.function(on="cases/passed")
async def passed(ctx: Context) -> int:
    return int(ctx.event.data["n"])


@app.function(on="cases/publish")
async def publish(ctx: Context) -> None:
    await ctx.step.publish("out", "cases-out", b"key", b"value")


@app.function(on="cases/wild/*")
async def wild(ctx: Context) -> str:
    return ctx.event.name


@app.function(on="cases/if", if_="event.data.amount > 100 && event.data.country == 'FR'")
async def only_if(ctx: Context) -> float:
    return float(ctx.event.data["amount"])


@app.function(on=["cases/both", "cases/both/*"], name="Both")
async def both(ctx: Context) -> None:
    pass


@app.function(cron="@every 1s")
async def tick(ctx: Context) -> str:
    return str(ctx.event.data["cron"])


async def forever() -> None:
    note(f"begun {current().run_id}")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        note(f"told {current().run_id}")
        raise


@app.function(on="cases/forever")
async def endless(ctx: Context) -> None:
    await ctx.step.run("forever", forever)


@app.function(on="cases/timeout", retries=0, step_timeout="1s")
async def too_slow(ctx: Context) -> None:
    await ctx.step.run("forever", forever)


@app.function(on="cases/unserialisable", retries=0)
async def unserialisable(ctx: Context) -> None:
    await ctx.step.run("object", lambda: {"items": [1, {"bad": object()}]})


@app.function(on="cases/many-steps", retries=0)
async def many_steps(ctx: Context) -> None:
    for n in range(1_001):
        await ctx.step.run(f"step-{n}", add, n, 1)


@app.function()
async def on_demand(ctx: Context) -> dict[str, object]:
    return {"got": dict(ctx.event.data)}


@app.function(on="cases/chdir")
async def move_away(ctx: Context) -> None:
    await ctx.step.run("chdir", os.chdir, "/")


def leave_a_fork(length_s: float) -> int:
    child = os.fork()
    if not child:
        time.sleep(length_s)
        os._exit(0)
    note(f"forked {child}")
    return child


@app.function(on="cases/fork")
async def forking(ctx: Context) -> int:
    return await ctx.step.run("fork", leave_a_fork, float(ctx.event.data["length_s"]))


async def compute(length_s: float) -> int:
    """Computes for so long, or until it is told that it is enough."""
    note(f"computing {os.getpid()}")
    enough = Path(f"{NOTES}-enough")
    ends, n = time.monotonic() + length_s, 0
    while time.monotonic() < ends and not enough.exists():
        n += 1
    return n


@app.function(on="cases/compute")
async def computing(ctx: Context) -> int:
    return await ctx.step.run("compute", compute, float(ctx.event.data["length_s"]))


async def work_once_interrupted(run: str) -> int:
    before = NOTES.read_text().count(f"working {run}")
    note(f"working {run} {os.getpid()}")
    if not before:
        await asyncio.sleep(3600)
    return os.getpid()


@app.function(on="cases/interrupted")
async def interrupted(ctx: Context) -> list[int]:
    before = await ctx.step.run("before", lambda: note(f"before {ctx.run_id}") or os.getpid())
    return [before, await ctx.step.run("work", work_once_interrupted, ctx.run_id)]


@app.function(on="cases/produce")
async def produce(ctx: Context) -> None:
    for n in range(ctx.event.data["records"]):
        await ctx.step.publish("record", "cases.foreign", "k", {"n": n})


@app.function(on=Topic("cases.foreign", since="earliest", name="foreign/record"), if_="event.data.n > 0")
async def consume(ctx: Context) -> dict[str, object]:
    return {"name": ctx.event.name, "n": ctx.event.data["n"]}


@app.function(on="cases/signal")
async def signalled(ctx: Context) -> object:
    return await ctx.step.wait_for_signal("decision", ctx.event.data["signal"], timeout="1h")


@app.function()
async def double(ctx: Context) -> int:
    await ctx.step.sleep("think", "200ms")
    if ctx.event.data["n"] < 0:
        raise NonRetriableError("n must not be negative")
    return int(ctx.event.data["n"]) * 2


@app.function(on="cases/parent")
async def parent(ctx: Context) -> int:
    return 1 + await ctx.step.invoke("child", double, data={"n": ctx.event.data["n"]})


@app.function(on="cases/approval")
async def approval(ctx: Context) -> dict[str, object]:
    made = await ctx.step.callback("approve", timeout=ctx.event.data.get("timeout", "1h"))
    await ctx.step.run("ask", note, f"{ctx.run_id} {made.url}")
    await ctx.step.sleep("think", ctx.event.data.get("think", "0s"))
    return {"answer": await made.result(), "id": made.id}


@app.function(on="cases/plain-approval")
def plain_approval(ctx: SyncContext) -> object:
    made = ctx.step.callback("approve", timeout="1h")
    ctx.step.run("ask", note, f"{ctx.run_id} {made.url}")
    return made.result()
