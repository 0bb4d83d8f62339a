"""Data on stdout: a table for people, JSON for programs.

    table   columns, on a terminal              json    one document, an array for lists
    jsonl   one object a line, as it comes; the default in a pipe

Rows are plain dicts; a table shows the columns asked for, the JSON forms everything. What steers a terminal is escaped
in all of them: values come from events, user code and foreign records.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from millstream.config import Settings
from millstream.model.text.printable import one_line, printable_json

CELL_CHARS_MAX: Final = 200
COLOURS: Final = {"green": "32", "red": "31", "yellow": "33", "blue": "34", "dim": "2"}
STATUS_COLOURS: Final = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "blue",
    "sleeping": "blue",
    "retrying": "yellow",
    "waiting": "yellow",
    "parked": "red",
    "held": "red",
}

Row = Mapping[str, Any]


def chosen(settings: Settings) -> str:
    """table, json or jsonl."""
    wanted = settings.text("output")
    if wanted != "auto":
        return wanted
    return "table" if sys.stdout.isatty() else "jsonl"


def has_colour() -> bool:
    """Whether stdout is a terminal that may show colour (NO_COLOR is honoured)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def counted(number: int, noun: str) -> str:
    """``1 app``, ``2 apps``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def coloured(text: str, colour: str) -> str:
    """The text in a colour, where there is any."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if colour and has_colour() else text


def show_rows(settings: Settings, rows: Iterable[Row], columns: Sequence[str]) -> None:
    """Print rows in the form chosen."""
    match chosen(settings):
        case "table":
            show_table(rows, columns)
        case "json":
            print(_pretty(list(rows)))
        case _:
            for row in rows:
                show_line(row)


def show_line(row: Row) -> None:
    """Print one row as a line of JSON, at once: the reader of the pipe may be waiting for it."""
    print(printable_json(msgspec.json.encode(row).decode()), flush=True)


def show_document(document: object) -> None:
    """Print one JSON document, indented."""
    print(_pretty(document))


def show_table(rows: Iterable[Row], columns: Sequence[str]) -> None:
    """Print rows as columns. Nothing but the heading where there are none."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    colour = has_colour()
    table = Table(box=None, pad_edge=False, header_style="bold" if colour else "")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_styled(escape(_cell(row.get(column))), colour) for column in columns))
    width = None if sys.stdout.isatty() else 1_000  # In a file nothing is wrapped.
    Console(file=sys.stdout, width=width, highlight=False, no_color=not colour, soft_wrap=False).print(table)


def _styled(cell: str, colour: bool) -> str:
    style = STATUS_COLOURS.get(cell.lower(), "") if colour else ""
    return f"[{style}]{cell}[/{style}]" if style else cell


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = one_line(value if isinstance(value, str) else msgspec.json.encode(value).decode())
    return text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 1] + "…"


def _pretty(document: object) -> str:
    return printable_json(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
