"""The functions the chaos test runs: each step leaves two lines in a ledger that millstream knows nothing of.

A line is one ``write`` to a file opened with O_APPEND: lines of different processes never mix, a kill never cuts one,
and the order of the lines is the order in which things happened. Every step returns a token that is made anew at each
execution, and every later step writes down the tokens it was given: a result that changed after it was recorded shows.

Add a function: declare it here, and its layers in ``SHAPES`` (steps of one layer run side by side).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from typing import Final

import msgspec

from millstream import App, Context, Event, SyncContext, Table, current

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
    TOLD: (("only",),),
}
SENT: Final = tuple(name for name in SHAPES if name != TOLD)
"""What events ask for from outside; ``told`` is started by ``tell``."""
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
