"""``millstream worker``: own lanes of a group on Kafka and run functions, until told to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from millstream import __version__
from millstream.cli.support.kafka_group import group_of
from millstream.cli.support.loading import load_apps
from millstream.cli.support.loops import loop_factory
from millstream.cli.support.problems import say_problems
from millstream.cli.support.remote_apps import endpoint_settings_of
from millstream.cli.support.serving import serve
from millstream.config import Settings
from millstream.lane.settings import LaneSettings
from millstream.model import limits
from millstream.roles.process import tune_process
from millstream.roles.worker import PROBES_PORT, WorkerRole, WorkerSettings
from millstream.schema_registry.boundary import Boundary
from millstream.sdk.app import App
from millstream.telemetry import setup_logging

HISTORY_DEFAULT_MS = 7 * limits.DAY_MS


def worker_settings(settings: Settings, apps: Sequence[App], targets: Sequence[str]) -> WorkerSettings:
    """The worker that flags and variables ask for."""
    history_ms = HISTORY_DEFAULT_MS if settings.is_default("history") else settings.number("history", 0)
    return WorkerSettings(
        group=group_of(settings, apps),
        name=settings.text("name"),
        data=Path(settings.text("data")),
        host=settings.text("host"),
        port=settings.number("probes_port", PROBES_PORT),
        register=settings.text("register"),
        public_url=settings.text("public_url"),
        retry_interval_ms=settings.number("retry_interval", -1),
        boundary=Boundary.of(settings),
        endpoints=endpoint_settings_of(settings, is_dev=False),
        executors=settings.number("executors", 0),
        targets=tuple(targets),
        lane=LaneSettings(history_ms=history_ms, trim_lag_ms=settings.number("trim_lag", 0)),
        version=__version__,
        accept_loss=settings.switch("accept_loss"),
    )


def worker(settings: Settings, targets: Sequence[str]) -> int:
    """Serve until told to stop; 0."""
    setup_logging(level=logging.getLevelNamesMapping()[settings.text("log_level").upper()])
    apps = load_apps(targets)
    say_problems(apps)
    tune_process()
    role = WorkerRole(apps, worker_settings(settings, apps, targets))
    group = role.settings.group
    greeting = f"working for group {group.group} at {group.kafka.brokers}, data in {settings.text('data')}"

    async def run() -> int:
        return await serve(role, role.wait(), settings.number("grace", 0) / 1000, greeting)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(run())
