"""How long an id is known: hashes in buckets of time, by the source's time (lanes.md rule 19)."""

from __future__ import annotations

from typing import Final

from millstream.model import limits

HASH_BYTES: Final = 16
_STRETCH_MS: Final = {True: limits.HOUR_MS, False: limits.MINUTE_MS}
_KEPT_MS: Final = {True: limits.SEEN_CLIENT_IDS_MS, False: limits.SEEN_OUR_IDS_MS}


def bucket_of(clients: bool, received_at_ms: int) -> int:
    """The bucket of an id that was received then; ``clients``: it was given by a client."""
    return received_at_ms // _STRETCH_MS[clients]


def begins_ms(clients: bool, bucket: int) -> int:
    """When the first id of a bucket may have been received."""
    return bucket * _STRETCH_MS[clients]


def until_ms(clients: bool, bucket: int) -> int:
    """From when on the ids of a bucket are known no more."""
    return begins_ms(clients, bucket + 1) + _KEPT_MS[clients]
