"""Functions that fail, are retried or are cancelled. Same names and results as in `../node/failing.cjs`."""

from __future__ import annotations

import datetime
from typing import Any

import inngest

from tests.sdk.hosts.python.host import APP, Host, did, now


def add_failing(host: Host) -> None:
    """Errors of steps and bodies."""

    @host.function("step-retry")
    async def step_retry(ctx: Any) -> Any:
        def shaky() -> Any:
            did(ctx, "shaky")
            if ctx.attempt < 2:
                raise ValueError(f"attempt {ctx.attempt} burst")
            return ctx.attempt

        await now(ctx.step.run("before", lambda: did(ctx, "before")))
        attempt = await now(ctx.step.run("shaky", shaky))
        return {"attempt": attempt, "after": await now(ctx.step.run("after", lambda: did(ctx, "after", ctx.attempt)))}

    @host.function("body-retry")
    async def body_retry(ctx: Any) -> Any:
        await now(ctx.step.run("before", lambda: did(ctx, "before")))
        if ctx.attempt < 2:
            raise ValueError(f"attempt {ctx.attempt} burst")
        return ctx.attempt

    async def on_failure(ctx: Any) -> Any:
        data = ctx.event.data
        seen = {"of": data["run_id"], "function": data["function_id"], "message": data["error"]["message"]}
        await now(ctx.step.run("tell", lambda: did(ctx, "on-failure", **seen, event=data["event"]["data"])))

    @host.function("fails", retries=1, on_failure=on_failure)
    async def fails(ctx: Any) -> Any:
        def bursts() -> Any:
            did(ctx, "bursts")
            raise ValueError("it burst")

        if not ctx.event.data.get("catch"):
            return await now(ctx.step.run("bursts", bursts))
        try:
            await now(ctx.step.run("bursts", bursts))
        except inngest.StepError as error:
            caught = {"name": error.name, "message": error.message}
            return await now(ctx.step.run("mend", lambda: did(ctx, "mend", caught)))

    @host.function("non-retriable")
    async def non_retriable(ctx: Any) -> Any:
        def bursts() -> Any:
            did(ctx, "bursts")
            raise inngest.NonRetriableError("never again")

        await now(ctx.step.run("bursts", bursts))

    @host.function("retry-after")
    async def retry_after(ctx: Any) -> Any:
        def later() -> Any:
            did(ctx, "later")
            if ctx.attempt == 0:
                raise inngest.RetryAfterError("not yet", datetime.timedelta(seconds=2))
            return ctx.attempt

        return await now(ctx.step.run("later", later))


def add_ending(host: Host) -> None:
    """A run that is cancelled, killed or timed out, and functions that hear of ends."""

    @host.function("hold", cancel=[inngest.Cancel(event=f"{APP}/stop", if_exp="event.data.id == async.data.id")])
    async def hold(ctx: Any) -> Any:
        await now(ctx.step.run("first", lambda: did(ctx, "first")))
        held = await now(ctx.step.run("held", host.gate(ctx, "held")))
        await now(ctx.step.run("last", lambda: did(ctx, "last")))
        return {"held": held}

    @host.function("hold-asleep", cancel=[inngest.Cancel(event=f"{APP}/stop", if_exp="event.data.id == async.data.id")])
    async def hold_asleep(ctx: Any) -> Any:
        await now(ctx.step.sleep("long", datetime.timedelta(hours=1)))

    @host.function("times-out", timeouts=inngest.Timeouts(finish=datetime.timedelta(seconds=1)))
    async def times_out(ctx: Any) -> Any:
        await now(ctx.step.sleep("long", datetime.timedelta(hours=1)))

    def heard(name: str, of: str) -> None:
        trigger = inngest.TriggerEvent(
            event=f"inngest/function.{name}", expression=f"event.data.function_id == '{APP}-{of}'"
        )

        @host.function(f"on-{name}", trigger=trigger)
        async def hear(ctx: Any) -> Any:
            did(ctx, f"heard {name}", of=ctx.event.data["run_id"], data=ctx.event.data)

    heard("finished", of="three-steps")
    heard("failed", of="fails")
    heard("cancelled", of="hold-asleep")
