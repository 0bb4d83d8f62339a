"""The key of a group, with which the tokens of its callbacks are signed: a record in ``<group>.functions``.

Each process that misses one writes its own, under a key of the record's own, so that compaction takes none away, and
then reads what is there: **the first in the topic counts**. So workers that begin at the same moment agree, and an api
that follows the topic knows it as soon as there is one. As the group's record, it looks like an app without functions
to versions that do not know it.

Whoever may read the topic can sign. He could also read the journal, where the URLs stand.
"""

from __future__ import annotations

import binascii
from contextlib import suppress
from typing import Final

from millstream.errors import Corruption
from millstream.model.function import AppSpec
from millstream.model.messages import GROUP_RECORD_KEY
from millstream.model.waits.callback_token import KEY_BYTES
from millstream.wire.limits_record import is_limits
from millstream.wire.messages import decode_app, encode_app

RECORD_PREFIX: Final = b"millstream:callback-key:"


def is_groups_own(record_key: bytes | None) -> bool:
    """Whether a record of the functions topic is about the group, and of no app."""
    return record_key is not None and (
        record_key == GROUP_RECORD_KEY or record_key.startswith(RECORD_PREFIX) or is_limits(record_key)
    )


def key_record(key: bytes, name: str) -> tuple[bytes, bytes]:
    """The record's key and value; ``name`` is one that no other has."""
    id = RECORD_PREFIX + name.encode()
    return id, encode_app(AppSpec(id.decode(), (), endpoint=key.hex()))


def key_in(record_key: bytes | None, value: bytes | None) -> bytes | None:
    """The key in a record of the functions topic; None where it is another record."""
    if record_key is None or value is None or not record_key.startswith(RECORD_PREFIX):
        return None
    with suppress(Corruption, binascii.Error, ValueError):
        key = bytes.fromhex(decode_app(value).endpoint)
        return key if len(key) == KEY_BYTES else None
    return None
