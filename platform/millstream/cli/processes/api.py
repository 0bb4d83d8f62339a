"""``millstream api``: the door of a group on Kafka, until told to stop."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from millstream import __version__
from millstream.cli.support.kafka_group import group_of
from millstream.cli.support.loops import loop_factory
from millstream.cli.support.open_door import refuse_open_host
from millstream.cli.support.remote_apps import endpoint_settings_of, environments_of, signing_keys_of, sync_options_of
from millstream.cli.support.serving import serve
from millstream.config import Settings
from millstream.roles.api import ApiRole, ApiSettings
from millstream.roles.process import tune_process
from millstream.schema_registry.boundary import Boundary
from millstream.telemetry import setup_logging

GRACE_S: Final = 5.0


def api_settings(settings: Settings) -> ApiSettings:
    """The api that flags and variables ask for."""
    signing = signing_keys_of(settings)
    return ApiSettings(
        group=group_of(settings, ()),
        host=settings.text("host"),
        port=settings.number("port", 0),
        event_keys=frozenset(settings.texts("event_keys")),
        events_per_s=settings.number("events_per_s", 0),
        allowed_hosts=frozenset(settings.texts("allowed_hosts")),
        history_url=settings.text("history_url"),
        boundary=Boundary.of(settings),
        shutdown_delay_ms=settings.number("shutdown_delay", 0),
        signing=signing,
        environments=environments_of(settings, signing),
        sync=sync_options_of(settings, discover=False),
        guard=endpoint_settings_of(settings, is_dev=False).guard,
        version=__version__,
    )


def api(settings: Settings) -> int:
    """Serve until told to stop; 0."""
    refuse_open_host(settings)
    setup_logging(level=logging.getLevelNamesMapping()[settings.text("log_level").upper()])
    tune_process()
    role = ApiRole(api_settings(settings))
    group = role.settings.group

    async def run() -> int:
        def greeting() -> str:
            assert role.served is not None, "the api has started"
            return f"taking events for group {group.group} at {role.served.url}"

        return await serve(role, asyncio.Event().wait(), GRACE_S, greeting)  # type: ignore[arg-type]

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(run())
