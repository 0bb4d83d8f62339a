"""What an event ``inngest/function.invoked`` says of the invocation it stands for: its member ``_inngest``.

The names are those of the SDKs' protocol. Its ``tc`` and ``isr`` are left out: no SDK reads them, and they hold nothing
but traces. Functions are named by their slugs where another server may have UUIDs; what is unknown is empty.
"""

from __future__ import annotations

import json
from typing import Final

from millstream.model.event import FUNCTION_INVOKED, Envelope
from millstream.model.ids import hash16

MEMBER: Final = "_inngest"
_MEMBER: Final = MEMBER.encode()


def of_request(function: str) -> dict[str, object]:
    """Of an invocation that somebody asked for from outside: nobody waits for it."""
    return {
        "expire": 0,
        "fn_id": function,
        "gid": "",
        "name": "",
        "source_app_id": "",
        "source_fn_id": "",
        "source_fn_v": 0,
    }


def of_step(function: str, run: str, step: str, *, name: str, source: str, until_ms: int) -> dict[str, object]:
    """Of one by a step of a run of ``source``, which waits for its end until then."""
    return {
        "correlation_id": f"{run}.{step}",
        "expire": until_ms,
        "fn_id": function,
        "gid": _as_uuid(hash16(run, step, "invoke")),
        "name": name,
        "source_app_id": "",
        "source_fn_id": source,
        "source_fn_v": 1,
    }


def with_invocation(data: bytes, about: dict[str, object]) -> bytes:
    """The data of the event: the caller's, UTF-8 JSON of an object, and ``_inngest``. A member of that name gives way.

    Data that is no object stays as it is; its executor is at fault, and whoever reads the event is told so.
    """
    own = data.strip()
    if not (own.startswith(b"{") and own.endswith(b"}")):
        return data
    if _MEMBER in own or b"\\u00" in own:  # The second: letters may be written as escapes.
        try:
            read = json.loads(own)
        except (ValueError, RecursionError):
            return data
        read.pop(MEMBER, None)
        own = json.dumps(read, separators=(",", ":")).encode()
    head = b'{"' + _MEMBER + b'":' + json.dumps(about, separators=(",", ":")).encode()
    rest = own[1:].lstrip()
    return head + (rest if rest == b"}" else b"," + rest)


def correlation_of(event: Envelope) -> str:
    """The step that waits for the end of a run of this event; empty: none does."""
    if event.name != FUNCTION_INVOKED:
        return ""
    try:
        about = json.loads(event.data).get(MEMBER)
        found = about.get("correlation_id", "") if isinstance(about, dict) else ""
    except (ValueError, RecursionError, AttributeError):
        return ""
    return found if isinstance(found, str) else ""


def _as_uuid(hash: bytes) -> str:
    """16 bytes in the form of a UUID."""
    text = hash.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
