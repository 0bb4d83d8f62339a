"""What the functions of a Python app know of their test: its names, the ledger, and gates.

A body is written once, as a coroutine. FastAPI serves it as it is. Flask and Django serve it as a plain function: there
no step of the SDK is awaited, so that the coroutine ends without ever giving way.

    APP     the app's id, which is also in front of its events' names
    LEDGER  a file to which each step that really executes appends a line
    GATES   a folder; a step that waits for a gate goes on once there is a file of its name
    OUTSIDE the address of an HTTP server beside the app
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import inngest

T = TypeVar("T")
APP = os.environ.get("APP", "sdk")
OUTSIDE = os.environ.get("OUTSIDE", "")
GATE_LOOKED_AT_S = 0.02
Body = Callable[[Any], Coroutine[Any, Any, Any]]


class Host:
    """An app: ``functions`` are served; ``waits`` says whether steps are coroutines here."""

    def __init__(self, middleware: list[Any], *, waits: bool) -> None:
        self.waits = waits
        logger, version = logging.getLogger("app"), os.environ.get("VERSION")
        self.client = inngest.Inngest(app_id=APP, logger=logger, app_version=version, middleware=middleware)
        self.functions: list[inngest.Function[Any]] = []

    def function(self, id: str, **options: Any) -> Callable[[Body], inngest.Function[Any]]:
        """Serve a body, which starts on the event of its name unless a ``trigger`` is given."""
        options.setdefault("trigger", inngest.TriggerEvent(event=f"{APP}/{id}"))
        options.setdefault("retries", 4)
        if "on_failure" in options:
            options["on_failure"] = self._served(options["on_failure"])

        def serve(body: Body) -> inngest.Function[Any]:
            made = self.client.create_function(fn_id=id, **options)(self._served(body))
            self.functions.append(made)
            return made

        return serve

    def _served(self, body: Body) -> Any:
        async def waits(ctx: inngest.Context) -> Any:
            did(ctx, "call")
            return await body(ctx)

        def ends_at_once(ctx: inngest.ContextSync) -> Any:
            did(ctx, "call")
            return at_once(body(ctx))

        return waits if self.waits else ends_at_once

    def callback(self, body: Body, argument: Any) -> Callable[[], Any]:
        """What the SDK's ``group.parallel`` takes: a coroutine function, or a plain one."""
        return (lambda: body(argument)) if self.waits else (lambda: at_once(body(argument)))

    def gate(self, ctx: Any, what: str, name: str = "") -> Callable[[], Any]:
        """A step that begins, waits until the gate, that of the event, is open, and ends."""
        gate = Path(os.environ["GATES"]) / (name or ctx.event.data["gate"])

        async def waits() -> str:
            did(ctx, f"{what} begins")
            while not gate.exists():  # noqa: ASYNC110 - a file of another process
                await asyncio.sleep(GATE_LOOKED_AT_S)
            return str(did(ctx, what, "open"))

        def blocks() -> str:
            did(ctx, f"{what} begins")
            while not gate.exists():
                time.sleep(GATE_LOOKED_AT_S)
            return str(did(ctx, what, "open"))

        return waits if self.waits else blocks


def at_once(running: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that awaits nothing; its result."""
    try:
        running.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("a plain function cannot wait")


async def now(value: Awaitable[T] | T) -> T:
    """A step's result, whether the SDK gives it or a coroutine of it."""
    if inspect.isawaitable(value):
        return await value
    return value


def did(ctx: Any, what: str, result: T | None = None, **more: Any) -> T | None:
    """Append to the ledger that this executed; the result."""
    noted(run=ctx.run_id, what=what, attempt=ctx.attempt, **more)
    return result


def noted(**row: Any) -> None:
    """Append a line to the ledger, of no run unless it says of which."""
    with open(os.environ["LEDGER"], "ab", buffering=0) as ledger:
        ledger.write(json.dumps({"run": "", "at": time.time(), **row}).encode() + b"\n")
