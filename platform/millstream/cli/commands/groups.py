"""The command line and its groups of commands."""

from __future__ import annotations

from typing import Final

import typer

app = typer.Typer(
    name="millstream",
    help="Durable Python functions on events. Every setting has a MILLSTREAM_* variable: millstream config show.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
events = typer.Typer(help="Send events, and look at them.", no_args_is_help=True, rich_markup_mode=None)
runs = typer.Typer(help="Look at runs, and act on them.", no_args_is_help=True, rich_markup_mode=None)
signals = typer.Typer(help="Send signals to runs that wait for them.", no_args_is_help=True, rich_markup_mode=None)
cancellations = typer.Typer(
    help="Look at cancellations of many runs, and stop them.", no_args_is_help=True, rich_markup_mode=None
)
functions = typer.Typer(
    help="Start functions, by hand or on records; change their limits.", no_args_is_help=True, rich_markup_mode=None
)
apps = typer.Typer(help="Look at apps; have one register, take one out.", no_args_is_help=True, rich_markup_mode=None)
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
    "apps": apps, "events": events, "runs": runs, "cancellations": cancellations, "functions": functions,
    "scans": scans, "dead-letters": dead_letters,
    "signals": signals, "topics": topics, "lanes": lanes, "schemas": schemas, "config": config,
}  # fmt: skip
for name, group in GROUPS.items():
    app.add_typer(group, name=name)
