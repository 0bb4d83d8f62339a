"""The apps in ``<group>.functions``: read, put in, taken out. The topic is compacted; its key is the app's id.

A worker writes the apps that it has code for, a door those that register over HTTP. Both read first, since a record
says what the app was before: code of yesterday must not roll the catalogue back (lanes.md rule 23).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from millstream.errors import Corruption
from millstream.log.port import Log, Produced, Record
from millstream.log.read_all import read_rest
from millstream.model.function import AppSpec
from millstream.model.messages import group_topic
from millstream.wire.callback_key import is_groups_own
from millstream.wire.messages import decode_app, encode_app, fingerprint, replaced_by

REPLACED_MAX: Final = 50
"""How many earlier versions of an app are remembered, so that none of them rolls the catalogue back."""


@dataclass(frozen=True, slots=True)
class Known:
    """The apps in the topic by id, and the fingerprints of what each was before, the latest first.

    ``end``  the offset behind what was read.
    """

    apps: dict[str, AppSpec] = field(default_factory=dict)
    replaced: dict[str, tuple[str, ...]] = field(default_factory=dict)
    end: int = 0

    def earlier(self, spec: AppSpec) -> tuple[str, ...]:
        """What an app was before, once it is this."""
        before = self.apps.get(spec.id)
        history = (*((fingerprint(before),) if before is not None else ()), *self.replaced.get(spec.id, ()))
        return tuple(one for one in history if one != fingerprint(spec))[:REPLACED_MAX]


async def read_known(log: Log, group: str) -> Known:
    """The apps now. Raises LogUnavailable."""
    known, topic = Known(), group_topic(group, "functions")
    reader = log.reader(topic, 0, await log.start_offset(topic, 0))
    try:
        async for page in read_rest(log, topic, 0, reader):
            for record in page:
                _take(record, known)
        return replace(known, end=reader.position)
    finally:
        await reader.close()


async def claims_since(log: Log, group: str, app_id: str, offset: int) -> list[AppSpec]:
    """What was put in for an app's id from this offset on, in the order of the log. Raises LogUnavailable."""
    claims, topic = [], group_topic(group, "functions")
    reader = log.reader(topic, 0, offset)
    try:
        async for page in read_rest(log, topic, 0, reader):
            for record in page:
                if record.key == app_id.encode() and record.value is not None:
                    with suppress(Corruption):
                        claims.append(decode_app(record.value))
        return claims
    finally:
        await reader.close()


def _take(record: Record, known: Known) -> None:
    if is_groups_own(record.key):
        return
    if record.value is None:
        known.apps.pop((record.key or b"").decode("utf-8", "replace"), None)
        return
    with suppress(Corruption):  # The lanes say so, and keep the app as it was before.
        app = decode_app(record.value)
        known.apps[app.id] = app
        known.replaced[app.id] = replaced_by(record.value)


async def put_apps(log: Log, group: str, known: Known, specs: list[AppSpec]) -> int:
    """Put these into the topic; the offset behind them, which lanes must have seen. Durable when it returns."""
    records = [Produced(encode_app(spec, known.earlier(spec)), spec.id.encode()) for spec in specs]
    return await _append(log, group, records)


async def remove_app(log: Log, group: str, id: str) -> int:
    """Take an app out; the offset behind that. Its crons stop, and its open runs stay."""
    return await _append(log, group, [Produced(None, id.encode())])


async def _append(log: Log, group: str, records: list[Produced]) -> int:
    topic = group_topic(group, "functions")
    writer = log.writer(topic, 0)
    try:
        for record in records:
            await writer.append([record])
    finally:
        with suppress(Exception):
            await writer.close()
    return await log.end_offset(topic, 0)
