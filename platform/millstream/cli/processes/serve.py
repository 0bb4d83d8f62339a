"""``millstream serve``: the server of ``millstream dev`` for production on one machine.

The same engine, log and data directory. What differs from ``dev``: events are taken with a key only, the page has no
DEV banner, changed code waits for a restart, runs get no lines (``millstream runs list`` and the metrics have them).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from millstream.cli.support.loading import load_apps
from millstream.cli.support.loops import loop_factory
from millstream.cli.support.one_server import GRACE_S, let_functions_send, server_settings, serving
from millstream.cli.support.open_door import refuse_without_key
from millstream.cli.support.problems import say_problems
from millstream.cli.support.serving import serve as serve_role
from millstream.config import Settings
from millstream.dev import DevServer
from millstream.roles.process import tune_process
from millstream.telemetry import setup_logging


def serve(settings: Settings, targets: Sequence[str]) -> int:
    """Serve until told to stop; 0."""
    refuse_without_key(settings)
    setup_logging(level=logging.getLevelNamesMapping()[settings.text("log_level").upper()])
    apps = load_apps(targets)
    say_problems(apps)
    tune_process()

    async def run() -> int:
        server = DevServer(apps, server_settings(settings, Path(settings.text("data")), targets, banner=""))

        def greeting() -> str:
            let_functions_send(server)
            return serving(apps, server)

        return await serve_role(server, server.wait(), GRACE_S, greeting)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(run())
