"""The history's child process, as its parent sees it: started, watched, ended.

parent ──stdin──> child    the first line says how to reach Kafka (secrets belong on no command line); nothing
                           follows, and the end of it ends the child, however the parent died
"""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import suppress
from typing import Final

from millstream.errors import OperatorError
from millstream.history.process import Options, command, first_line

STOP_S: Final = 5.0


class Child:
    """One child process. ``check`` raises once it has ended by itself."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process; 0 where there is none."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it. It opens the log by itself and tries again while it cannot."""
        # Its own session: a Ctrl-C in the terminal reaches only us, and we end it by closing its input.
        self._process = subprocess.Popen(command(self._options), stdin=subprocess.PIPE, start_new_session=True)
        assert self._process.stdin is not None
        self._process.stdin.write(first_line(self._options))
        self._process.stdin.flush()

    def check(self) -> None:
        """Raise OperatorError where it has ended, which it should not."""
        if self._process is not None and self._process.poll() is not None:
            raise OperatorError(
                f"the history process ended with exit code {self._process.returncode}; its reason is above. "
                "Events and runs are not affected; start again to read them."
            )

    async def stop(self) -> None:
        """End it; what it has not stored is folded again by the next."""
        process, self._process = self._process, None
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
