"""The server's side of reloading: a process that has loaded the apps and waits for its turn to serve.

    server ──LOADED──> reloader        the apps are loaded
    server <──SERVE── reloader         the one before has stopped: open the data directory and serve
    server <──REPLACED── reloader      the next one is ready: stop soon

The end of the connection is the end of the reloader, and of this process with it, however that ended.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from millstream.errors import ConfigError
from millstream.execute.processes.child import PARENT_GONE, die_with_parent_process

LOADED: Final = b"L"
SERVE: Final = b"S"
REPLACED: Final = b"R"


@dataclass(slots=True)
class Standby:
    """What the reloader gave this process. ``is_first``: no server served before it.

    ``listening``  the port, which the reloader keeps open.
    """

    listening: socket.socket
    control: socket.socket
    is_first: bool

    @classmethod
    def of(cls, text: str) -> Standby:
        """From the hidden option. Raises ConfigError for what no reloader writes."""
        try:
            listening, control, first = map(int, text.split(","))
            made = cls(socket.socket(fileno=listening), socket.socket(fileno=control), bool(first))
        except (ValueError, OSError) as error:
            raise ConfigError(f"--standby is for millstream itself, got {text!r:.80}. Leave it out.") from error
        die_with_parent_process()
        return made

    def wait_for_turn(self) -> None:
        """Say that the apps are loaded, and return when it is this server's turn."""
        self.control.sendall(LOADED)
        if self.control.recv(1) != SERVE:
            os._exit(PARENT_GONE)

    def on_replaced(self, stop: Callable[[], None]) -> None:
        """Call ``stop`` from a thread when the next server is ready; end the process when the reloader does."""

        def listen() -> None:
            while True:
                try:
                    word = self.control.recv(1)
                except OSError:
                    word = b""
                if not word:
                    os._exit(PARENT_GONE)
                stop()

        threading.Thread(target=listen, name="millstream-standby", daemon=True).start()
