"""The process above a ``millstream dev`` that reloads: it watches files and lets one server after another serve.

    reloader ──starts──> server 1, which loads the apps, says so, and is told to serve
       │ a file changed
       └──starts──> server 2, which loads the apps as they are now
                      loaded: server 1 stops, its steps under way are recorded, server 2 goes on with its runs
                      broken: it says which line and ends; server 1 serves on

A process for each state of the code, because no module can be unloaded from one: classes, caches and threads of the
old code would live on. Runs live in the data directory, so that the next server takes them up where they are. The
reloader holds the port: connections made between two servers wait for the second.

Files are compared by time and size, at most FILES_WATCHED_MAX of them, so rarely that it takes a twentieth of a core at
most. It works on every file system, and nothing has to be installed for it.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final

from millstream.api.sockets.listening import listen_on
from millstream.cli.support.exits import OK, note
from millstream.cli.support.standby import LOADED, REPLACED, SERVE

FILES_WATCHED_MAX: Final = 5_000
LOOK_EVERY_S: Final = 0.25
LOOK_SHARE: Final = 20
"""A look that took long is followed by a pause this many times as long."""
REPLACE_S: Final = 15.0
"""How long a server may take to stop for its successor, before it is killed; that loses nothing either."""
NAMES_SHOWN_MAX: Final = 3
BACKLOG: Final = 1_024
SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})

Stamps = Mapping[str, tuple[int, int]]
"""Each file's time of change and size."""


def reload_and_serve(arguments: Sequence[str], host: str, port: int) -> int:
    """Serve with ``millstream ARGUMENTS`` until told to stop; the exit code of the last server."""
    with listen_on(host, port) as listening:
        listening.listen(BACKLOG)
        return _Reloader(arguments, listening, Path.cwd()).run()


def stamps_below(folder: Path) -> Stamps:
    """The Python files below a folder, but not those of virtual environments, caches and hidden folders."""
    stamps: dict[str, tuple[int, int]] = {}
    for path in _python_files(folder):
        with suppress(OSError):  # It is gone since it was listed.
            seen = os.stat(path)
            stamps[path] = (seen.st_mtime_ns, seen.st_size)
        if len(stamps) == FILES_WATCHED_MAX:
            break
    return stamps


def _python_files(folder: Path) -> Iterator[str]:
    for where, folders, files in os.walk(folder):
        if "pyvenv.cfg" in files:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if name not in SKIPPED and not name.startswith("."))
        yield from (os.path.join(where, name) for name in sorted(files) if name.endswith(".py"))


class _Server:
    """One server process: ``loaded`` once it has said that it has the apps."""

    def __init__(self, arguments: Sequence[str], listening: socket.socket, is_first: bool) -> None:
        self.control, theirs = socket.socketpair()
        with theirs:
            standby = f"--standby={listening.fileno()},{theirs.fileno()},{int(is_first)}"
            # Options come behind the command's name. -P: a folder named millstream must not take our place.
            line = [sys.executable, "-P", "-m", "millstream", arguments[0], standby, *arguments[1:]]
            self.process = subprocess.Popen(line, pass_fds=(listening.fileno(), theirs.fileno()))

    def has_loaded(self, within_s: float) -> bool:
        """Wait for its word; False where it has not said it, or has ended."""
        readable, _, _ = select.select([self.control], [], [], within_s)
        return bool(readable) and self.control.recv(1) == LOADED

    def tell(self, word: bytes) -> None:
        """Serve, or make room; nothing where it has ended."""
        with suppress(OSError):
            self.control.sendall(word)

    def end(self) -> None:
        """Kill it, if it still lives."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.control.close()


class _Reloader:
    """One ``millstream dev`` with all the servers it has, one after another."""

    def __init__(self, arguments: Sequence[str], listening: socket.socket, folder: Path) -> None:
        self._arguments = arguments
        self._listening = listening
        self._folder = folder
        self._serving: _Server | None = None
        self._loading: _Server | None = None
        self._stopping = False

    def run(self) -> int:
        """Until a server ends by itself, or is told to stop; its exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        stamps = self._look()
        if len(stamps) == FILES_WATCHED_MAX:
            note(f"only the first {FILES_WATCHED_MAX} Python files below {self._folder} are watched for changes")
        self._loading = _Server(self._arguments, self._listening, is_first=True)
        try:
            while (code := self._turn()) is None:
                seen = self._look()
                if seen != stamps:
                    stamps = self._settled(seen, stamps)
                    self._load_anew()
            return code
        finally:
            for server in (self._loading, self._serving):
                if server is not None:
                    server.end()

    def _turn(self) -> int | None:
        """Let a server that has loaded serve; the exit code where it is over."""
        loading = self._loading
        if loading is None:
            time.sleep(self._pause_s)
        elif loading.has_loaded(self._pause_s):
            self._replace(loading)
        elif loading.process.poll() is not None:
            self._loading = None
            loading.control.close()
            if self._serving is None:
                return self._code(loading)
            note("the last code that loaded serves on. Mend the error above; each change is tried.")
        if self._serving is not None and self._serving.process.poll() is not None:
            return self._code(self._serving)
        return None

    def _replace(self, loaded: _Server) -> None:
        before, self._serving, self._loading = self._serving, None, None
        if before is not None:
            before.tell(REPLACED)
            with suppress(subprocess.TimeoutExpired):
                before.process.wait(REPLACE_S)
            before.end()
        self._serving = loaded
        loaded.tell(SERVE)
        if self._stopping:
            loaded.process.terminate()

    def _load_anew(self) -> None:
        if self._loading is not None:
            self._loading.end()  # What it loads is not the code of now.
        if not self._stopping:
            self._loading = _Server(self._arguments, self._listening, is_first=self._serving is None)

    def _look(self) -> Stamps:
        began_s = time.monotonic()
        stamps = stamps_below(self._folder)
        self._pause_s = max(LOOK_EVERY_S, LOOK_SHARE * (time.monotonic() - began_s))
        return stamps

    def _settled(self, seen: Stamps, before: Stamps) -> Stamps:
        """The files once they are left alone for a moment: an editor, or git, writes in pieces."""
        while True:
            time.sleep(LOOK_EVERY_S / 2)
            again = self._look()
            if again == seen:
                break
            seen = again
        changed = sorted(os.path.relpath(path, self._folder) for path, _ in set(seen.items()) ^ set(before.items()))
        changed = list(dict.fromkeys(changed))
        more = f" and {len(changed) - NAMES_SHOWN_MAX} more" if len(changed) > NAMES_SHOWN_MAX else ""
        note(f"{', '.join(changed[:NAMES_SHOWN_MAX])}{more} changed: loading")
        return seen

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Hand it on. A terminal sends it to every process of ours: within half a second they take two for one."""
        self._stopping = True
        for server in (self._loading, self._serving):
            if server is not None and server.process.poll() is None:
                server.process.terminate()

    def _code(self, server: _Server) -> int:
        code = server.process.wait()
        if code >= 0:
            return code
        if self._stopping and code == -signal.SIGTERM:
            return OK  # It had not begun to serve.
        note(f"the server was ended by signal {-code}")
        return 128 - code
