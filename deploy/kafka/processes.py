"""Processes that outlive the command that starts them, known by a file with their number and never by a name; ports.

A number can be given away again after a process has ended, so a process counts as ours only while its command line
names a file of ours (``mark``).
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

ENDS_WITHIN_S = 20.0
FREE_PORTS = range(20_000, 29_000, 10)


class Failed(Exception):
    """A process did not do what it should; the message quotes its log. Exit code 1."""


class Process:
    """One process: ``<name>.pid`` and ``<name>.log`` in a folder. ``mark`` is part of its command line."""

    def __init__(self, folder: Path, name: str, mark: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._pid_file = folder / f"{name}.pid"
        self._mark = mark

    def pid(self) -> int | None:
        """Its number while it runs."""
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        return pid if self._mark in _command_line(pid) else None

    def start(self, command: Sequence[str], cwd: Path) -> None:
        """Start it, in a session of its own and with no input, its output in its log."""
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._pid_file.write_text(f"{process.pid}\n")
        while self.pid() is None and process.poll() is None:
            time.sleep(0.001)  # For a moment a new process has no command line.

    def wait_for(self, pattern: str, limit_s: float) -> None:
        """Return once its log has a line like this; raise Failed when it ended before, or took too long."""
        wanted = re.compile(pattern)
        until = time.monotonic() + limit_s
        while not wanted.search(self._logged()):
            if self.pid() is None and not wanted.search(self._logged()):
                raise Failed(f"{self.name} ended before it was ready. The end of {self.log}:\n{self._log_end()}")
            if time.monotonic() > until:
                raise Failed(
                    f"{self.name} was not ready within {limit_s:.0f} s. The end of its log:\n{self._log_end()}"
                )
            time.sleep(0.1)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; raise Failed when it does not run."""
        pid = self.pid()
        if pid is None:
            raise Failed(f"{self.name} does not run")
        os.kill(pid, number)

    def stop(self) -> None:
        """End it: in order, and by force when that takes too long."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            pid = self.pid()
            if pid is None:
                break
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)  # One that is paused hears nothing else.
            until = time.monotonic() + ENDS_WITHIN_S
            while self.pid() is not None and time.monotonic() < until:
                time.sleep(0.05)
        self._pid_file.unlink(missing_ok=True)

    def state(self) -> str:
        """One line for people: `node1 pid=812 rss_mib=240 state=up`."""
        pid = self.pid()
        if pid is None:
            return f"{self.name} state=down"
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return f"{self.name} pid={pid} state=up"
        rss = re.search(r"VmRSS:\s+(\d+)", status)
        paused = re.search(r"State:\s+T", status)
        rss_mib = int(rss[1]) // 1024 if rss else 0
        return f"{self.name} pid={pid} rss_mib={rss_mib} state={'paused' if paused else 'up'}"

    def _logged(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _log_end(self) -> str:
        return "\n".join(self._logged().splitlines()[-15:])


def chosen_port(variable: str, otherwise: int, offsets: Sequence[int]) -> int:
    """The port that a variable names, `free` for any; it and those at these offsets from it are free."""
    wanted = os.environ.get(variable) or str(otherwise)
    if wanted == "free":
        first = int.from_bytes(os.urandom(2), "big")
        for at in range(len(FREE_PORTS)):
            port = FREE_PORTS[(first + at) % len(FREE_PORTS)]
            if not _taken(port, offsets):
                return port
        raise Failed(f"no free ports from {FREE_PORTS[0]} on")
    if not wanted.isdigit() or not 0 < int(wanted) < 63_000:
        raise Failed(f"{variable} must be a number below 63000, or `free`; got {wanted!r}")
    taken = _taken(int(wanted), offsets)
    if taken:
        raise Failed(f"ports {taken} are in use. Stop what uses them, or set {variable} to another number.")
    return int(wanted)


def _taken(port: int, offsets: Sequence[int]) -> list[int]:
    """Those that somebody has."""
    taken = []
    for offset in offsets:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # As a server does.
            try:
                probe.bind(("127.0.0.1", port + offset))
            except OSError:
                taken.append(port + offset)
    return taken


def wait_for_end_of(pid: int) -> None:
    """Return once that process, which need not be ours, has ended."""
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.5)


def _command_line(pid: int) -> str:
    """What a running process was started with; empty when there is none, or only what is left of one (a zombie)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return ""
    except OSError:
        return ""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout.strip()
