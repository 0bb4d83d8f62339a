"""The error of a function as a JSON object: name, message, stack, and whatever else its SDK says of it.

An executor of another language's SDK gets an error as such an object, with members of its own beside the three
(``code``, ``cause``, ``data``, ``__serialized``). They travel beside the three as ``more``, and come together again
where a run's end is shown or announced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from millstream.model import limits

KNOWN: Final = ("name", "message", "stack")
"""The members that every error has: they are never in ``more``."""


def more_of(error: Mapping[str, object]) -> bytes:
    """The members of an error beside the three, as UTF-8 JSON of an object; empty where it has none.

    Empty as well where they are no JSON (NaN), nest too deeply, or have more than ``limits.ERROR_MORE_BYTES_MAX``:
    they help whoever reads them, and an error must never be lost for them. Half a surrogate pair becomes "?".
    """
    more = {name: value for name, value in error.items() if name not in KNOWN}
    if not more:
        return b""
    try:
        text = json.dumps(more, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        return b""
    written = text.encode(errors="replace")
    return written if len(written) <= limits.ERROR_MORE_BYTES_MAX else b""


def why_ended(no_retry: bool) -> str:
    """What failed, as the SDKs' events and callers say it beside the error: the call, or the function's own wish."""
    return "NonRetriableError" if no_retry else "invalid status code: 500"


def members(more: bytes) -> dict[str, object]:
    """What ``more_of`` wrote; nothing of bytes that are no JSON object: a run must be able to end all the same."""
    if not more:
        return {}
    try:
        read = json.loads(more)
    except (ValueError, RecursionError):
        return {}
    return {name: value for name, value in read.items() if name not in KNOWN} if isinstance(read, dict) else {}


def error_object(name: str, message: str, stack: str, more: bytes = b"") -> dict[str, object]:
    """The whole error, its members in the order of their names. ``stack`` is null where there is none."""
    error = {**members(more), "name": name, "message": message, "stack": stack or None}
    return dict(sorted(error.items()))
