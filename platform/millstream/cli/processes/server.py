"""``millstream server``: own lanes of a group on Kafka for apps over HTTP, with the api in the same process."""

from __future__ import annotations

import asyncio
import logging

from millstream.cli.processes.api import api_settings
from millstream.cli.processes.worker import worker_settings
from millstream.cli.support.loops import loop_factory
from millstream.cli.support.open_door import refuse_open_host
from millstream.cli.support.serving import serve
from millstream.config import Settings
from millstream.roles.process import tune_process
from millstream.roles.server import ServerRole
from millstream.telemetry import setup_logging


def server(settings: Settings) -> int:
    """Serve until told to stop; 0."""
    with_api = not settings.is_default("port")
    if with_api:
        refuse_open_host(settings)
    setup_logging(level=logging.getLevelNamesMapping()[settings.text("log_level").upper()])
    tune_process()
    role = ServerRole(worker_settings(settings, (), ()), api_settings(settings) if with_api else None)
    group = role.worker.settings.group

    async def run() -> int:
        def greeting() -> str:
            working = f"working for group {group.group} at {group.kafka.brokers}, data in {settings.text('data')}"
            return f"{working}; taking events at {role.api.served.url}" if role.api and role.api.served else working

        return await serve(role, role.wait(), settings.number("grace", 0) / 1000, greeting)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(run())
