"""``millstream dev --feed FILE.jsonl --smoke``: real input into a server that just started, and how it ended.

The events go through the door as a client's would, with fresh ids. A smoke run is over when every run that the feed
led to has ended or *settled*: it waits for a timer further away than SETTLED_AFTER_MS, or for code. The summary says
how many ended how; a function that fails is the function's business, an engine that leaves a run hanging is ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from millstream.cli.support.exits import FAILED, OK, note
from millstream.cli.support.jsonl import opened
from millstream.cli.support.output import show_table
from millstream.cli.support.run_printer import RunPrinter
from millstream.cli.work.events import batches
from millstream.core.liveness import Liveness, liveness, open_runs
from millstream.dev import DevServer
from millstream.errors import BadRequest
from millstream.history.queries import Queries
from millstream.model.event import Event
from millstream.sdk.outside.client import Client

SMOKE_S_MAX: Final = 120.0
SETTLED_AFTER_MS: Final = 5_000
LOOK_EVERY_S: Final = 0.1
QUIET_LOOKS: Final = 3
"""Looks in a row that must find nothing to do: an internal event is on its way for a moment and in no table."""
HISTORY_S_MAX: Final = 10.0
COLUMNS: Final = ("function", "completed", "failed", "cancelled")


async def send_feed(file: str, client: Client) -> int:
    """Send the file's events; how many. Raises what the client raises, and BadRequest for a line that is no event."""
    sent = 0
    with opened(file) as lines:
        for batch in batches(_events(iter(lines), lines.name)):
            sent += len(await client.send([_event(one, lines.name) for one in batch]))
    note(f"{sent} events of {file} sent")
    return sent


async def smoke(server: DevServer, printer: RunPrinter) -> int:
    """Wait until everything has ended or settled, print the summary; 0 or 1."""
    began = time.monotonic()
    left = await _settled(server, began + SMOKE_S_MAX)
    shown = await asyncio.to_thread(_shown_by_history, server.settings.data / "history.db", printer)
    printer.close()
    functions = sorted({function for function, _ in printer.counts})
    rows = [
        {"function": function} | {status: printer.counts[function, status] for status in COLUMNS[1:]}
        for function in functions
    ]
    if rows:
        show_table(rows, COLUMNS)
    ended = sum(printer.counts.values())
    print(
        f"{printer.started} runs started, {ended} ended, {left.open} settled or open, {shown} in the history, "
        f"{time.monotonic() - began:.1f} s"
    )
    problems = left.problems()
    if not any(status == "completed" for _, status in printer.counts):
        problems.append("no run completed")
    if printer.bugs:
        problems.append(f"{printer.bugs} runs failed for a fault of millstream (InternalError); please report them")
    if shown < printer.started:
        problems.append(f"the history shows {shown} of {printer.started} runs after {HISTORY_S_MAX:.0f} s")
    for problem in problems:
        note(f"error: {problem}")
    return FAILED if problems else OK


@dataclass(frozen=True, slots=True)
class OpenWork:
    """The work that had not ended at the last look."""

    open: int
    unread: int
    unsent: int
    liveness: Liveness
    busy: bool

    def problems(self) -> list[str]:
        """The reasons why the run of the feed failed."""
        if not self.busy:
            return self.liveness.problems
        return [
            *self.liveness.problems,
            f"not settled after {SMOKE_S_MAX:.0f} s: {self.liveness.executing} executions, {self.unread} events "
            f"unread, {self.unsent} messages unsent, {self.open} runs open",
        ]


async def _settled(server: DevServer, deadline: float) -> OpenWork:
    quiet = 0
    while True:
        left = await _open_work(server)
        quiet = 0 if left.busy else quiet + 1
        if quiet == QUIET_LOOKS or time.monotonic() > deadline:
            return left
        await asyncio.sleep(LOOK_EVERY_S)


async def _open_work(server: DevServer) -> OpenWork:
    worker, log = server.worker, server.log
    assert worker is not None and log is not None, "the server has started"
    open_, unread, unsent, total = 0, 0, 0, Liveness()
    for lane in worker.lanes.values():
        tables = lane.tables.durable
        for run in open_runs(tables):
            open_ += 1
            total.add(liveness(tables, run))
        unsent += len(tables.outbox.scan(limit=1_000)) + len(tables.publishes.scan(limit=1_000))
        for topic, partition in lane.subscriptions.sources:
            row = tables.positions.get((topic, partition))
            unread += await log.end_offset(topic, partition) - (row.offset if row is not None else 0)
    soon_ms = time.time_ns() // 1_000_000 + SETTLED_AFTER_MS
    busy = bool(unread or unsent or total.executing or any(at_ms < soon_ms for at_ms, *_ in total.timers))
    return OpenWork(open_, unread, unsent, total, busy)


def _shown_by_history(index: Path, printer: RunPrinter) -> int:
    """How many runs the history shows once it has caught up; waits for it."""
    queries = Queries(index)
    deadline = time.monotonic() + HISTORY_S_MAX
    try:
        while (shown := queries.tally()["started"]) < printer.started and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
        return shown
    finally:
        queries.close()


def _events(lines: Iterator[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    for event in lines:
        event.pop("id", None)
        yield event


def _event(one: dict[str, Any], file: str) -> Event:
    try:
        return msgspec.convert(one, Event)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{file} holds a line that is no event: {error}, got {str(one)[:80]}") from error
