"""One executor process of ``--executors N``.

    python -P -m millstream.cli.processes.executor SOCKET ALIVE        two descriptors

Started by ``execute/processes/pool.py`` and by nobody else. It loads the apps exactly as the command line does, and
then is what ``execute/processes/child.py`` says. Its log lines go to the standard error it shares with the worker.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Sequence

from millstream.cli.support.loading import load_apps
from millstream.cli.support.loops import loop_factory
from millstream.errors import MillstreamError
from millstream.execute.processes.child import Child, die_with_parent, first_message, refuse
from millstream.execute.processes.messages import Setup
from millstream.sdk.app import App
from millstream.telemetry import setup_logging

REFUSED = 1


def main(arguments: Sequence[str]) -> int:
    """Serve until the worker says that it is over; 0 then, 1 where the apps cannot be loaded."""
    descriptor, alive = int(arguments[0]), int(arguments[1])
    for one in (descriptor, alive):
        os.set_inheritable(one, False)  # Not for the processes that steps start.
    die_with_parent(alive)
    sock = socket.socket(fileno=descriptor)
    setup = first_message(sock)
    sys.path[:] = setup.path
    setup_logging(level=setup.log_level)
    try:
        apps = load_apps(setup.targets)
    except MillstreamError as error:
        refuse(sock, error)
        return REFUSED
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(apps, setup, sock))
    return 0


async def _serve(apps: Sequence[App], setup: Setup, sock: socket.socket) -> None:
    sock.setblocking(False)
    await Child(apps, setup.settings, setup.calls).serve(sock)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
