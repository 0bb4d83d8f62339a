"""The marker: up to which journal record a store or a checkpoint speaks.

It names the record by everything that tells it from another at the same place: a topic recreated under the same name,
a journal cut and written again, a zombie's void record. A reader compares it with the journal before
believing the rows beside it (lanes.md rule 10).
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import msgspec

from millstream.errors import Corruption

_FORMAT: Final = 1
_HEAD: Final = Struct(">BQQB")  # format, offset, seq, length of owner; then the owner, then the journal's name
_OWNER_BYTES_MAX: Final = 255


class Marker(msgspec.Struct, frozen=True):
    """The journal record that rows include, and none after it.

    ``journal``  which journal: ``g.journal/3``, and its identity where the log has one: ``g.journal/3@1f2e``. Markers
                 of before 0.9 have the topic's name alone.
    ``offset``   the record's.
    ``owner``, ``seq``  as in the record.
    """

    journal: str
    offset: int
    owner: bytes
    seq: int


def journal_of(topic: str, lane: int, identity: str) -> str:
    """What markers call the journal of a lane."""
    return f"{topic}/{lane}@{identity}" if identity else f"{topic}/{lane}"


def encode_marker(marker: Marker) -> bytes:
    """A marker as bytes."""
    assert len(marker.owner) <= _OWNER_BYTES_MAX, f"expected a short owner, got {len(marker.owner)} bytes"
    head = _HEAD.pack(_FORMAT, marker.offset, marker.seq, len(marker.owner))
    return head + marker.owner + marker.journal.encode()


def decode_marker(raw: bytes) -> Marker:
    """The inverse. Raises Corruption on anything else."""
    if len(raw) < _HEAD.size or raw[0] != _FORMAT or len(raw) < _HEAD.size + raw[_HEAD.size - 1]:
        raise Corruption(
            f"a marker cannot be read: expected format {_FORMAT}, got the bytes {raw[:64].hex()}. "
            "Wipe the lane's directory; it is restored from the topics."
        )
    _, offset, seq, length = _HEAD.unpack_from(raw)
    end = _HEAD.size + length
    return Marker(journal=raw[end:].decode(), offset=offset, owner=raw[_HEAD.size : end], seq=seq)
