"""``millstream events send``: one event from the command line, or many from a file or a pipe.

    millstream events send order/placed --data '{"order": 7}'     one event; --data also takes @file and -
    millstream events send order/placed --data @orders.jsonl      one event for each line of data
    millstream events send @events.jsonl                          whole events, one a line; - reads standard input

Sent in posts of 100; the ids printed are durable. Many events are read, sent and printed as they come.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from millstream.cli.support.api_client import PartlyRefused, Server
from millstream.cli.support.arguments import json_of, name_of, ts_of
from millstream.cli.support.exits import FAILED, OK, note
from millstream.cli.support.jsonl import STDIN, JsonLines, decoded, opened
from millstream.cli.support.output import chosen, show_document, show_line
from millstream.config import Settings
from millstream.errors import BadRequest, ConfigError

BATCH_EVENTS: Final = 100
BATCH_BYTES: Final = 8 * 1024 * 1024
PROGRESS_EVERY_S: Final = 0.1
BAR_CHARS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What may be said beside an event's name and data."""

    id: str | None = None
    key: str | None = None
    ts: int | None = None

    def added_to(self, event: dict[str, Any]) -> dict[str, Any]:
        """The event with what was said."""
        given = {"id": self.id, "key": self.key, "ts": self.ts}
        return event | {name: value for name, value in given.items() if value is not None}


def send(settings: Settings, name: str, data: str | None, extras: Extras) -> int:
    """Send; 0 when every event is durable, 1 when one was refused (those before it were taken)."""
    if name == STDIN or name.startswith("@"):
        if data is not None or extras != Extras():
            raise ConfigError(f"{name} holds whole events: --data, --id, --key and --ts go with an event's name.")
        with opened(name) as lines:
            return _send_all(settings, lines, _named(lines))
    name_of(name)
    if extras.ts is not None:
        ts_of(extras.ts)
    raw = json_of(data, "--data") if data is not None else b"{}"
    events = [extras.added_to({"name": name, "data": one}) for one in _data(raw, data or "--data")]
    if len(events) > 1 and extras.id is not None:
        raise ConfigError(f"--id names one event, but --data holds {len(events)}. Leave it out.")
    return _send_all(settings, None, events)


def batches(events: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Events in posts of BATCH_EVENTS, fewer where they are large."""
    batch: list[dict[str, Any]] = []
    size = 0
    for event in events:
        batch.append(event)
        size += len(msgspec.json.encode(event))
        if len(batch) == BATCH_EVENTS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _send_all(settings: Settings, lines: JsonLines | None, events: Iterable[dict[str, Any]]) -> int:
    form, sent, code = chosen(settings), 0, OK
    collected: list[dict[str, str]] = []
    progress = Progress(lines)
    with Server(settings) as server:
        try:
            for batch in batches(events):
                try:
                    ids = server.send(batch)
                except PartlyRefused as refused:
                    ids, code = list(refused.ids), FAILED
                    where = (
                        f"event {sent + len(ids) + 1} ({str(batch[min(len(ids), len(batch) - 1)].get('name'))[:80]})"
                    )
                    note(f"error: {where} was refused, those before it were taken: {refused}")
                sent += len(ids)
                for id, event in zip(ids, batch, strict=False):
                    _show(form, id, str(event.get("name")), collected)
                progress.show(sent)
                if code:
                    break
        except BadRequest as error:
            note(f"error: {error} {sent} events were sent before.")
            code = FAILED
        finally:
            progress.end()
    if form == "json":
        show_document({"ids": collected})
    if lines is not None:
        note(f"{sent} event{'s' if sent != 1 else ''} sent to {server.url}")
    return code


def _show(form: str, id: str, name: str, collected: list[dict[str, str]]) -> None:
    match form:
        case "table":
            print(id)
        case "json":
            collected.append({"id": id, "name": name})
        case _:
            show_line({"id": id, "name": name})


def _named(lines: JsonLines) -> Iterator[dict[str, Any]]:
    for event in lines:
        if not isinstance(event.get("name"), str) or not event["name"]:
            raise BadRequest(f'{lines.where()}: expected an event, {{"name": …, "data": {{…}}}}, got no name')
        yield event


def _data(raw: bytes, where: str) -> list[dict[str, Any]]:
    """One object, or the objects of jsonl."""
    try:
        found = [decoded(raw, where)]
    except BadRequest:
        rows = [line for line in raw.splitlines() if line.strip()]
        if len(rows) < 2:
            raise
        found = [decoded(line, f"{where} line {number}") for number, line in enumerate(rows, 1)]
    for one in found:
        if not isinstance(one, dict):
            raise ConfigError(
                f"{where}: an event's data is a JSON object, got {msgspec.json.encode(one)[:80].decode()}"
            )
    return found


class Progress:
    """A bar on stderr for long work, only on a terminal; without a known size, a count."""

    def __init__(self, lines: JsonLines | None) -> None:
        self._lines = lines
        self._active = lines is not None and sys.stderr.isatty()
        self._begun = self._shown = time.monotonic()

    def show(self, sent: int) -> None:
        """This many events are sent."""
        now = time.monotonic()
        if not self._active or self._lines is None or now - self._shown < PROGRESS_EVERY_S:
            return
        self._shown = now
        rate = sent / max(now - self._begun, 0.001)
        bar = ""
        if self._lines.size:
            full = min(BAR_CHARS, BAR_CHARS * self._lines.bytes // self._lines.size)
            bar = f"[{'#' * full}{' ' * (BAR_CHARS - full)}] "
        sys.stderr.write(f"\r{bar}{sent:,} events, {rate:,.0f}/s\x1b[K")
        sys.stderr.flush()

    def end(self) -> None:
        """Make room for the next line."""
        if self._active:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
