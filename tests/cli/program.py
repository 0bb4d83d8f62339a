"""The real command line, in processes of its own, and a small app for it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
T = TypeVar("T")
APP = """
from millstream import App, Context, Linear, Throttle

app = App("shop")

@app.function(on="shop/quick")
async def quick(ctx: Context):
    return {"got": ctx.event.data, "step": await ctx.step.run("one", lambda: 1)}

@app.function(on="shop/picky", if_="event.data.wanted == true")
async def picky(ctx: Context):
    pass

@app.function(on="shop/bad", retries=0)
async def bad(ctx: Context):
    def explode():
        raise ValueError("it burst")
    await ctx.step.run("explode", explode)

@app.function(on="shop/held", retries=0, on_exhausted="hold")
async def held(ctx: Context):
    def explode():
        raise RuntimeError("it burst")
    await ctx.step.run("explode", explode)

@app.function(on="shop/flaky", retries=1, backoff=Linear("1h"))
async def flaky(ctx: Context):
    def stumble():
        raise ValueError("it stumbled")
    await ctx.step.run("one", lambda: {"is": "there"})
    await ctx.step.run("stumble", stumble)

@app.function(on="shop/narrow", concurrency=1, throttle=Throttle(10, "1m"))
async def narrow(ctx: Context):
    pass

@app.function(on="shop/long")
async def long(ctx: Context):
    await ctx.step.sleep("nap", "1d")

@app.function(on="shop/asks")
async def asks(ctx: Context):
    await ctx.step.wait_for_signal("never", "nobody-says", timeout="1ms")
    await ctx.step.invoke("child", answers, data=ctx.event.data)

@app.function()
async def answers(ctx: Context):
    await ctx.step.wait_for_event("reply", event="shop/reply", match="data.order", timeout="1d")
"""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[Any]:
        """Its jsonl."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(**variables: str) -> dict[str, str]:
    """This process's, without settings of millstream but those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    return kept | {"PYTHONPATH": str(ROOT / "platform")} | variables


def millstream(*arguments: str, cwd: Path = ROOT, stdin: str = "", **variables: str) -> Ended:
    """Call it and wait."""
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "millstream", *arguments],
        cwd=cwd,
        env=environment(**variables),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return Ended(ran.returncode, ran.stdout, ran.stderr)


@dataclass(frozen=True)
class Serving:
    """A server that takes events. ``told`` are the lines of its start."""

    url: str
    folder: Path
    process: subprocess.Popen[str]
    told: list[str]

    @property
    def out(self) -> list[str]:
        """What it has printed so far."""
        return (self.folder / "out").read_text().splitlines()

    def call(self, *arguments: str, stdin: str = "") -> Ended:
        """A command against it."""
        return millstream(*arguments, cwd=self.folder, stdin=stdin, MILLSTREAM_URL=self.url)

    def start_run(self, event: str, *more: str) -> str:
        """Send an event; the id of the run it started."""
        sent = self.call("events", "send", event, *more)
        assert sent.code == 0, sent.err
        listed = ("runs", "list", "--event", str(sent.rows[0]["id"]))
        return str(until(f"a run of {event}", lambda: self.call(*listed).rows)[0]["run_id"])


def until(what: str, look: Callable[[], T]) -> T:
    """Look until there is something to see; it."""
    ends_s = time.monotonic() + PATIENCE_S
    while not (seen := look()):
        assert time.monotonic() < ends_s, f"{what}: not within {PATIENCE_S} s"
        time.sleep(0.05)
    return seen


DEFAULT_FILES = {"shop.py": APP}


@contextlib.contextmanager
def serving(
    folder: Path,
    *more: str,
    command: str = "dev",
    app: str = "shop:app",
    files: Mapping[str, str] = DEFAULT_FILES,
    descriptors: int = 0,
) -> Iterator[Serving]:
    """A server of APP on a free port, with its data in ``folder``/data; ``descriptors`` it may have, 0: as we have."""
    for name, text in files.items():
        (folder / name).write_text(text)
    line = [sys.executable, "-P", "-m", "millstream", command, app, "--port", "0"]
    line += ["--no-reload"] if command == "dev" else []
    allowed = ["bash", "-c", f'ulimit -n {descriptors}; exec "$@"', "bash"] if descriptors else []
    process = subprocess.Popen(
        [*allowed, *line, "--data", "data", *more],
        cwd=folder,
        env=environment(),
        stdout=(folder / "out").open("w"),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        url = ""
        told = []
        while not url:
            line = process.stderr.readline()
            assert line, f"it did not start: {told}"
            told.append(line)
            found = re.search(r"at (http://\S+),", line)
            url = found.group(1) if found else ""
        yield Serving(url, folder, process, told)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=30)
        if process.poll() is None:
            process.kill()
