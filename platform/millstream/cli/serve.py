"""``millstream serve``: the server of ``millstream dev`` for production on one machine.

The same engine, log and data directory. What differs from ``dev``: events are taken with a key only, the page has no
DEV banner, changed code waits for a restart, runs get no lines (``millstream runs list`` and the metrics have them).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from millstream.cli.support.loading import load_apps
from millstream.cli.support.loops import loop_factory
from millstream.cli.support.one_server import GRACE_S, let_functions_send, server_settings, serving
from millstream.cli.support.problems import say_problems
from millstream.cli.support.serving import serve as serve_role
from millstream.config import BY_NAME, Settings
from millstream.dev import DevServer
from millstream.errors import ConfigError
from millstream.roles.process import tune_process
from millstream.telemetry import setup_logging

MAKE_A_KEY: Final = "python -c 'import secrets; print(secrets.token_hex(24))'"


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


def refuse_without_key(settings: Settings) -> None:
    """Raise ConfigError where anybody could send events, and nobody has said that this is meant."""
    keys, is_meant = settings.texts("event_keys"), settings.switch("insecure_no_event_key")
    option = BY_NAME["insecure_no_event_key"].flag
    if keys and is_meant:
        raise ConfigError(f"event keys and {option} were both given: expected one of them. Leave {option} out.")
    if not (keys or is_meant):
        raise ConfigError(
            "no event key was given: expected at least one, since without one whoever reaches the port may send events "
            "and start functions. Name it with --event-key or MILLSTREAM_EVENT_KEYS (several with commas), and make it "
            f"with: {MAKE_A_KEY}. On your own machine, millstream dev needs none; {option} does without."
        )
