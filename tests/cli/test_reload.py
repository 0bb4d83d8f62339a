"""``millstream dev`` takes up changed code: does it, with real edits, and do runs go on?"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from millstream.cli.support.reloading import stamps_below
from tests.cli.program import PATIENCE_S, Ended, environment, millstream

APP = """
import asyncio
from pathlib import Path
from millstream import App, Context

app = App("shop")

@app.function(on="shop/quick")
async def quick(ctx: Context):
    return "VERSION"

@app.function(on="shop/nap")
async def nap(ctx: Context):
    before = await ctx.step.run("before", lambda: "VERSION")
    while Path("held").exists():
        await asyncio.sleep(0.05)
    return [before, "VERSION"]
"""

HELD = """
import asyncio
from pathlib import Path
from millstream import App, Context

app = App("shop")

@app.function(on="shop/held")
async def held(ctx: Context):
    before = await ctx.step.run("before", lambda: "VERSION")
    while Path("held").exists():
        await asyncio.sleep(0.05)
    return [before, "VERSION"]
"""


@dataclass
class Reloaded:
    """A ``millstream dev`` that reloads, and its folder."""

    folder: Path
    process: subprocess.Popen[bytes]
    url: str = ""

    def write(self, version: str) -> None:
        self.edit(APP.replace("VERSION", version))

    def edit(self, text: str) -> None:
        (self.folder / "shop.py").write_text(text)

    @property
    def place(self) -> tuple[str, int]:
        """Where it listens."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    @property
    def said(self) -> str:
        return (self.folder / "err").read_text()

    def wait_for(self, is_so: Callable[[], object]) -> None:
        ends_s = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < ends_s, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.05)

    def call(self, *arguments: str) -> Ended:
        return millstream(*arguments, cwd=self.folder, MILLSTREAM_URL=self.url)

    def start_run(self, event: str) -> str:
        """Send an event; the run that it starts, which was not there before."""
        before = set(self.runs())
        sent = self.call("events", "send", event)
        assert sent.code == 0, sent.err
        self.wait_for(lambda: set(self.runs()) - before)
        (run,) = set(self.runs()) - before
        return run

    def runs(self) -> list[str]:
        return [row["run_id"] for row in self.call("runs", "list").rows]

    def output_of(self, run: str) -> object:
        watched = self.call("runs", "watch", run)
        assert watched.code == 0, watched.err
        return watched.rows[-1]["output"]


@contextlib.contextmanager
def reloading(folder: Path) -> Iterator[Reloaded]:
    line = [sys.executable, "-P", "-m", "millstream", "dev", "shop:app", "--port", "0", "--data", "data"]
    (folder / "shop.py").write_text(APP.replace("VERSION", "one"))
    with (folder / "err").open("wb") as err, (folder / "out").open("wb") as out:
        process = subprocess.Popen(line, cwd=folder, env=environment(), stdout=out, stderr=err)
    served = Reloaded(folder, process)
    try:
        served.wait_for(lambda: "serving" in served.said)
        served.url = re.findall(r"at (http://\S+),", served.said)[0]
        yield served
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)


def test_changed_code_serves_the_runs_under_way_and_the_port_never_refuses(tmp_path: Path) -> None:
    (tmp_path / "held").touch()  # However slow this test is: the run is open until its code has changed.
    with reloading(tmp_path) as served:
        napping = served.start_run("shop/nap")
        served.wait_for(lambda: any(step["output"] for step in served.call("runs", "get", napping).rows[0]["steps"]))
        served.write("two")
        while served.said.count("serving") < 2:
            with socket.create_connection(served.place, timeout=30):  # Also between the two.
                pass
            assert served.process.poll() is None, served.said
        (tmp_path / "held").unlink()
        assert served.output_of(napping) == ["one", "two"], "the step is remembered, the code behind it is the new"
        steps = served.call("runs", "get", napping).rows[0]["steps"]
        assert [step["status"] for step in steps] == ["completed", "completed"]
        assert "NoCode" not in str(steps) and "GivenBack" in str(steps), "its code was never missing"
        told = [row["at"] for row in served.call("runs", "watch", napping).rows]
        assert told == sorted(told)
        assert served.output_of(served.start_run("shop/quick")) == "two"
        assert "shop.py changed: loading" in served.said and served.said.count("1 app with 2 functions") == 2
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(PATIENCE_S) == 0


def test_a_run_whose_step_was_edited_away_is_parked_and_the_next_edit_brings_it_back(tmp_path: Path) -> None:
    (tmp_path / "held").touch()  # However slow this test is: the run is open until its code has changed.
    with reloading(tmp_path) as served:
        served.edit(HELD)
        served.wait_for(lambda: served.said.count("serving") == 2)
        run = served.start_run("shop/held")
        served.wait_for(lambda: any(step["output"] for step in served.call("runs", "get", run).rows[0]["steps"]))
        served.edit(HELD.replace("before", "renamed"))
        served.wait_for(lambda: served.call("runs", "list", "--status", "parked").rows)
        (parked,) = served.call("runs", "list", "--status", "parked").rows
        assert (parked["run_id"], parked["state"]) == (run, "Parked")
        assert "step 'before' of kind 'run' is recorded" in served.call("runs", "get", "-o", "table", run).out
        served.wait_for(lambda: "step 'before' of kind 'run' is recorded" in (tmp_path / "out").read_text())
        served.wait_for(lambda: "since their code has changed" in served.said)
        (tmp_path / "held").unlink()
        served.edit(HELD.replace("VERSION", "mended"))
        assert served.output_of(run) == ["VERSION", "mended"]
        assert served.said.count("since their code has changed") == 1, "and not by the server that mends it"


def test_a_broken_edit_names_its_line_and_the_code_before_it_serves_on(tmp_path: Path) -> None:
    with reloading(tmp_path) as served:
        good = (tmp_path / "shop.py").read_text()
        (tmp_path / "shop.py").write_text(good + "\n1 / 0\n")
        served.wait_for(lambda: "serves on" in served.said)
        line = (good + "\n1 / 0\n").splitlines().index("1 / 0") + 1
        assert f"shop.py:{line}: ZeroDivisionError" in served.said
        assert served.output_of(served.start_run("shop/quick")) == "one"
        served.write("mended")
        served.wait_for(lambda: served.said.count("serving") == 2)
        assert served.output_of(served.start_run("shop/quick")) == "mended"


def test_a_server_that_is_killed_ends_the_reloader_and_one_whose_reloader_is_killed_ends(tmp_path: Path) -> None:
    with reloading(tmp_path) as served:
        os.kill(int(re.findall(r"process (\d+)", served.said)[0]), signal.SIGKILL)
        assert served.process.wait(PATIENCE_S) == 128 + signal.SIGKILL
        assert "ended by signal 9" in served.said
    with reloading(tmp_path) as served:
        server = int(re.findall(r"process (\d+)", served.said)[0])
        served.process.kill()
        served.process.wait(PATIENCE_S)
        ends_s = time.monotonic() + PATIENCE_S
        while Path(f"/proc/{server}").exists() and time.monotonic() < ends_s:
            time.sleep(0.05)
        assert millstream("lanes", "verify", "--data", "data", cwd=tmp_path).code == 0
    with reloading(tmp_path) as served:
        assert served.output_of(served.start_run("shop/quick")) == "one"


def test_files_of_environments_caches_and_hidden_folders_are_not_watched(tmp_path: Path) -> None:
    for name in ("a.py", "pkg/b.py", ".git/c.py", "venv/lib/d.py", "__pycache__/e.py", "node_modules/f.py", "g.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    assert [os.path.relpath(path, tmp_path) for path in stamps_below(tmp_path)] == ["a.py", "pkg/b.py"]
