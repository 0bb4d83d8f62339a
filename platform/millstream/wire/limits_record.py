"""The record of a function's overrides in ``<group>.functions``: what an operator has set, until it is reset.

It lies there so that lanes take it in order with apps, and doors stamp events with it. A function has one, under a key
that no app can have; compaction keeps the last. A reset writes one without overrides: who did it stays known. As the
group's other records it looks like an app without functions to versions that do not know it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from millstream.errors import Corruption
from millstream.model.function import AppSpec
from millstream.model.gates.overrides import FunctionLimits
from millstream.wire.messages import decode_app, encode_app

RECORD_PREFIX: Final = b"millstream:limits:"


def is_limits(record_key: bytes | None) -> bool:
    """Whether a record of the functions topic holds overrides."""
    return record_key is not None and record_key.startswith(RECORD_PREFIX)


def limits_record(limits: FunctionLimits) -> tuple[bytes, bytes]:
    """The record's key and value."""
    id = RECORD_PREFIX + limits.function.encode()
    return id, encode_app(AppSpec(id.decode(), (), endpoint=msgspec.json.encode(limits).decode()))


def decode_limits(record_key: bytes, value: bytes | None) -> FunctionLimits:
    """The overrides of a record; of one without a value: none. Raises Corruption."""
    function = record_key[len(RECORD_PREFIX) :].decode("utf-8", "replace")
    if value is None:
        return FunctionLimits(function)
    try:
        limits = msgspec.json.decode(decode_app(value).endpoint, type=FunctionLimits)
    except msgspec.MsgspecError as broken:
        raise Corruption(f"limits of function {function!r} are not readable: {broken}") from broken
    if limits.function != function:
        raise Corruption(f"limits of function {limits.function!r} lie under the key of {function!r}")
    return limits
