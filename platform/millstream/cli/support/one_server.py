"""What ``millstream dev`` and ``millstream serve`` share: a server's settings, its address, its environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from millstream import __version__
from millstream.api.sockets import listening
from millstream.api.sockets.listening import is_every_address
from millstream.cli.support.output import counted
from millstream.cli.support.remote_apps import (
    endpoint_settings_of,
    environments_of,
    signing_keys_of,
    sync_options_of,
)
from millstream.config import Settings
from millstream.dev import DevServer, DevSettings
from millstream.lane.settings import LaneSettings
from millstream.model import limits
from millstream.schema_registry.boundary import Boundary
from millstream.sdk.app import App

GRACE_S: Final = 10.0
"""How long steps under way may go on after the server was told to stop."""
SENDERS: Final = ("MILLSTREAM_URL", "MILLSTREAM_EVENT_KEY")


def server_settings(settings: Settings, data: Path, targets: Sequence[str], banner: str) -> DevSettings:
    """The server that flags and variables ask for; with a ``banner`` it is a dev server, which looks for apps."""
    signing = signing_keys_of(settings)
    discover = bool(banner) and not settings.switch("no_discovery")
    return DevSettings(
        data=data,
        host=settings.text("host"),
        port=settings.number("port", 0),
        lanes=settings.number("lanes", 0),
        group=settings.text("group"),
        durability=settings.text("durability"),
        retry_interval_ms=settings.number("retry_interval", -1),
        event_keys=frozenset(settings.texts("event_keys")),
        events_per_s=settings.number("events_per_s", 0),
        allowed_hosts=frozenset(settings.texts("allowed_hosts")),
        public_url=settings.text("public_url") or (None if banner else ""),
        executors=settings.number("executors", 0),
        targets=tuple(targets),
        boundary=Boundary.of(settings),
        endpoints=endpoint_settings_of(settings, is_dev=bool(banner)),
        lane=LaneSettings(
            history_ms=settings.number("history", limits.DAY_MS), trim_lag_ms=settings.number("trim_lag", 0)
        ),
        version=__version__,
        banner=banner,
        signing=signing,
        environments=environments_of(settings, signing),
        sync=sync_options_of(settings, discover=discover),
        accept_loss=settings.switch("accept_loss"),
    )


def let_functions_send(server: DevServer) -> None:
    """Functions that send through their app reach this server, whatever its port is."""
    os.environ.setdefault("MILLSTREAM_URL", reached_at(server))
    if server.settings.event_keys:
        os.environ.setdefault("MILLSTREAM_EVENT_KEY", min(server.settings.event_keys))
    if server.pool is not None:
        server.pool.put_environ({name: os.environ[name] for name in SENDERS if name in os.environ})


def reached_at(server: DevServer) -> str:
    """The URL for this machine, also where the server listens on every address."""
    assert server.served is not None, "the server has started"
    return listening.reached_at(server.settings.host, server.served.port)


def serving(apps: Sequence[App], server: DevServer) -> str:
    """What is served, and where."""
    functions = sum(len(app.functions) for app in apps)
    what = f"{counted(len(apps), 'app')} with {counted(functions, 'function')}"
    where = f"{reached_at(server)}, and every other address of this machine"
    where = where if is_every_address(server.settings.host) else reached_at(server)
    return f"serving {what} at {where}, data in {server.settings.data}"
