"""The same app on Tornado, with the unmodified SDK for Python: APP is its id, PORT where it listens."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

import inngest
import inngest.tornado
import tornado.web

APP = os.environ.get("APP", "tornado")
CLIENT = inngest.Inngest(app_id=APP)


def no() -> None:
    """A step that fails."""
    raise ValueError("no")


@CLIENT.create_function(fn_id="everything", trigger=inngest.TriggerEvent(event=f"{APP}/everything"), retries=0)
def everything(ctx: inngest.ContextSync) -> dict[str, object]:
    """Steps in a row and side by side, a sleep, an error that is caught."""
    one = ctx.step.run("one", lambda: int(str(ctx.event.data["n"])) + 1)
    two, three = ctx.group.parallel(
        (lambda: ctx.step.run("two", lambda: one * 2), lambda: ctx.step.run("three", lambda: {"is": one}))
    )
    ctx.step.sleep("rest", timedelta(milliseconds=50))
    try:
        ctx.step.run("refuse", no)
    except inngest.StepError as error:
        caught = error.message
    return {"one": one, "two": two, "three": three, "caught": caught}


async def main() -> None:
    """Serve until the end of the process."""
    app = tornado.web.Application()
    inngest.tornado.serve(app, CLIENT, [everything])
    app.listen(int(os.environ["PORT"]), "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
