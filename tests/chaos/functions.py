"""The functions the chaos test runs: each step leaves two lines in a ledger that millstream knows nothing of.

A line is one ``write`` to a file opened with O_APPEND: lines of different processes never mix, a kill never cuts one,
and the order of the lines is the order in which things happened. Every step returns a token that is made anew at each
execution, and every later step writes down the tokens it was given: a result that changed after it was recorded shows.

Some functions wait between two steps: for events and signals that the sender sends, for a function that they invoke or
ask. What they waited for is a token, too, which whoever sent it has made: later steps write it down like a result.

Add a function: declare it here, and its layers in ``SHAPES`` (steps of one layer run side by side), what it waits for
also in ``WAITS``.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from typing import Any, Final

import msgspec

from millstream import App, Context, Event, On, SyncContext, Table, current
from millstream.sdk.received import Received

LEDGER_VARIABLE: Final = "CHAOS_LEDGER"
TOLD: Final = "told"
LONG_STEP_S: Final = 0.5

SHAPES: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "sequence": (("one",), ("two",), ("three",)),
    "threaded": (("one",), ("two",)),
    "parallel": (("first",), ("a", "b", "c"), ("after",)),
    "nap": (("before",), ("after",)),
    "flaky": (("shaky",), ("after",)),
    "tell": (("before",), ("after",)),
    "long": (("long",), ("after",)),
    "replied": (("before",), ("answer",), ("after",)),
    "replies": (("before",), ("both",), ("again",), ("after",)),
    "signalled": (("before",), ("go",), ("after",)),
    "calls": (("before",), ("call",), ("after",)),
    "dialog": (("before",), ("reply",), ("after",)),
    TOLD: (("only",),),
    "called": (("only",),),
    "asked": (("only",),),
}
WAITS: Final[dict[str, frozenset[str]]] = {
    "replied": frozenset({"answer"}),
    "replies": frozenset({"both", "again"}),
    "signalled": frozenset({"go"}),
    "calls": frozenset({"call"}),
    "dialog": frozenset({"reply"}),
}
"""Which of the steps in ``SHAPES`` wait, and leave no line."""
STARTED_BY: Final = {TOLD: "tell", "called": "calls", "asked": "dialog"}
"""The functions that a run of another one starts, once each."""
SENT: Final = {
    "sequence": 30, "threaded": 10, "parallel": 15, "nap": 15, "flaky": 10, "tell": 10, "long": 10,
    "replied": 14, "replies": 12, "signalled": 10, "calls": 12, "dialog": 12,
}  # fmt: skip
"""What events ask for from outside, and how often beside the others."""
ANSWERS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "replied": (("chaos/answer",), ("chaos/second",)),
    "replies": (("chaos/answer", "chaos/answer", "chaos/second"),),
}
"""The events that are sent to a run; where there are several such lists: one of them."""
FAILS_ONCE: Final = "shaky"

Tokens = dict[str, str]


class Line(msgspec.Struct, frozen=True):
    """A ledger line. ``given`` are the tokens of earlier steps as this step got them; ``token`` its own, at its end."""

    what: str
    function: str
    event: str
    run: str
    step: str
    attempt: int
    pid: int
    at_ns: int
    given: Tokens
    token: str = ""
    parent: str = ""


class _Ledger:
    """The ledger of this process, opened at the first line."""

    handle: int = -1

    def write(self, line: Line) -> None:
        if self.handle < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self.handle = os.open(os.environ[LEDGER_VARIABLE], flags, 0o644)
        os.write(self.handle, msgspec.json.encode(line) + b"\n")


_LEDGER: Final = _Ledger()
app = App("chaos")


def _note(what: str, of: tuple[str, str, str], given: Tokens, token: str = "") -> None:
    function, event, parent = of
    at = current()
    line = Line(
        what, function, event, at.run_id, at.step, at.attempt, os.getpid(), time.monotonic_ns(), given, token, parent
    )
    _LEDGER.write(line)


async def work(of: tuple[str, str, str], given: Tokens, lasts_s: float = 0.0) -> str:
    """A step: begin, take a while, end with a new token."""
    _note("begin", of, given)
    await asyncio.sleep(lasts_s)
    token = secrets.token_hex(8)
    _note("end", of, given, token)
    return token


def blocking_work(of: tuple[str, str, str], given: Tokens, lasts_s: float = 0.0) -> str:
    """The same in a thread."""
    _note("begin", of, given)
    time.sleep(lasts_s)
    token = secrets.token_hex(8)
    _note("end", of, given, token)
    return token


async def shaky_work(of: tuple[str, str, str], given: Tokens) -> str:
    """Fails at its first attempt."""
    if current().attempt == 0:
        _note("begin", of, given)
        raise OSError("the first attempt always fails")
    return await work(of, given)


def _of(ctx: Context | SyncContext, function: str) -> tuple[str, str, str]:
    return function, ctx.event.id, str(ctx.event.data.get("parent", ""))


@app.function(on="chaos/sequence")
async def sequence(ctx: Context) -> Tokens:
    """Three steps, one after another."""
    of = _of(ctx, "sequence")
    tokens: Tokens = {}
    for step in ("one", "two", "three"):
        tokens[step] = await ctx.step.run(step, work, of, dict(tokens))
    return tokens


@app.function(on="chaos/threaded")
def threaded(ctx: SyncContext) -> Tokens:
    """A plain handler with plain steps: threads."""
    of = _of(ctx, "threaded")
    tokens: Tokens = {}
    for step in ("one", "two"):
        tokens[step] = ctx.step.run(step, blocking_work, of, dict(tokens))
    return tokens


@app.function(on="chaos/parallel")
async def parallel(ctx: Context) -> Tokens:
    """Three steps side by side between two."""
    of = _of(ctx, "parallel")
    tokens = {"first": await ctx.step.run("first", work, of, {})}
    given = dict(tokens)
    found = await asyncio.gather(*(ctx.step.run(step, work, of, given, 0.05) for step in "abc"))
    tokens |= dict(zip("abc", found, strict=True))
    tokens["after"] = await ctx.step.run("after", work, of, dict(tokens))
    return tokens


@app.function(on="chaos/nap")
async def nap(ctx: Context) -> Tokens:
    """A sleep of one to three seconds between two steps."""
    of = _of(ctx, "nap")
    tokens = {"before": await ctx.step.run("before", work, of, {})}
    await ctx.step.sleep("nap", float(ctx.event.data["nap_s"]))
    tokens["after"] = await ctx.step.run("after", work, of, dict(tokens))
    return tokens


@app.function(on="chaos/flaky", retries=3, backoff=Table(["200ms"]))
async def flaky(ctx: Context) -> Tokens:
    """A step that fails once."""
    of = _of(ctx, "flaky")
    tokens = {"shaky": await ctx.step.run("shaky", shaky_work, of, {})}
    tokens["after"] = await ctx.step.run("after", work, of, dict(tokens))
    return tokens


@app.function(on="chaos/tell")
async def tell(ctx: Context) -> Tokens:
    """Sends an event that starts another function."""
    of = _of(ctx, "tell")
    tokens = {"before": await ctx.step.run("before", work, of, {})}
    await ctx.step.send_event("tell", Event(name="chaos/told", data={"parent": ctx.run_id}))
    tokens["after"] = await ctx.step.run("after", work, of, dict(tokens))
    return tokens


@app.function(on="chaos/told")
async def told(ctx: Context) -> Tokens:
    """Started by ``tell``, exactly once each."""
    return {"only": await ctx.step.run("only", work, _of(ctx, TOLD), {})}


@app.function(on="chaos/long")
async def long(ctx: Context) -> Tokens:
    """A step long enough to be killed within, often."""
    of = _of(ctx, "long")
    tokens = {"long": await ctx.step.run("long", blocking_work, of, {}, LONG_STEP_S)}
    tokens["after"] = await ctx.step.run("after", work, of, dict(tokens))
    return tokens


# --- functions that wait: every answer has the ``key`` of the run's own event --------------------


@app.function(on="chaos/replied")
async def replied(ctx: Context) -> Tokens:
    """Waits for one of two events from outside."""
    of = _of(ctx, "replied")
    tokens = {"before": await ctx.step.run("before", work, of, {})}
    came = await ctx.step.wait_for_any("answer", [_on("chaos/answer"), _on("chaos/second")], timeout="1h")
    tokens["answer"] = _token(came)
    tokens["after"] = await ctx.step.run("after", work, of, dict(tokens))
    return tokens


@app.function(on="chaos/replies")
async def replies(ctx: Context) -> Tokens:
    """Waits for two events from outside, and then for another one like the first."""
    of = _of(ctx, "replies")
    tokens = {"before": await ctx.step.run("before", work, of, {})}
    both = await ctx.step.wait_for_all("both", [_on("chaos/answer"), _on("chaos/second")], timeout="1h")
    tokens["both"] = "|".join(map(_token, both)) if both is not None else ""
    again = await ctx.step.wait_for_event("again", event="chaos/answer", match="data.key", timeout="1h")
    tokens["again"] = _token(again)
    tokens["after"] = await ctx.step.run("after", work, of, dict(tokens))
    return tokens


@app.function(on="chaos/signalled")
async def signalled(ctx: Context) -> Tokens:
    """Waits for a signal of the event's key."""
    of = _of(ctx, "signalled")
    tokens = {"before": await ctx.step.run("before", work, of, {})}
    key, wait_s = ctx.event.data["key"], ctx.event.data["wait_s"]
    tokens["go"] = await ctx.step.wait_for_signal("go", key, timeout=wait_s) or ""
    tokens["after"] = await ctx.step.run("after", work, of, dict(tokens))
    return tokens


@app.function(on="chaos/calls")
async def calls(ctx: Context) -> Tokens:
    """Invokes another function."""
    of = _of(ctx, "calls")
    tokens = {"before": await ctx.step.run("before", work, of, {})}
    tokens["call"] = (await ctx.step.invoke("call", called, data={"parent": ctx.run_id}))["only"]
    tokens["after"] = await ctx.step.run("after", work, of, dict(tokens))
    return tokens


@app.function()
async def called(ctx: Context) -> Tokens:
    """Invoked by ``calls``, exactly once each."""
    return {"only": await ctx.step.run("only", work, _of(ctx, "called"), {})}


@app.function(on="chaos/dialog")
async def dialog(ctx: Context) -> Tokens:
    """Asks another function by an event, and waits for its reply."""
    of = _of(ctx, "dialog")
    tokens = {"before": await ctx.step.run("before", work, of, {})}
    asking = {"parent": ctx.run_id, "key": ctx.event.data["key"]}
    await ctx.step.send_event("ask", Event(name="chaos/asked", data=asking))
    reply = await ctx.step.wait_for_event("reply", event="chaos/reply", match="data.key", timeout="1h")
    tokens["reply"] = _token(reply)
    tokens["after"] = await ctx.step.run("after", work, of, dict(tokens))
    return tokens


@app.function(on="chaos/asked")
async def asked(ctx: Context) -> Tokens:
    """Started by ``dialog``, exactly once each; replies."""
    token = await ctx.step.run("only", work, _of(ctx, "asked"), {})
    await ctx.step.send_event("reply", Event(name="chaos/reply", data={"key": ctx.event.data["key"], "token": token}))
    return {"only": token}


def _on(event: str) -> On[dict[str, Any]]:
    return On(event, match="data.key")


def _token(came: Received[Any] | None) -> str:
    """The token of an event; empty where none came."""
    return str(came.data["token"]) if came is not None else ""
