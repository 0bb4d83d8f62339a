"""Functions with flow control whose steps leave a ledger: what limits do is measured from it, by ``limits.py``.

The ledger lies beside that of ``functions.py`` and is written alike: one ``write`` a line, so its order is the order in
which things happened. Whoever kills a process writes so behind it (``gone``): what the process ran is over then.

Add a function: declare it here, and say in ``limits.py`` what must be true of it.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Final

import msgspec

from millstream import (
    App,
    Batch,
    Concurrency,
    Context,
    Debounce,
    RateLimit,
    Singleton,
    Throttle,
    current,
)
from tests.chaos.functions import LEDGER_VARIABLE

KEY: Final = "event.data.key"
LAST: Final = "last"
"""The step with which each run ends."""
STEP_S: Final = 0.04
STEPS_LIMIT: Final = 3
RUNS_LIMIT: Final = 2
SHARED_LIMIT: Final = 2
BOTH_LIMITS: Final = {"each": 2, "all": 5}
THROTTLE_BURST: Final = 3
THROTTLE_EVERY_S: Final = 0.2
RATE_LIMIT: Final = 4
RATE_PERIOD_S: Final = 2.0
BATCH_MAX: Final = 5
DEBOUNCE_S: Final = 1.0


class Line(msgspec.Struct, frozen=True):
    """A ledger line: a step's ``begin`` or ``end``, or a process that is ``gone``. ``numbers``: of the run's events."""

    what: str
    pid: int
    at_ns: int
    function: str = ""
    key: str = ""
    numbers: tuple[int, ...] = ()
    run: str = ""
    step: str = ""


def ledger_beside(ledger: Path) -> Path:
    """The ledger of these functions."""
    return ledger.with_name(f"{ledger.name}.limits")


def write(ledger: Path, line: Line) -> None:
    """Add a line, whole."""
    handle = os.open(ledger_beside(ledger), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, msgspec.json.encode(line) + b"\n")
    finally:
        os.close(handle)


def write_gone(ledger: Path, pid: int) -> None:
    """Say that a process was killed, once it is dead."""
    write(ledger, Line("gone", pid, time.monotonic_ns()))


def read(ledger: Path) -> list[Line]:
    """Every line so far, in order."""
    path = ledger_beside(ledger)
    if not path.exists():
        return []
    decode = msgspec.json.Decoder(Line).decode
    return [decode(line) for line in path.read_bytes().splitlines()]


async def _work(function: str, key: str, numbers: tuple[int, ...]) -> None:
    at = current()

    def note(what: str) -> None:
        line = Line(what, os.getpid(), time.monotonic_ns(), function, key, numbers, at.run_id, at.step)
        write(Path(os.environ[LEDGER_VARIABLE]), line)

    note("begin")
    await asyncio.sleep(STEP_S)
    note("end")


async def _step(ctx: Context, function: str, step: str) -> None:
    numbers = tuple(event.data["n"] for event in ctx.events)
    await ctx.step.run(step, _work, function, ctx.event.data["key"], numbers)


async def _two_steps(ctx: Context, function: str) -> None:
    """Two steps and a pause between them, in which a run is open and executes nothing."""
    await _step(ctx, function, "first")
    await ctx.step.sleep("pause", STEP_S)
    await _step(ctx, function, LAST)


def declare(app: App) -> None:
    """Add the functions."""
    each = Concurrency(BOTH_LIMITS["each"], key=KEY)
    among_all = Concurrency(BOTH_LIMITS["all"], key="'both'", scope="env", per="run")
    shared = Concurrency(SHARED_LIMIT, key=KEY, scope="env")

    @app.function(on="limited/steps", concurrency=Concurrency(STEPS_LIMIT, key=KEY))
    async def steps(ctx: Context) -> None:
        await asyncio.gather(_step(ctx, "steps", "left"), _step(ctx, "steps", "right"))
        await _two_steps(ctx, "steps")

    @app.function(on="limited/unkeyed", concurrency=STEPS_LIMIT)
    async def unkeyed(ctx: Context) -> None:
        await _two_steps(ctx, "unkeyed")

    @app.function(on="limited/runs", concurrency=Concurrency(RUNS_LIMIT, key=KEY, per="run"))
    async def runs(ctx: Context) -> None:
        await _two_steps(ctx, "runs")

    @app.function(on="limited/shared", concurrency=shared)
    async def shared_one(ctx: Context) -> None:
        await _two_steps(ctx, "shared_one")

    @app.function(on="limited/shared", concurrency=shared)
    async def shared_other(ctx: Context) -> None:
        await _two_steps(ctx, "shared_other")

    @app.function(on="limited/both", concurrency=[each, among_all], priority="event.data.n % 3")
    async def both(ctx: Context) -> None:
        await _two_steps(ctx, "both")

    @app.function(on="limited/throttled", throttle=Throttle(5, "1s", burst=THROTTLE_BURST, key=KEY))
    async def throttled(ctx: Context) -> None:
        await _step(ctx, "throttled", LAST)

    @app.function(on="limited/rated", rate_limit=RateLimit(RATE_LIMIT, RATE_PERIOD_S, key=KEY))
    async def rated(ctx: Context) -> None:
        await _step(ctx, "rated", LAST)

    @app.function(on="limited/single", singleton=Singleton("skip", key=KEY))
    async def skipping(ctx: Context) -> None:
        await _two_steps(ctx, "skipping")

    @app.function(on="limited/single", singleton=Singleton("latest", key=KEY))
    async def latest(ctx: Context) -> None:
        await _two_steps(ctx, "latest")

    @app.function(on="limited/single", singleton=Singleton("cancel", key=KEY))
    async def cancelling(ctx: Context) -> None:
        await _two_steps(ctx, "cancelling")

    @app.function(on="limited/ordered", ordered_by=KEY)
    async def ordered(ctx: Context) -> None:
        await _two_steps(ctx, "ordered")

    @app.function(on="limited/batched", batch=Batch(BATCH_MAX, "1s", key=KEY), throttle=Throttle(20, "1s", key=KEY))
    async def batched(ctx: Context) -> None:
        await _step(ctx, "batched", LAST)

    @app.function(on="limited/debounced", debounce=Debounce(DEBOUNCE_S, key=KEY))
    async def debounced(ctx: Context) -> None:
        await _step(ctx, "debounced", LAST)
