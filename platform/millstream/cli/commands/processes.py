"""Commands that are processes of a group, and what is asked before they are started."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from millstream.cli.commands.groups import app, config
from millstream.cli.support.flags import settings as takes
from millstream.cli.support.kafka_flags import KAFKA, REGISTRY, SHAPE
from millstream.cli.support.remote_flags import SIGNING, SYNC
from millstream.config import SETTINGS, Settings

Apps = Annotated[list[str], typer.Argument(metavar="MODULE:APP…", show_default=False)]
NoApps = Annotated[list[str] | None, typer.Argument(metavar="[MODULE:APP…]", show_default=False)]
DEV: Final = (
    "port", "host", "data", "lanes", "group", "executors", "durability", *REGISTRY[:-1], "retry_interval", "event_keys",
    "insecure_no_event_key", "allowed_hosts", "public_url", "events_per_s", "history", "trim_lag", "accept_loss",
    "reload", "feed", "smoke", "log_level", *SIGNING, *SYNC, "no_discovery", "tick",
)  # fmt: skip
SERVE: Final = (
    "port", "host", "data", "lanes", "group", "executors", "durability", *REGISTRY[:-1], "retry_interval", "event_keys",
    "insecure_no_event_key", "allowed_hosts", "public_url", "events_per_s", "history", "trim_lag", "accept_loss",
    "endpoint_networks", "log_level", *SIGNING, *SYNC,
)  # fmt: skip
WORKER: Final = (
    *KAFKA, "group", "lanes", "events_topic", "name", "data", "register", "executors", "host", "probes_port", "grace",
    "public_url", "history", "trim_lag", "accept_loss", "retry_interval", *REGISTRY[:-1], "endpoint_networks",
    "log_level", *SIGNING,
)  # fmt: skip
SERVER: Final = (
    *KAFKA, "group", "lanes", "events_topic", "name", "data", "executors", "host", "port", "probes_port", "grace",
    "public_url", "history", "trim_lag", "accept_loss", "retry_interval", "event_keys", "insecure_no_event_key",
    "allowed_hosts", "events_per_s", *REGISTRY[:-1], "history_url", "shutdown_delay", "endpoint_networks",
    "log_level", *SIGNING, *SYNC,
)  # fmt: skip
HISTORY: Final = (
    *KAFKA, "group", "lanes", "events_topic", "data", "history", "host", "port", "event_keys",
    "insecure_no_event_key", "allowed_hosts", "events_per_s", "schemas", "shutdown_delay", "log_level",
)  # fmt: skip
API: Final = (
    *KAFKA, "group", "lanes", "events_topic", "host", "port", "event_keys", "insecure_no_event_key",
    "allowed_hosts", "events_per_s", *REGISTRY[:-1], "history_url", "shutdown_delay", "endpoint_networks",
    "log_level", *SIGNING, *SYNC,
)  # fmt: skip


@app.command()
@takes(*DEV)
def dev(
    settings: Settings,
    *,
    apps: NoApps = None,
    standby: Annotated[str, typer.Option("--standby", hidden=True)] = "",
) -> int:
    """Run apps in one process: an embedded log, every lane, the HTTP API. Takes up changed code by itself."""
    from millstream.cli.support.open_door import refuse_open_host

    refuse_open_host(settings)
    if settings.switch("reload") and apps and not (standby or settings.switch("smoke")):
        from millstream.cli.support.reloading import reload_and_serve

        return reload_and_serve(sys.argv[1:], settings.text("host"), settings.number("port", 0))
    from millstream.cli.processes.dev import dev as run

    return run(settings, apps or (), standby)


@app.command()
@takes(*SERVE)
def serve(settings: Settings, *, apps: NoApps = None) -> int:
    """Serve apps on one machine in production: as dev, with event keys, from the same data directory."""
    from millstream.cli.processes.serve import serve as run

    return run(settings, apps or ())


@app.command()
@takes(*WORKER)
def worker(settings: Settings, *, apps: Apps) -> int:
    """Own lanes of a group on Kafka and run functions. Start as many as there is work for."""
    from millstream.cli.processes.worker import worker as run

    return run(settings, apps)


@app.command()
@takes(*SERVER)
def server(settings: Settings) -> int:
    """Own lanes of a group on Kafka for apps over HTTP; with --port it takes events and requests, too."""
    from millstream.cli.processes.server import server as run

    return run(settings)


@app.command()
@takes(*HISTORY)
def history(settings: Settings) -> int:
    """Follow a group on Kafka into an index, and show its runs and events."""
    from millstream.cli.processes.history import history as run

    return run(settings)


@app.command()
@takes(*API)
def api(settings: Settings) -> int:
    """Take events and requests for a group on Kafka. Start as many as there are clients for."""
    from millstream.cli.processes.api import api as run

    return run(settings)


@app.command()
@takes("output")
def check(settings: Settings, *, apps: Apps) -> int:
    """Load apps and name what is wrong with them. Exit code 6 if there is, 0 for warnings, 1 where one cannot load."""
    from millstream.cli.processes.check import check as run

    return run(settings, apps)


@app.command()
@takes(*SHAPE, *KAFKA, "data", *REGISTRY)
def doctor(
    settings: Settings,
    *,
    role: Annotated[
        str, typer.Option("--role", help="Whose access to check: worker, api, history or operator.")
    ] = "worker",
) -> int:
    """Name everything around a process of a group on Kafka that is not as it must be. Exit code 6 if there is."""
    from millstream.cli.processes.doctor import examine

    return examine(settings, role)


@app.command()
@takes("output")
def init(
    settings: Settings,
    *,
    folder: Annotated[str, typer.Argument(metavar="[FOLDER]", help="Where to write it.", show_default=False)] = ".",
) -> int:
    """Write a first app with its test."""
    from millstream.cli.processes.init import init as run

    return run(settings, folder)


@app.command()
def version() -> None:
    """Print the version."""
    from millstream.cli.processes.version import print_version

    print_version()


@config.command("show")
@takes("output")
def config_show(settings: Settings) -> int:
    """Print every setting, its value, and where it came from."""
    from millstream.cli.support.output import show_rows

    rows = (
        {
            "setting": one.name,
            "value": one.shown(settings.value(one.name)),
            "origin": settings.origins[one.name],
            "variable": one.variable,
            "doc": one.doc,
        }
        for one in SETTINGS
    )
    show_rows(settings, rows, ("setting", "value", "origin", "variable"))
    return 0
