"""The record of a group in its own topic: which events topic it reads, how many lanes it has, which topics these are.

It lies in ``<group>.functions`` under a key of its own, as an app without functions, which versions of before 0.9 pass
over. The first worker writes it; each one that joins compares, and an api does:

    another events topic ────────────────────────> refused: acknowledged events of the other would stand unread
    a journal, inbox or events topic with another identity ─> deleted and made anew: refused until that is accepted
    steps, timers or keys with another identity ──> said; each lane looks (``lane/ownership/checkpoints.py``)
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

import msgspec

from millstream.errors import ConfigError, Corruption
from millstream.log.group_topics import OF_LANES, GroupShape
from millstream.log.port import Log, Produced
from millstream.log.read_all import read_all
from millstream.losses import Losses
from millstream.model.function import AppSpec
from millstream.model.messages import GROUP_RECORD_KEY, group_topic
from millstream.telemetry import say
from millstream.wire.messages import decode_app, encode_app

LOG: Final = logging.getLogger("millstream.worker")
FORMAT: Final = 1
MADE_ANEW_MEANS: Final = {
    "journal": "what its functions have done is gone, and events that are still held would start them again",
    "inbox": "messages between lanes and requests that were under way are gone",
    "events": "acknowledged events that were not read yet are gone",
}


class GroupRecord(msgspec.Struct, frozen=True):
    """What a group is. ``topics``: short name → identity; "" where the brokers told none."""

    events_topic: str
    lanes: int
    topics: dict[str, str]
    format: int = FORMAT


async def read_record(log: Log, group: str) -> GroupRecord | None:
    """The record; None in a group that has none yet."""
    found: GroupRecord | None = None
    async for page in read_all(log, group_topic(group, "functions"), 0):
        for record in page:
            if record.key == GROUP_RECORD_KEY and record.value is not None:
                with suppress(Corruption, msgspec.MsgspecError):
                    found = msgspec.json.decode(decode_app(record.value).endpoint, type=GroupRecord)
    return found


def refuse_other(record: GroupRecord | None, shape: GroupShape) -> None:
    """Raise ConfigError where the group is not what this process was told."""
    if record is None:
        return
    if record.format > FORMAT:
        raise ConfigError(
            f"group {shape.group!r} was written by a newer version: its record has format {record.format}, this "
            f"version reads up to {FORMAT}. Use the newer version."
        )
    if record.events_topic != shape.events_topic:
        raise ConfigError(
            f"--events-topic {shape.events_topic} was refused: group {shape.group!r} reads its events from "
            f"{record.events_topic}, and that is fixed: acknowledged events there would stand unread. Give "
            f"--events-topic {record.events_topic}, or name another --group."
        )


def _names(shape: GroupShape) -> dict[str, str]:
    return {which: group_topic(shape.group, which) for which in OF_LANES} | {"events": shape.events_topic}


async def identities(log: Log, shape: GroupShape) -> dict[str, str]:
    """The identity of each topic that the record names; "" for one that is not there."""
    return {which: await log.topic_identity(name) for which, name in _names(shape).items()}


def made_anew(record: GroupRecord | None, now: dict[str, str]) -> list[str]:
    """Which topics are others than those of the record."""
    held = record.topics if record is not None else {}
    return [which for which, identity in now.items() if held.get(which) and identity and held[which] != identity]


async def problems(log: Log, shape: GroupShape) -> list[str]:
    """For ``doctor``: what a worker would refuse, or have to mend."""
    record = await read_record(log, shape.group)
    try:
        refuse_other(record, shape)
    except ConfigError as error:
        return [str(error)]
    names = _names(shape)
    return [
        f"topic {names[which]!r} was deleted and made anew since a worker last joined: "
        f"{MADE_ANEW_MEANS.get(which, 'its rows are missing until workers whose disks are whole write them again')}."
        for which in made_anew(record, await identities(log, shape))
    ]


async def join(log: Log, shape: GroupShape, losses: Losses) -> None:
    """Compare before a worker joins, and write the record where it is not there or was accepted to change.

    Raises ConfigError, AcknowledgedLost.
    """
    record = await read_record(log, shape.group)
    refuse_other(record, shape)
    names, now = _names(shape), await identities(log, shape)
    for which in made_anew(record, now):
        meaning = MADE_ANEW_MEANS.get(which)
        if meaning is None:
            say(LOG, "topic made anew", level=logging.ERROR, topic=names[which], meaning="its lanes write it again")
            continue
        losses.found(
            f"topic {names[which]!r} of group {shape.group!r} was deleted and made anew: {meaning}.",
            f"Stop all workers and bring it back from a backup; the records of the new one ({now[which]}) are not "
            "those of the old.",
        )
    wanted = GroupRecord(shape.events_topic, shape.lanes, now)
    if record != wanted:
        text = msgspec.json.encode(wanted).decode()
        app = AppSpec(GROUP_RECORD_KEY.decode(), (), endpoint=text)
        writer = log.writer(group_topic(shape.group, "functions"), 0)
        await writer.append([Produced(encode_app(app), GROUP_RECORD_KEY)])
        with suppress(Exception):
            await writer.close()
