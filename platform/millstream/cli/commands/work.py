"""Commands about the work: events, runs, signals, functions, scans, dead letters. They ask the HTTP API."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from millstream.cli.commands.groups import cancellations, dead_letters, events, functions, runs, scans, signals
from millstream.cli.support.flags import settings as takes
from millstream.config import Settings

CLIENT: Final = ("url", "output", "event_key")
LIMIT_MAX: Final = 100_000

LetterId = Annotated[str, typer.Argument(metavar="ID", show_default=False)]
SignalName = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
SignalData = Annotated[str, typer.Argument(metavar="[DATA]", help="JSON, @file or -.", show_default=False)]
CancellationId = Annotated[str, typer.Argument(metavar="ID", show_default=False)]
HeldRuns = Annotated[list[str] | None, typer.Argument(metavar="[RUN…]", show_default=False)]
OfFunction = Annotated[str, typer.Option("--function", help="All held runs of it: a function's id, <app>-<id>.")]
OfApp = Annotated[str, typer.Option("--app", help="All held runs of an app.")]
Since = Annotated[str, typer.Option("--from", help="All held runs queued then or later: 2026-01-31T12:00:00Z.")]
Until = Annotated[str, typer.Option("--to", help="All held runs queued before.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", show_default=False)]


def statuses() -> list[str]:
    """What a shell offers behind ``--status``."""
    from millstream.cli.support.arguments import STATUSES

    return list(STATUSES)


@events.command("send")
@takes(*CLIENT)
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
    from millstream.cli.work.events import Extras, send

    return send(settings, name, data, Extras(id=id, key=key, ts=ts))


@events.command("list")
@takes(*CLIENT)
def events_list(
    settings: Settings,
    *,
    name: Annotated[str, typer.Option("--name", help="Only events of this name.")] = "",
    since: Annotated[str, typer.Option("--from", help="Received at or after, such as 2026-01-31T12:00:00Z.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=LIMIT_MAX)] = 50,
) -> int:
    """List the newest events."""
    from millstream.cli.support.arguments import time_of
    from millstream.cli.work.received import list_events

    return list_events(settings, [("name", name), ("received_after", time_of(since, "--from"))], limit)


@events.command("get")
@takes(*CLIENT)
def events_get(
    settings: Settings,
    *,
    id: Annotated[str, typer.Argument(metavar="ID", help="The id that a send answered with, or the sender's own.")],
) -> int:
    """Show one event with the runs it started, and why functions did not start."""
    from millstream.cli.work.received import get

    return get(settings, id)


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
    from millstream.cli.support.arguments import statuses_of, time_of
    from millstream.cli.work.runs import list_runs

    query = [("status", one) for one in statuses_of(status or ())]
    query += [("function", function), ("app", app_id), ("event", event), ("event_name", event_name)]
    return list_runs(settings, [*query, ("from", time_of(since, "--from")), ("to", time_of(until, "--to"))], limit)


@runs.command("get")
@takes(*CLIENT)
def runs_get(settings: Settings, *, run: RunId) -> int:
    """Show one run with its steps, attempts and errors."""
    from millstream.cli.work.runs import get

    return get(settings, run)


@runs.command("watch")
@takes(*CLIENT, "timeout")
def runs_watch(settings: Settings, *, run: RunId) -> int:
    """Print a run's steps as they happen, until it ends. Exit code 1 if it failed, 7 on --timeout."""
    from millstream.cli.work.runs import watch

    return watch(settings, run)


@runs.command("cancel")
@takes(*CLIENT)
def runs_cancel(
    settings: Settings,
    *,
    run: Annotated[list[str] | None, typer.Argument(metavar="[RUN…]", show_default=False)] = None,
    function: Annotated[str, typer.Option("--function", help="All open runs of it instead, <app>-<id>.")] = "",
    since: Annotated[str, typer.Option("--from", help="With --function: queued at or after.")] = "",
    until: Annotated[str, typer.Option("--to", help='With --function: queued before; "now" at most.')] = "now",
    where: Annotated[str, typer.Option("--where", help="With --function: CEL, such as event.data.shop == 7.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="With --function: why; the runs show it.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> int:
    """End runs from outside: those named, or with --function all that fit, on every lane."""
    from millstream.cli.support.arguments import runs_meant, time_of
    from millstream.cli.work.cancellations import cancel_many
    from millstream.cli.work.runs import cancel

    filters = {"--from": since, "--to": until if until != "now" else "", "--where": where, "--reason": reason}
    if runs_meant(run or (), function, filters):
        return cancel(settings, run or (), yes=yes, dry_run=dry_run)
    wanted = {"function_id": function, "started_after": time_of(since, "--from"), "if": where, "reason": reason}
    wanted |= {"started_before": time_of(until, "--to", ("now",))}
    return cancel_many(settings, wanted, yes=yes, dry_run=dry_run)


@cancellations.command("list")
@takes(*CLIENT)
def cancellations_list(
    settings: Settings, *, limit: Annotated[int, typer.Option("--limit", min=1, max=LIMIT_MAX)] = 50
) -> int:
    """List the newest cancellations of many runs with how far they are."""
    from millstream.cli.work.cancellations import list_cancellations

    return list_cancellations(settings, limit)


@cancellations.command("stop")
@takes(*CLIENT)
def cancellations_stop(settings: Settings, *, id: CancellationId) -> int:
    """Stop a cancellation. The runs that it has cancelled stay so."""
    from millstream.cli.work.cancellations import stop

    return stop(settings, id)


@runs.command("resume")
@takes(*CLIENT)
def runs_resume(
    settings: Settings,
    *,
    run: HeldRuns = None,
    function: OfFunction = "",
    app_id: OfApp = "",
    since: Since = "",
    until: Until = "",
    yes: Yes = False,
    dry_run: DryRun = False,
) -> int:
    """Try held runs again, with a fresh set of attempts."""
    from millstream.cli.work.held import decide_held

    return decide_held(settings, "resume", run or (), (function, app_id, since, until), yes=yes, dry_run=dry_run)


@runs.command("fail")
@takes(*CLIENT)
def runs_fail(
    settings: Settings,
    *,
    run: HeldRuns = None,
    function: OfFunction = "",
    app_id: OfApp = "",
    since: Since = "",
    until: Until = "",
    yes: Yes = False,
    dry_run: DryRun = False,
) -> int:
    """Let held runs fail, as they would have: a held step raises StepError in its function, which may catch it."""
    from millstream.cli.work.held import decide_held

    return decide_held(settings, "fail", run or (), (function, app_id, since, until), yes=yes, dry_run=dry_run)


@signals.command("send")
@takes(*CLIENT)
def signals_send(settings: Settings, *, name: SignalName, data: SignalData = "null") -> int:
    """Send a signal to the run that waits for it. Exit code 4 where none does."""
    from millstream.cli.work.signals import send

    return send(settings, name, data)


@functions.command("list")
@takes(*CLIENT)
def functions_list(settings: Settings) -> int:
    """List the functions that are registered, with what they declare."""
    from millstream.cli.work.functions import list_functions

    return list_functions(settings)


@functions.command("get")
@takes(*CLIENT)
def functions_get(
    settings: Settings, *, function: Annotated[str, typer.Argument(metavar="FUNCTION", show_default=False)]
) -> int:
    """Show who runs, queues and is kept at a function's limits, by value of the key: the longest queues first."""
    from millstream.cli.work.functions import get

    return get(settings, function)


@functions.command("invoke")
@takes(*CLIENT, "timeout")
def functions_invoke(
    settings: Settings,
    *,
    function: Annotated[str, typer.Argument(metavar="FUNCTION", show_default=False)],
    data: Annotated[str | None, typer.Option("--data", help="A JSON object, @file or -: the event's data.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Print its steps until it ends, as runs watch does.")] = False,
) -> int:
    """Start a function by its id, <app>-<id>, whatever it subscribes to."""
    from millstream.cli.work.functions import invoke

    return invoke(settings, function, data, until_it_ends=watch)


@functions.command("backfill")
@takes(*CLIENT)
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
    from millstream.cli.support.arguments import time_of
    from millstream.cli.work.scans import backfill

    start, end = time_of(start, "--from", ("earliest",)), time_of(end, "--to", ("latest",))
    wanted = {"topic": topic, "from": start, "to": end, "dry_run": dry_run}
    return backfill(settings, function, wanted, yes=yes and not dry_run)


@functions.command("limit")
@takes(*CLIENT)
def functions_limit(
    settings: Settings,
    *,
    function: Annotated[str, typer.Argument(metavar="FUNCTION", show_default=False)],
    limits: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[LIMIT…|reset]",
            help="concurrency=5 (of two rules 5,20), throttle=10/1m or 10/1m/BURST, rate_limit=100/1h, throttle=reset.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[str, typer.Option("--by", help="Who asks, for the record. [default: the user's name]")] = "",
) -> int:
    """Show the limits of a function, or set other numbers without a deploy, until they are reset."""
    from millstream.cli.work.limits import limit

    return limit(settings, function, limits or (), by)


@scans.command("list")
@takes(*CLIENT)
def scans_list(settings: Settings) -> int:
    """List backfills and catch-ups with how far they are."""
    from millstream.cli.work.scans import list_scans

    return list_scans(settings)


@scans.command("cancel")
@takes(*CLIENT)
def scans_cancel(
    settings: Settings, *, scan: Annotated[str, typer.Argument(metavar="SCAN", show_default=False)]
) -> int:
    """End a scan. The runs that it has started go on."""
    from millstream.cli.work.scans import cancel

    return cancel(settings, scan)


@dead_letters.command("list")
@takes(*CLIENT)
def dead_letters_list(
    settings: Settings, *, limit: Annotated[int, typer.Option("--limit", min=1, max=LIMIT_MAX)] = 50
) -> int:
    """List the newest dead letters with their reasons."""
    from millstream.cli.work.dead_letters import list_letters

    return list_letters(settings, limit)


@dead_letters.command("show")
@takes(*CLIENT)
def dead_letters_show(settings: Settings, *, id: LetterId) -> int:
    """Show one dead letter with its key, value and headers."""
    from millstream.cli.work.dead_letters import show

    return show(settings, id)


@dead_letters.command("redrive")
@takes(*CLIENT)
def dead_letters_redrive(
    settings: Settings,
    *,
    id: LetterId,
    function: Annotated[str, typer.Option("--function", help="Only this one, <app>-<id>.")] = "",
) -> int:
    """Start the functions of its topic on the record once more, read where it lies."""
    from millstream.cli.work.dead_letters import redrive

    return redrive(settings, id, function)
