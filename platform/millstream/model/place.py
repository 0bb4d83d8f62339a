"""Where a lane stands in its group."""

from __future__ import annotations

import msgspec


class Place(msgspec.Struct, frozen=True):
    """Where a lane stands: constants of the group, known before the first record."""

    group: str
    lane: int
    lanes: int
    events_topic: str = "events"
    retry_interval_ms: int = -1  # ≥ 0: every delay between attempts is this long (``--retry-interval``)

    public_url: str = ""  # where the outside reaches the group; "": nobody has said
    callback_key: bytes = b""  # signs the tokens of callbacks

    @property
    def dead_letters_topic(self) -> str:
        return f"{self.group}.dead-letters"
