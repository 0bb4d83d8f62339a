"""The history's child process, as its parent sees it: started, started again where it ended, ended.

parent ──stdin──> child    the first line says how to reach Kafka (secrets belong on no command line); nothing
                           follows, and the end of it ends the child, however the parent died

Events and runs need no history, so a child that ends (killed, out of memory, an error) ends nothing else: it is started
again, after pauses that grow. One that crashes again and again may have met damage that nobody recognised: then the
index is condemned, and the next child folds it anew.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from contextlib import suppress
from typing import Final

from millstream.history.damage import condemn
from millstream.history.process import FAILED, Options, command, first_line
from millstream.model.backoff import doubling_s
from millstream.telemetry import Telemetry, say

LOG: Final = logging.getLogger("millstream.history")
STOP_S: Final = 5.0
AGAIN_S: Final = 0.5
AGAIN_S_MAX: Final = 30.0
STEADY_S: Final = 60.0
"""A child that has lived for so long is started again at once, whatever befell those before it."""
CRASHES_MAX: Final = 3
"""Crashes in a row after which the index is taken for damaged."""


class Child:
    """One child process at a time; ``tend`` starts another where it has ended by itself."""

    def __init__(self, options: Options, telemetry: Telemetry) -> None:
        self._options = options
        self._telemetry = telemetry
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = self._again_s = 0.0
        self._failures = self._crashes = 0

    @property
    def pid(self) -> int:
        """The process; 0 where there is none."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it; where the system starts no process now, ``tend`` does later. It opens the log by itself."""
        self._started_s = time.monotonic()
        try:
            # Its own session: a Ctrl-C in the terminal reaches only us, and we end it by closing its input.
            self._process = subprocess.Popen(command(self._options), stdin=subprocess.PIPE, start_new_session=True)
        except OSError as error:
            self._failed(f"it was not started: {error}")
            return
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # It has ended already, and ``tend`` sees that.
            self._process.stdin.write(first_line(self._options))
            self._process.stdin.flush()

    def tend(self) -> None:
        """Start it again where it has ended by itself. Called about once a second."""
        process = self._process
        if process is None:
            if self._failures and time.monotonic() >= self._again_s:
                self.start()
            return
        code = process.poll()
        if code is None:
            return
        self._process = None
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        if time.monotonic() - self._started_s >= STEADY_S:
            self._failures = self._crashes = 0
        self._crashes = self._crashes + 1 if code not in (0, FAILED, -9, -15) else 0
        if self._crashes >= CRASHES_MAX:
            self._crashes = 0
            condemn(self._options.index)
            say(LOG, "history index condemned", level=logging.ERROR, why=f"{CRASHES_MAX} crashes in a row")
        self._failed(f"exit code {code}; its reason is above, if it gave one")

    def _failed(self, why: str) -> None:
        pause_s = doubling_s(AGAIN_S, self._failures, AGAIN_S_MAX)
        self._failures += 1
        self._again_s = time.monotonic() + pause_s
        self._telemetry.count("millstream_history_deaths_total")
        say(LOG, "history process ended", level=logging.ERROR, why=why, again_in_s=pause_s, failures=self._failures)

    async def stop(self) -> None:
        """End it; what it has not stored is folded again by the next."""
        process, self._process = self._process, None
        self._failures = 0
        if process is None:
            return
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            await asyncio.to_thread(process.wait, STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
