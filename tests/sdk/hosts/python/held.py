"""Functions that stand in a step of each kind until a test frees them. Same names and results as in `../node/held.cjs`.

Each has a step before and one after: `first`, which is recorded when the function stands, and `last`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import inngest
from inngest.experimental import ai

from tests.sdk.hosts.python.host import APP, OUTSIDE, Body, Host, did, now
from tests.sdk.hosts.python.plain import LARGE_CHARS


def add_held(host: Host) -> None:
    """What stands in the app, at another service, or in the engine."""
    _add_timed(host, _between(host))
    _add_awaiting(host, _between(host))
    _add_working(host, _between(host))
    _add_outside(_between(host))


def _between(host: Host) -> Callable[..., Callable[[Body], Any]]:
    def held(kind: str, **options: Any) -> Callable[[Body], Any]:
        def served(body: Body) -> Any:
            async def whole(ctx: Any) -> Any:
                await now(ctx.step.run("first", lambda: did(ctx, "first")))
                result = await body(ctx)
                await now(ctx.step.run("last", lambda: did(ctx, "last")))
                return result

            return host.function(f"held-{kind}", **options)(whole)

        return served

    return held


def _add_timed(host: Host, held: Callable[..., Callable[[Body], Any]]) -> None:
    def until(ctx: Any) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(ctx.event.data["until"], datetime.UTC)

    @held("sleep")
    async def sleep(ctx: Any) -> Any:
        await now(ctx.step.sleep_until("nap", until(ctx)))
        return "awake"

    @held("retry")
    async def retry(ctx: Any) -> Any:
        def bursts() -> Any:
            did(ctx, f"attempt {ctx.attempt}")
            if ctx.attempt == 0:
                raise inngest.RetryAfterError("not yet", until(ctx))
            return "mended"

        return await now(ctx.step.run("bursts", bursts))


def _add_awaiting(host: Host, held: Callable[..., Callable[[Body], Any]]) -> None:
    @held("wait")
    async def wait(ctx: Any) -> Any:
        found = "event.data.id == async.data.id"
        given = {"event": f"{APP}/held-answer", "if_exp": found, "timeout": 3_600_000}
        return (await now(ctx.step.wait_for_event("answer", **given))).data["text"]

    @host.function("held-child")
    async def child(ctx: Any) -> Any:
        return await now(ctx.step.run("held", host.gate(ctx, "held")))

    @held("invoke")
    async def invoke(ctx: Any) -> Any:
        return await now(ctx.step.invoke("child", function=child, data=dict(ctx.event.data)))

    @held("batch", batch_events=inngest.Batch(max_size=2, timeout=3_600_000, key="event.data.id"))
    async def batch(ctx: Any) -> Any:
        await now(ctx.step.run("held", host.gate(ctx, "held")))
        return sorted(event.data["n"] for event in ctx.events)

    @held("collecting", batch_events=inngest.Batch(max_size=2, timeout=3_600_000, key="event.data.id"))
    async def collecting(ctx: Any) -> Any:
        return sorted(event.data["n"] for event in ctx.events)


def _add_working(host: Host, held: Callable[..., Callable[[Body], Any]]) -> None:
    @held("run")
    async def run(ctx: Any) -> Any:
        return await now(ctx.step.run("held", host.gate(ctx, "held")))

    def parallel(mode: inngest.ParallelMode) -> Body:
        async def both(ctx: Any) -> Any:
            async def quick(name: str) -> Any:
                await now(ctx.step.run(f"{name}.1", lambda: did(ctx, f"{name}.1")))
                return await now(ctx.step.run(f"{name}.2", lambda: did(ctx, f"{name}.2", "quick")))

            async def slow(name: str) -> Any:
                return await now(ctx.step.run(name, host.gate(ctx, "held")))

            chains = (host.callback(quick, "a"), host.callback(slow, "b"))
            return list(await now(ctx.group.parallel(chains, mode)))

        return both

    held("joint")(parallel(inngest.ParallelMode.WAIT))
    held("race")(parallel(inngest.ParallelMode.RACE))

    @held("large")
    async def large(ctx: Any) -> Any:
        for i in range(3):
            await now(ctx.step.run(f"{i}", lambda i=i: did(ctx, f"{i}", f"{i}" * LARGE_CHARS)))
        return await now(ctx.step.run("held", host.gate(ctx, "held")))

    async def on_failure(ctx: Any) -> Any:
        of = ctx.event.data["run_id"]
        await now(ctx.step.run("begin", lambda: did(ctx, "handler begins", of=of)))
        await now(ctx.step.run("held", host.gate(ctx, "held", ctx.event.data["event"]["data"]["gate"])))
        await now(ctx.step.run("end", lambda: did(ctx, "handler ends", of=of)))

    @held("failure", retries=0, on_failure=on_failure)
    async def failure(ctx: Any) -> Any:
        raise ValueError("it burst")


def _add_outside(held: Callable[..., Callable[[Body], Any]]) -> None:
    @held("send")
    async def send(ctx: Any) -> Any:
        return await now(
            ctx.step.send_event("tell", inngest.Event(name=f"{APP}/told", data={"n": 1, "by": ctx.run_id}))
        )

    @held("infer")
    async def infer(ctx: Any) -> Any:
        adapter = ai.openai.Adapter(auth_key="a-secret", model="a-model", base_url=f"{OUTSIDE}/v1")
        body = {"messages": [{"role": "user", "content": ctx.run_id}]}
        answer: Any = await now(ctx.step.ai.infer("ask", adapter=adapter, body=body))
        return answer["choices"][0]["message"]["content"]
