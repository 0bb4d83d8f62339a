"""The journal's record: one group commit of one lane (``schemas/journal/record.avsc``)."""

from __future__ import annotations

import msgspec

from millstream.model.facts import Fact


class Position(msgspec.Struct, frozen=True, gc=False):
    """With this record, ``topic``/``partition`` has been read up to ``offset`` (the one read next)."""

    topic: str
    partition: int
    offset: int


class JournalRecord(msgspec.Struct, frozen=True):
    """What one append to ``<group>.journal`` holds.

    ``owner``   8 random bytes of the fence this belongs to; ``seq`` counts from 0, the fence itself.
    ``more``    the decision goes on in the next record; positions are in the last part, parts without it are void.
    """

    owner: bytes
    seq: int
    at_ms: int
    facts: tuple[Fact, ...]
    positions: tuple[Position, ...] = ()
    more: bool = False
    format: int = 1
