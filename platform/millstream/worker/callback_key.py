"""The group's key, read or made by a worker before its lanes live (``wire/callback_key.py``)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from millstream.log.port import Log, Produced
from millstream.log.read_all import read_all
from millstream.model.messages import group_topic
from millstream.model.waits.callback_token import KEY_BYTES
from millstream.wire.callback_key import key_in, key_record

NAME_BYTES: Final = 8


async def callback_key(log: Log, group: str, entropy: Callable[[int], bytes]) -> bytes:
    """The group's key; made of ``entropy`` where there is none. Raises LogUnavailable."""
    found = await _read(log, group)
    if found:
        return found
    made = entropy(KEY_BYTES)
    name, value = key_record(made, entropy(NAME_BYTES).hex())
    writer = log.writer(group_topic(group, "functions"), 0)
    await writer.append([Produced(value, name)])
    with suppress(Exception):
        await writer.close()
    return await _read(log, group) or made  # Another worker's, where that was first.


async def _read(log: Log, group: str) -> bytes:
    found = b""
    async for page in read_all(log, group_topic(group, "functions"), 0):
        for record in page:
            found = found or key_in(record.key, record.value) or b""
    return found
