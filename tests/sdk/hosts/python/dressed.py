"""What the SDK does by itself: middleware, encryption, a logger, triggers. Same names as in `../node/dressed.cjs`.

MIDDLEWARE  "yes": the client has a middleware that notes its hooks and changes what goes in and out, and encryption
VERSION     the app's version
"""

from __future__ import annotations

import os
from typing import Any

import inngest

from tests.sdk.hosts.python.host import APP, Host, did, noted, now

SECRET_KEY = "a key of the app"
CHANGED = "changed on the way in"


class Noting(inngest.MiddlewareSync):
    """Notes each hook; an event with `plain` comes in changed, and the function's result goes out in an envelope."""

    def before_execution(self) -> None:
        noted(what="before execution")

    def after_execution(self) -> None:
        noted(what="after execution")

    def before_response(self) -> None:
        noted(what="before response")

    def before_send_events(self, events: list[inngest.Event]) -> None:
        noted(what="before sending", names=[event.name for event in events])

    def after_send_events(self, result: Any) -> None:
        noted(what="after sending", ids=result.ids)

    def transform_input(self, ctx: Any, function: Any, steps: Any) -> None:
        if "plain" in ctx.event.data:
            ctx.event.data = {**ctx.event.data, "plain": CHANGED}

    def transform_output(self, result: Any) -> None:
        if result.step is None and result.has_output():
            result.output = {"envelope": result.output}


def middleware() -> list[Any]:
    """What the client is given."""
    if "MIDDLEWARE" not in os.environ:
        return []
    from inngest_encryption import EncryptionMiddleware

    return [EncryptionMiddleware.factory(SECRET_KEY), Noting]


def add_dressed(host: Host) -> None:
    """Functions of the behaviours."""

    @host.function("changed")
    async def changed(ctx: Any) -> Any:
        return await now(ctx.step.run("see", lambda: did(ctx, "see", ctx.event.data["plain"])))

    @host.function("sees-changed")
    async def sees_changed(ctx: Any) -> Any:
        got = await now(ctx.step.invoke("call", function=changed, data={"plain": "as it was sent"}))
        await now(ctx.step.run("see", lambda: did(ctx, "saw", got=got)))

    @host.function("secret")
    async def secret(ctx: Any) -> Any:
        text = await now(ctx.step.run("make", lambda: did(ctx, "make", f"the secret of {ctx.run_id}")))
        event = inngest.Event(name=f"{APP}/told-secretly", data={"of": ctx.run_id, "encrypted": {"text": text}})
        await now(ctx.step.send_event("tell", event))
        return await now(ctx.step.run("read", lambda: did(ctx, f"read {text}", text)))

    @host.function("told-secretly")
    async def told_secretly(ctx: Any) -> Any:
        did(ctx, "told", of=ctx.event.data["of"], text=ctx.event.data["encrypted"]["text"])

    @host.function("logs")
    async def logs(ctx: Any) -> Any:
        await now(ctx.step.run("first", lambda: did(ctx, "first")))
        ctx.logger.warning(f"{ctx.run_id} says so")

    @host.function("version")
    async def version(ctx: Any) -> Any:
        first = await now(ctx.step.run("first", lambda: did(ctx, "first", os.environ.get("VERSION"))))
        await now(
            ctx.step.wait_for_event("go", event=f"{APP}/go", if_exp="event.data.id == async.data.id", timeout=3_600_000)
        )
        return [first, os.environ.get("VERSION")]

    wildcard = inngest.TriggerEvent(event=f"{APP}/any.*")
    fitting = inngest.TriggerEvent(event=f"{APP}/fitting", expression="event.data.n > 1")

    @host.function("triggers", trigger=[wildcard, fitting])
    async def triggers(ctx: Any) -> Any:
        return ctx.event.name.removeprefix(f"{APP}/")

    @host.function("only-invoked", trigger=[])
    async def only_invoked(ctx: Any) -> Any:
        return ctx.event.data["n"] + 1

    @host.function("invokes")
    async def invokes(ctx: Any) -> Any:
        return await now(ctx.step.invoke("call", function=only_invoked, data={"n": 41}))
