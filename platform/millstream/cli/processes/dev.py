"""``millstream dev``: run apps in one process, print their runs, stop in good order.

The first SIGINT or SIGTERM lets running steps end and be recorded; the second ends the process at once, which loses
nothing either: the next start goes on from the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from millstream.cli.processes.feed import send_feed, smoke
from millstream.cli.support.exits import INTERRUPTED, OK, note
from millstream.cli.support.jsonl import opened
from millstream.cli.support.loading import load_apps
from millstream.cli.support.loops import loop_factory
from millstream.cli.support.one_server import GRACE_S, let_functions_send, reached_at, server_settings, serving
from millstream.cli.support.problems import say_problems
from millstream.cli.support.run_printer import OPEN_RUNS_KNOWN_MAX, RunPrinter
from millstream.cli.support.serving import on_signals, started_before
from millstream.cli.support.standby import Standby
from millstream.config import BY_NAME, Settings
from millstream.core.tables import Tables
from millstream.dev import DevServer, DevSettings
from millstream.errors import ConfigError
from millstream.roles.process import tune_process
from millstream.sdk.app import App
from millstream.sdk.outside.client import Client
from millstream.telemetry import setup_logging

REPLACED_GRACE_S: Final = 2.0
"""How long steps under way may go on when changed code waits for its turn: those that take longer run once more."""
TICK_S: Final = 0.5
MEANINGLESS: Final = {"tick": "nothing here works by ticks"}


def dev(settings: Settings, targets: Sequence[str], standby: str = "") -> int:
    """Serve until told to stop; 0. With ``--smoke`` until the feed's runs settled; 0 or 1.

    ``standby`` is what a reloader says to a server of its own.
    """
    reloaded = Standby.of(standby) if standby else None
    feed = settings.text("feed")
    if settings.switch("smoke") and not feed:
        raise ConfigError("--smoke needs a --feed: it ends when the runs of the feed have.")
    if feed:
        with opened(feed):
            pass  # Complain before anything is started.
    setup_logging(level=logging.getLevelNamesMapping()[settings.text("log_level").upper()])
    for name, why in MEANINGLESS.items():
        if not settings.is_default(name):
            note(f"{BY_NAME[name].flag} changes nothing here: {why}")
    apps = load_apps(targets)
    say_problems(apps)
    tune_process()
    if reloaded is not None:
        reloaded.wait_for_turn()
        feed = feed if reloaded.is_first else ""
    with _data(settings) as data, asyncio.Runner(loop_factory=loop_factory()) as runner:
        made = server_settings(settings, data, targets, banner="DEV")
        if reloaded is not None:
            made = replace(made, listening=reloaded.listening)
        return runner.run(_Dev(apps, made, feed, settings.switch("smoke"), reloaded).run())


@contextlib.contextmanager
def _data(settings: Settings) -> Iterator[Path]:
    """The data directory; a smoke run gets one of its own unless one was named."""
    if settings.switch("smoke") and settings.is_default("data"):
        with tempfile.TemporaryDirectory(prefix="millstream-smoke-") as directory:
            yield Path(directory)
    else:
        yield Path(settings.text("data"))


@dataclass(slots=True)
class _Dev:
    """One ``millstream dev`` from start to stop."""

    apps: Sequence[App]
    settings: DevSettings
    feed: str
    smoke: bool
    standby: Standby | None = None
    grace_s: float = GRACE_S

    async def run(self) -> int:
        """Start, serve, stop."""
        stop_requested = asyncio.Event()
        on_signals(stop_requested, GRACE_S)
        self._make_room_when_told(stop_requested)
        printer = RunPrinter()
        server = DevServer(self.apps, self.settings, on_facts=printer.on_facts, on_unheard=printer.on_unheard)
        try:
            if not await started_before(stop_requested, server.start()):
                return INTERRUPTED
            self._greet(server)
            assert server.worker is not None, "the server has started"
            for lane in server.worker.lanes.values():
                _learn(printer, lane.tables.durable)
            return await self._serve(server, printer, stop_requested)
        finally:
            await server.stop(self.grace_s)
            printer.close()

    def _make_room_when_told(self, stop_requested: asyncio.Event) -> None:
        if self.standby is None:
            return
        loop = asyncio.get_running_loop()

        def stop() -> None:
            self.grace_s = REPLACED_GRACE_S
            loop.call_soon_threadsafe(stop_requested.set)

        self.standby.on_replaced(stop)

    async def _serve(self, server: DevServer, printer: RunPrinter, stop_requested: asyncio.Event) -> int:
        """Until a signal, the end of a smoke run, or what stopped a lane, which is raised."""
        loop = asyncio.get_running_loop()
        lanes = loop.create_task(server.wait())
        stopping = loop.create_task(stop_requested.wait())
        ticking = loop.create_task(_tick(printer))
        working = loop.create_task(self._work(server, printer)) if self.feed else None
        ends: set[asyncio.Task[Any]] = {lanes, stopping} | ({working} if working is not None else set())
        try:
            while True:
                done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                if working is not None and working in done:
                    if self.smoke:
                        return working.result()
                    ends.discard(working)
                if lanes in done or stopping in done:
                    # A smoke run that was told to stop has not shown anything.
                    return INTERRUPTED if self.smoke else OK
        finally:
            tasks = [*ends, ticking]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, server: DevServer, printer: RunPrinter) -> int:
        assert server.served is not None, "the server has started"
        key = min(self.settings.event_keys, default=None)
        async with Client(reached_at(server), key) as client:
            await send_feed(self.feed, client)
        return await smoke(server, printer) if self.smoke else OK

    def _greet(self, server: DevServer) -> None:
        let_functions_send(server)
        note(f"{serving(self.apps, server)}, process {os.getpid()}. Ctrl-C stops.")
        if not self.apps and not self.settings.sync.urls:
            looked = "apps over HTTP are looked for" if self.settings.sync.discover else "no app was named"
            note(f"{looked}; name one with: millstream dev -u URL, or millstream dev MODULE:APP")


def _learn(printer: RunPrinter, tables: Tables) -> None:
    for _, run in tables.runs.scan(limit=OPEN_RUNS_KNOWN_MAX):
        held = tables.events.get(run.events[0]) if run.events else None
        printer.learn(run, held.event.name if held is not None else "")


async def _tick(printer: RunPrinter) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        printer.tick()
