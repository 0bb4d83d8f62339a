"""Seeds: what a client sends with a request so that repeating it does nothing twice.

    x-inngest-event-id-seed: <Unix milliseconds>,<base64 of ten bytes>

Events get their ids from it. A request to a lane gets its request id from it and from what it asks, and the lane
remembers its answer by that (lanes.md rule 29). Nonsense is passed over, as if nothing had been sent.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import blake2b
from typing import Final

from aiohttp import web

from millstream.model.ids import ulid
from millstream.model.limits import REQUEST_IDS_KEPT_MS

SEED_HEADER: Final = "x-inngest-event-id-seed"
SEED_CHARS_MAX: Final = 64
ENTROPY_BYTES: Final = 10
_TIME_MS_MAX: Final = (1 << 48) - 1


def parse_seed(header: str) -> tuple[int, int] | None:
    """Time and entropy of a seed header; None where there is none, or nonsense."""
    if not header or len(header) > SEED_CHARS_MAX:
        return None
    millis, comma, encoded = header.partition(",")
    if not comma or not (millis.isascii() and millis.isdecimal()):
        return None
    try:
        entropy = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    at_ms = int(millis)
    if len(entropy) != ENTROPY_BYTES or not 0 < at_ms <= _TIME_MS_MAX:
        return None
    return at_ms, int.from_bytes(entropy, "big")


def seeded_id(request: web.Request, what: str, now_ms: int) -> str:
    """The id of a request that asks for this, by its seed; "" where it has none.

    A seed whose time is further off than answers are remembered does not count: its answer would be forgotten at once,
    or never.
    """
    seed = parse_seed(request.headers.get(SEED_HEADER, ""))
    if seed is None or abs(seed[0] - now_ms) >= REQUEST_IDS_KEPT_MS:
        return ""
    at_ms, entropy = seed
    asked = "\x00".join((request.method, request.path, what, str(entropy)))
    return ulid(at_ms, blake2b(asked.encode("utf-8", "surrogateescape"), digest_size=ENTROPY_BYTES).digest())
