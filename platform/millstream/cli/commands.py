"""Every command with its arguments. What a command does is in the module of its name, imported only when it is called.

Add a command: a function here; the settings it takes are named in ``@settings``, other options are its parameters.
"""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from millstream.cli.support.flags import settings as takes
from millstream.cli.support.kafka_flags import KAFKA, SHAPE
from millstream.cli.support.usage import parsed
from millstream.config import SETTINGS, Settings

CLIENT: Final = ("url", "output")
REGISTRY: Final = ("schemas", "registry", "registry_user", "registry_password_file", "registry_ca", "output")
LIMIT_MAX: Final = 100_000
LANES: Final = ("group", *KAFKA)

app = typer.Typer(
    name="millstream",
    help="Durable Python functions on events. Every setting has a MILLSTREAM_* variable: millstream config show.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
events = typer.Typer(help="Send events.", no_args_is_help=True, rich_markup_mode=None)
runs = typer.Typer(help="Look at runs, and cancel them.", no_args_is_help=True, rich_markup_mode=None)
signals = typer.Typer(help="Send signals to runs that wait for them.", no_args_is_help=True, rich_markup_mode=None)
functions = typer.Typer(help="Start functions, by hand or on records.", no_args_is_help=True, rich_markup_mode=None)
scans = typer.Typer(help="Look at backfills, and cancel them.", no_args_is_help=True, rich_markup_mode=None)
dead_letters = typer.Typer(
    help="Look at records that could not be taken, and take one again.", no_args_is_help=True, rich_markup_mode=None
)
lanes = typer.Typer(
    help="Look into lanes: of a data directory, or on Kafka with --brokers; also of one in use.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
schemas = typer.Typer(
    help="Avro schemas of events, as files and in a registry.", no_args_is_help=True, rich_markup_mode=None
)
topics = typer.Typer(help="The topics of a group on Kafka.", no_args_is_help=True, rich_markup_mode=None)
config = typer.Typer(help="The settings.", no_args_is_help=True, rich_markup_mode=None)
GROUPS: Final = {
    "events": events, "runs": runs, "functions": functions, "scans": scans, "dead-letters": dead_letters,
    "signals": signals, "topics": topics, "lanes": lanes, "schemas": schemas, "config": config,
}  # fmt: skip
for name, group in GROUPS.items():
    app.add_typer(group, name=name)


def statuses() -> list[str]:
    """What a shell offers behind ``--status``."""
    from millstream.cli.support.arguments import STATUSES

    return list(STATUSES)


Apps = Annotated[list[str], typer.Argument(metavar="MODULE:APP…", show_default=False)]
NoApps = Annotated[list[str] | None, typer.Argument(metavar="[MODULE:APP…]", show_default=False)]
LetterId = Annotated[str, typer.Argument(metavar="ID", show_default=False)]
SignalName = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
SignalData = Annotated[str, typer.Argument(metavar="[DATA]", help="JSON, @file or -.", show_default=False)]
RunId = Annotated[str, typer.Argument(metavar="RUN", show_default=False)]
DEV: Final = (
    "port", "host", "data", "lanes", "group", "executors", "durability", *REGISTRY[:-1], "retry_interval", "event_keys",
    "insecure_no_event_key", "allowed_hosts", "events_per_s", "history", "trim_lag", "accept_loss", "reload", "feed",
    "smoke", "log_level", "no_discovery", "no_poll", "tick",
)  # fmt: skip
SERVE: Final = (
    "port", "host", "data", "lanes", "group", "executors", "durability", *REGISTRY[:-1], "retry_interval", "event_keys",
    "insecure_no_event_key", "allowed_hosts", "events_per_s", "history", "trim_lag", "accept_loss", "log_level",
)  # fmt: skip
WORKER: Final = (
    *KAFKA, "group", "lanes", "events_topic", "name", "data", "register", "executors", "host", "probes_port", "grace",
    "history", "trim_lag", "accept_loss", "retry_interval", *REGISTRY[:-1], "log_level",
)  # fmt: skip
HISTORY: Final = (
    *KAFKA, "group", "lanes", "events_topic", "data", "history", "host", "port", "event_keys",
    "insecure_no_event_key", "allowed_hosts", "events_per_s", "schemas", "log_level",
)  # fmt: skip
API: Final = (
    *KAFKA, "group", "lanes", "events_topic", "host", "port", "event_keys", "insecure_no_event_key",
    "allowed_hosts", "events_per_s", *REGISTRY[:-1], "history_url", "log_level",
)  # fmt: skip


def run_command() -> int:
    """Parse the arguments and run; ends the process with the command's exit code, 2 for wrong usage."""
    return parsed(app)


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
    from millstream.cli.dev import dev as run

    return run(settings, apps or (), standby)


@app.command()
@takes(*SERVE)
def serve(settings: Settings, *, apps: Apps) -> int:
    """Serve apps on one machine in production: as dev, with event keys, from the same data directory."""
    from millstream.cli.serve import serve as run

    return run(settings, apps)


@app.command()
@takes(*WORKER)
def worker(settings: Settings, *, apps: Apps) -> int:
    """Own lanes of a group on Kafka and run functions. Start as many as there is work for."""
    from millstream.cli.worker import worker as run

    return run(settings, apps)


@app.command()
@takes(*HISTORY)
def history(settings: Settings) -> int:
    """Follow a group on Kafka into an index, and show its runs and events."""
    from millstream.cli.history import history as run

    return run(settings)


@app.command()
@takes(*API)
def api(settings: Settings) -> int:
    """Take events and requests for a group on Kafka. Start as many as there are clients for."""
    from millstream.cli.api import api as run

    return run(settings)


@app.command()
@takes("output")
def check(settings: Settings, *, apps: Apps) -> int:
    """Load apps and name what is wrong with them. Exit code 6 if there is, 0 for warnings, 1 where one cannot load."""
    from millstream.cli.check import check as run

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
    """Name everything around a process of the group that is not as it must be. Exit code 6 if there is."""
    from millstream.cli.doctor import examine

    return examine(settings, role)


@app.command()
@takes("output")
def init(
    settings: Settings,
    *,
    folder: Annotated[str, typer.Argument(metavar="[FOLDER]", help="Where to write it.", show_default=False)] = ".",
) -> int:
    """Write a first app with its test."""
    from millstream.cli.init import init as run

    return run(settings, folder)


@app.command()
def version() -> None:
    """Print the version."""
    from millstream.cli.version import print_version

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


@events.command("send")
@takes(*CLIENT, "event_key")
def events_send(
    settings: Settings,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME|@FILE|-", show_default=False)],
    data: Annotated[str | None, typer.Option("--data", help="JSON, @file or -; jsonl sends one event a line.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="The event's id: a second one of it starts nothing.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Events of one key stay in order.")] = None,
    ts: Annotated[int | None, typer.Option("--ts", help="Unix milliseconds; in the future: start then.")] = None,
) -> int:
    """Send one event, or all events of a jsonl file; prints their ids once they are durable."""
    from millstream.cli.events import Extras, send

    return send(settings, name, data, Extras(id=id, key=key, ts=ts))


@runs.command("list")
@takes(*CLIENT)
def runs_list(
    settings: Settings,
    *,
    status: Annotated[
        list[str] | None, typer.Option("--status", help="Queued, Running, Sleeping, Failed, …", autocompletion=statuses)
    ] = None,
    function: Annotated[str, typer.Option("--function", help="A function's id, <app>-<id>.")] = "",
    app_id: Annotated[str, typer.Option("--app", help="An app's id.")] = "",
    event: Annotated[str, typer.Option("--event", help="The id of the event that started it.")] = "",
    event_name: Annotated[str, typer.Option("--event-name")] = "",
    since: Annotated[str, typer.Option("--from", help="Queued at or after, such as 2026-01-31T12:00:00Z.")] = "",
    until: Annotated[str, typer.Option("--to", help="Queued before.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=LIMIT_MAX)] = 50,
) -> int:
    """List the newest runs."""
    from millstream.cli.runs import list_runs
    from millstream.cli.support.arguments import statuses_of, time_of

    query = [("status", one) for one in statuses_of(status or ())]
    query += [("function", function), ("app", app_id), ("event", event), ("event_name", event_name)]
    return list_runs(settings, [*query, ("from", time_of(since, "--from")), ("to", time_of(until, "--to"))], limit)


@runs.command("get")
@takes(*CLIENT)
def runs_get(settings: Settings, *, run: RunId) -> int:
    """Show one run with its steps, attempts and errors."""
    from millstream.cli.runs import get

    return get(settings, run)


@runs.command("watch")
@takes(*CLIENT, "timeout")
def runs_watch(settings: Settings, *, run: RunId) -> int:
    """Print a run's steps as they happen, until it ends. Exit code 1 if it failed, 7 on --timeout."""
    from millstream.cli.runs import watch

    return watch(settings, run)


@runs.command("cancel")
@takes(*CLIENT, "event_key")
def runs_cancel(
    settings: Settings,
    *,
    run: Annotated[list[str], typer.Argument(metavar="RUN…", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> int:
    """End runs from outside."""
    from millstream.cli.runs import cancel

    return cancel(settings, run, yes=yes, dry_run=dry_run)


@signals.command("send")
@takes(*CLIENT, "event_key")
def signals_send(settings: Settings, *, name: SignalName, data: SignalData = "null") -> int:
    """Send a signal to the run that waits for it. Exit code 4 where none does."""
    from millstream.cli.signals import send

    return send(settings, name, data)


@functions.command("invoke")
@takes(*CLIENT, "event_key", "timeout")
def functions_invoke(
    settings: Settings,
    *,
    function: Annotated[str, typer.Argument(metavar="FUNCTION", show_default=False)],
    data: Annotated[str | None, typer.Option("--data", help="A JSON object, @file or -: the event's data.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Print its steps until it ends, as runs watch does.")] = False,
) -> int:
    """Start a function by its id, <app>-<id>, whatever it subscribes to."""
    from millstream.cli.functions import invoke

    return invoke(settings, function, data, until_it_ends=watch)


@functions.command("backfill")
@takes(*CLIENT, "event_key")
def functions_backfill(
    settings: Settings,
    *,
    function: Annotated[str, typer.Argument(metavar="FUNCTION", show_default=False)],
    topic: Annotated[str, typer.Option("--topic", help="The topic to read.", show_default=False)],
    start: Annotated[str, typer.Option("--from", help='From this time on, or "earliest".')] = "earliest",
    end: Annotated[str, typer.Option("--to", help='Up to this time, or "latest".')] = "latest",
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be read.")] = False,
) -> int:
    """Start a function on the records that a topic holds already, also on those it has started on before."""
    from millstream.cli.scans import backfill
    from millstream.cli.support.arguments import time_of

    start, end = time_of(start, "--from", ("earliest",)), time_of(end, "--to", ("latest",))
    wanted = {"topic": topic, "from": start, "to": end, "dry_run": dry_run}
    return backfill(settings, function, wanted, yes=yes and not dry_run)


@scans.command("list")
@takes(*CLIENT)
def scans_list(settings: Settings) -> int:
    """List backfills and catch-ups with how far they are."""
    from millstream.cli.scans import list_scans

    return list_scans(settings)


@scans.command("cancel")
@takes(*CLIENT, "event_key")
def scans_cancel(
    settings: Settings, *, scan: Annotated[str, typer.Argument(metavar="SCAN", show_default=False)]
) -> int:
    """End a scan. The runs that it has started go on."""
    from millstream.cli.scans import cancel

    return cancel(settings, scan)


@topics.command("plan")
@takes(*SHAPE, *KAFKA, "accept_loss", "output")
def topics_plan(
    settings: Settings,
    *,
    acls: Annotated[bool, typer.Option("--acls", help="Print what each role must be allowed instead.")] = False,
    source: Annotated[list[str] | None, typer.Option("--source", help="--acls: a topic that functions read.")] = None,
    target: Annotated[list[str] | None, typer.Option("--target", help="--acls: a topic that steps publish to.")] = None,
) -> int:
    """Say what the topics of the group lack. Exit code 6 if something is unsafe."""
    from millstream.cli.topics import show_acls, show_plan

    return show_acls(settings, source or (), target or ()) if acls else show_plan(settings)


@topics.command("apply")
@takes(*SHAPE, *KAFKA, "accept_loss", "output")
def topics_apply(
    settings: Settings,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Alter settings of topics that exist, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> int:
    """Create the topics that are missing; never deletes, never shrinks. Exit code 6 if something unsafe is left."""
    from millstream.cli.topics import carry_out

    return carry_out(settings, yes=yes, dry_run=dry_run)


@lanes.command("list")
@takes("data", *LANES, "output")
def lanes_list(settings: Settings) -> int:
    """Show who owns each lane and since when, its lag, its journal's length, its last checkpoint."""
    from millstream.cli.lanes.listing import list_lanes

    return list_lanes(settings)


@lanes.command("inspect")
@takes("data", *LANES, "output")
def lanes_inspect(settings: Settings) -> int:
    """Show each lane's journal, owner, open runs, timers and lag."""
    from millstream.cli.lanes.inspection import inspect

    return inspect(settings)


@lanes.command("verify")
@takes("data", *LANES, "output")
def lanes_verify(settings: Settings) -> int:
    """Check every stored byte and every open run. Exit code 6 with what was found."""
    from millstream.cli.lanes.inspection import verify

    return verify(settings)


@dead_letters.command("list")
@takes(*CLIENT)
def dead_letters_list(
    settings: Settings, *, limit: Annotated[int, typer.Option("--limit", min=1, max=LIMIT_MAX)] = 50
) -> int:
    """List the newest dead letters with their reasons."""
    from millstream.cli.dead_letters import list_letters

    return list_letters(settings, limit)


@dead_letters.command("show")
@takes(*CLIENT)
def dead_letters_show(settings: Settings, *, id: LetterId) -> int:
    """Show one dead letter with its key, value and headers."""
    from millstream.cli.dead_letters import show

    return show(settings, id)


@dead_letters.command("redrive")
@takes(*CLIENT, "event_key")
def dead_letters_redrive(
    settings: Settings,
    *,
    id: LetterId,
    function: Annotated[str, typer.Option("--function", help="Only this one, <app>-<id>.")] = "",
) -> int:
    """Start the functions of its topic on the record once more, read where it lies."""
    from millstream.cli.dead_letters import redrive

    return redrive(settings, id, function)


@schemas.command("list")
@takes(*REGISTRY)
def schemas_list(settings: Settings) -> int:
    """List the schemas of the folders, and what the registry has of them."""
    from millstream.cli.schemas import list_schemas

    return list_schemas(settings)


@schemas.command("check")
@takes(*REGISTRY)
def schemas_check(
    settings: Settings,
    *,
    against: Annotated[list[str] | None, typer.Option("--against", help="A folder of earlier schemas.")] = None,
) -> int:
    """Check that each schema reads all that its earlier versions wrote. Exit code 6 if one does not."""
    from millstream.cli.schemas import check as run

    return run(settings, against or ())


@schemas.command("push")
@takes(*REGISTRY)
def schemas_push(
    settings: Settings,
    *,
    names: Annotated[list[str] | None, typer.Argument(metavar="[EVENT…]", show_default=False)] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> int:
    """Register new and changed schemas, once all of them are compatible."""
    from millstream.cli.schemas import push

    return push(settings, names or (), yes=yes, dry_run=dry_run)


@schemas.command("gen")
@takes("schemas")
def schemas_gen(
    settings: Settings,
    *,
    target: Annotated[str, typer.Argument(metavar="MODULE:APP|EVENT", show_default=False)],
    out: Annotated[
        str, typer.Option("--out", help="Write there instead of printing: a folder, or for Python a file.")
    ] = "",
) -> int:
    """Make schemas of the types an app declares, or Python classes of an event's schema."""
    from millstream.cli.schemas import generate

    return generate(settings, target, out)
