"""``millstream history``: the read side of a group on Kafka, until told to stop."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from millstream import __version__
from millstream.cli.support.kafka_group import group_of
from millstream.cli.support.loops import loop_factory
from millstream.cli.support.open_door import refuse_open_host
from millstream.cli.support.serving import serve
from millstream.config import Settings
from millstream.roles.history import KEPT_MS, HistoryRole, HistorySettings
from millstream.roles.process import tune_process
from millstream.telemetry import setup_logging
from millstream.wire.schemas import EventSchemas

GRACE_S: Final = 5.0
DATA: Final = ".millstream-history"


def history(settings: Settings) -> int:
    """Serve until told to stop; 0."""
    refuse_open_host(settings)
    setup_logging(level=logging.getLevelNamesMapping()[settings.text("log_level").upper()])
    tune_process()
    role = HistoryRole(
        HistorySettings(
            group=group_of(settings, ()),
            data=Path(DATA if settings.is_default("data") else settings.text("data")),
            host=settings.text("host"),
            port=settings.number("port", 0),
            retention_ms=KEPT_MS if settings.is_default("history") else settings.number("history", 0),
            event_keys=frozenset(settings.texts("event_keys")),
            events_per_s=settings.number("events_per_s", 0),
            allowed_hosts=frozenset(settings.texts("allowed_hosts")),
            schemas=EventSchemas.from_directories([Path(folder) for folder in settings.texts("schemas")]),
            shutdown_delay_ms=settings.number("shutdown_delay", 0),
            version=__version__,
        )
    )
    group, data = role.settings.group, role.settings.data

    async def run() -> int:
        def greeting() -> str:
            assert role.served is not None, "the history has started"
            return f"showing group {group.group} at {role.served.url}, index in {data}"

        return await serve(role, role.wait(), GRACE_S, greeting)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(run())
