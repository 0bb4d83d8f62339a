"""Functions that go well: steps, sleeps, waits, invocations, events. The same ones are in `../node/plain.cjs`."""

from __future__ import annotations

import datetime
from typing import Any

import inngest
from inngest.experimental import ai

from tests.sdk.hosts.python.host import APP, OUTSIDE, Host, did, now

LARGE_CHARS = 1_500_000


def add_plain(host: Host) -> None:
    """Steps, sleeps and waits, and what follows from their events."""

    @host.function("hello", retries=2)
    async def hello(ctx: Any) -> Any:
        return "done"

    @host.function("three-steps")
    async def three_steps(ctx: Any) -> Any:
        n = ctx.event.data["n"]
        one = await now(ctx.step.run("one", lambda: did(ctx, "one", n + 1)))
        two = await now(ctx.step.run("two", lambda: did(ctx, "two", one * 2)))
        three = await now(ctx.step.run("three", lambda: did(ctx, "three", {"is": two})))
        return {"one": one, "two": two, "three": three}

    @host.function("returns")
    async def returns(ctx: Any) -> Any:
        step = await now(ctx.step.run("value", lambda: ctx.event.data["value"]))
        return {"step": step, "event": ctx.event.data["value"]}

    @host.function("returns-it")
    async def returns_it(ctx: Any) -> Any:
        return ctx.event.data["value"]

    @host.function("same-id")
    async def same_id(ctx: Any) -> Any:
        return [await now(ctx.step.run("again", lambda i=i: did(ctx, f"again {i}", i))) for i in range(3)]

    @host.function("sleep")
    async def sleep(ctx: Any) -> Any:
        await now(ctx.step.run("before", lambda: did(ctx, "before")))
        await now(ctx.step.sleep("nap", datetime.timedelta(seconds=1)))
        await now(ctx.step.run("between", lambda: did(ctx, "between")))
        until = datetime.datetime.fromtimestamp(ctx.event.data["until"], datetime.UTC)
        await now(ctx.step.sleep_until("until", until))
        await now(ctx.step.run("after", lambda: did(ctx, "after")))
        return "awake"

    @host.function("wait")
    async def wait(ctx: Any) -> Any:
        answer = await now(
            ctx.step.wait_for_event(
                "answer",
                event=f"{APP}/answer",
                if_exp="event.data.id == async.data.id",
                timeout=ctx.event.data["timeout_ms"],
            )
        )
        text = await now(ctx.step.run("read", lambda: did(ctx, "read", answer and answer.data["text"])))
        return {"answer": text}

    @host.function("parallel")
    async def parallel(ctx: Any) -> Any:
        async def chain(name: str) -> Any:
            first = await now(ctx.step.run(f"{name}.1", lambda: did(ctx, f"{name}.1", name)))
            return await now(ctx.step.run(f"{name}.2", lambda: did(ctx, f"{name}.2", first * 2)))

        mode = inngest.ParallelMode.RACE if ctx.event.data["mode"] == "race" else inngest.ParallelMode.WAIT
        chains = tuple(host.callback(chain, name) for name in "ab")
        return list(await now(ctx.group.parallel(chains, mode)))

    @host.function("large")
    async def large(ctx: Any) -> Any:
        texts = [await now(ctx.step.run(f"{i}", lambda i=i: did(ctx, f"{i}", f"{i}" * LARGE_CHARS))) for i in range(3)]
        return {"lengths": [len(text) for text in texts], "firsts": [text[0] for text in texts]}

    @host.function("send-event")
    async def send_event(ctx: Any) -> Any:
        events = [inngest.Event(name=f"{APP}/told", data={"n": n, "by": ctx.run_id}) for n in (1, 2)]
        return await now(ctx.step.send_event("tell", events))

    @host.function("told")
    async def told(ctx: Any) -> Any:
        return did(ctx, "told", ctx.event.data["n"], by=ctx.event.data["by"])

    @host.function("batch", batch_events=inngest.Batch(max_size=3, timeout=60_000))
    async def batch(ctx: Any) -> Any:
        return sorted(event.data["n"] for event in ctx.events)

    @host.function("batch-late", batch_events=inngest.Batch(max_size=100, timeout=1_000))
    async def batch_late(ctx: Any) -> Any:
        return sorted(event.data["n"] for event in ctx.events)

    @host.function("tick", trigger=inngest.TriggerCron(cron="* * * * *"))
    async def tick(ctx: Any) -> Any:
        return did(ctx, "tick", ctx.event.name)

    @host.function("infer")
    async def infer(ctx: Any) -> Any:
        adapter = ai.openai.Adapter(auth_key="a-secret", model="a-model", base_url=f"{OUTSIDE}/v1")
        body = {"messages": [{"role": "user", "content": ctx.event.data["text"]}]}
        answer: Any = await now(ctx.step.ai.infer("ask", adapter=adapter, body=body))
        return answer["choices"][0]["message"]["content"]


def add_invoking(host: Host) -> None:
    """A parent and the children that it invokes."""

    @host.function("child")
    async def child(ctx: Any) -> Any:
        return {"doubled": await now(ctx.step.run("double", lambda: did(ctx, "double", ctx.event.data["n"] * 2)))}

    @host.function("child-fails")
    async def child_fails(ctx: Any) -> Any:
        raise inngest.NonRetriableError("the child cannot")

    @host.function("child-sleeps")
    async def child_sleeps(ctx: Any) -> Any:
        await now(ctx.step.sleep("long", datetime.timedelta(hours=1)))

    children = {"child": child, "child-fails": child_fails, "child-sleeps": child_sleeps}

    @host.function("invoke")
    async def invoke(ctx: Any) -> Any:
        data = ctx.event.data
        given = {"function": children[data["child"]], "data": {"n": data["n"]}, "timeout": data.get("timeout_ms")}
        if not data.get("catch"):
            return {"child": await now(ctx.step.invoke("child", **given))}
        try:
            await now(ctx.step.invoke("child", **given))
        except inngest.StepError as error:
            return {"name": error.name, "message": error.message}
        return "nothing was caught"
