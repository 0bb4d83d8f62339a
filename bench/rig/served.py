"""The dev composition in a process of its own: door, worker, embedded log, history as its child.

    python -m bench.rig.served --data DIR --durability fsync|os --lanes N --settings '{"history_ms": 60000}' --ends FD

It is ``millstream.dev.DevServer``, which ``millstream dev`` starts too. Through the pipe ``--ends`` it tells, once for
every journal record with ends of runs in it, how many runs have ended and when that was durable: one write of 16 bytes
a record, so that a closed loop outside need not poll. ``Server`` is the other end of it all.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import fcntl
import json
import logging
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.rig.engine import TARGET
from bench.rig.figures import ROOT, children_of
from bench.rig.functions import app
from bench.rig.loop import make_loop
from millstream.dev import DevServer, DevSettings
from millstream.lane.settings import LaneSettings
from millstream.model.facts import Fact, RunCancelled, RunCompleted, RunFailed
from millstream.roles.process import tune_process

END: Final = struct.Struct("<qd")
ENDS: Final = frozenset((RunCompleted, RunFailed, RunCancelled))
SERVING_WITHIN_S: Final = 120.0
PIPE_BYTES: Final = 1 << 20


class Server:
    """A dev server in a child process, on a directory. Start it, stop or kill it, start it again."""

    def __init__(
        self,
        data: Path,
        *,
        durability: str = "fsync",
        lanes: int = 1,
        settings: dict[str, int] | None = None,
        executors: int = 0,
        profile: str = "",
    ) -> None:
        """``executors``: child processes that run the functions; ``profile``: the file for a profile of its loop."""
        self.data = data
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None
        self._line = ["--data", str(data), "--durability", durability, "--lanes", str(lanes)]
        self._line += ["--settings", json.dumps(settings or {})]
        self._line += ["--executors", str(executors), "--profile", profile]
        self._ends = -1

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self.process is not None
        return self.process.pid

    @property
    def pids(self) -> list[int]:
        """The server's process and its history's."""
        return [self.pid, *children_of(self.pid)]

    async def start(self) -> float:
        """Start it and return the seconds until it answered."""
        begun = time.perf_counter()
        self.process = self._spawn()
        assert self.process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(self.process.stdout.readline), SERVING_WITHIN_S)
        if not line:
            raise RuntimeError(f"the server ended with exit code {self.process.wait()} before it served: see above.")
        self.url = line.decode().strip()
        return time.perf_counter() - begun

    def _spawn(self) -> subprocess.Popen[bytes]:
        self._ends, theirs = os.pipe()
        fcntl.fcntl(self._ends, 1031, PIPE_BYTES)  # F_SETPIPE_SZ
        os.set_blocking(self._ends, False)
        path = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
        command = [sys.executable, "-m", "bench.rig.served", *self._line, "--ends", str(theirs)]
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, pass_fds=[theirs]
        )
        os.close(theirs)
        return process

    def watch_ends(self, on_ends: Callable[[int, float], None]) -> None:
        """Call back with (runs ended, the time their record was durable on perf_counter's clock)."""

        def readable() -> None:
            data = os.read(self._ends, PIPE_BYTES)
            for count, at_s in END.iter_unpack(data[: len(data) // END.size * END.size]):
                on_ends(count, at_s)
            if not data:
                asyncio.get_running_loop().remove_reader(self._ends)

        asyncio.get_running_loop().add_reader(self._ends, readable)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        asyncio.get_running_loop().remove_reader(self._ends)
        self.process.send_signal(number)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._ends)
        self.process = None


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--durability", default="fsync")
    parser.add_argument("--lanes", type=int, default=1)
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--executors", type=int, default=0)
    parser.add_argument("--profile", default="")
    parser.add_argument("--ends", type=int, required=True)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    lane = LaneSettings(**given.settings)
    settings = DevSettings(
        data=given.data,
        port=0,
        lanes=given.lanes,
        durability=given.durability,
        lane=lane,
        executors=given.executors,
        targets=(TARGET,),
    )
    with asyncio.Runner(loop_factory=make_loop) as runner:
        profile = cProfile.Profile(time.thread_time) if given.profile else None
        if profile is not None:
            profile.enable()
        runner.run(_serve(settings, given.ends))
        if profile is not None:
            profile.dump_stats(given.profile)


async def _serve(settings: DevSettings, ends: int) -> None:
    def on_facts(facts: Sequence[Fact], at_ms: int) -> None:
        count = 0
        for fact in facts:
            if type(fact) in ENDS:
                count += 1
        if count:
            os.write(ends, END.pack(count, time.perf_counter()))

    tune_process()
    server = DevServer([app], settings, on_facts=on_facts)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await server.start()
    assert server.served is not None
    print(server.served.url, flush=True)
    ending, running = asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(server.wait())
    await asyncio.wait([ending, running], return_when="FIRST_COMPLETED")
    if running.done():
        running.result()
    running.cancel()
    await server.stop()


if __name__ == "__main__":
    main()
