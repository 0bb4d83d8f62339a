"""Which checkpoints a lane has committed: the places at which its journal and its inbox may be cut (lanes.md rule 14).

The list lies beside the rows it speaks of, so that a lane which is restarted more often than its trim lag trims all
the same:

* in the ``keys`` topic, written by the transaction of each checkpoint, that one included: if the transaction is there,
  it is committed;
* in the local store, as a note written once the commit is known. A crash in between leaves a note without the newest.

A list may be too short or too old, never wrong: what it names was committed, and something later than all but its last
was committed too. So an owner that cuts at any but the last leaves a whole checkpoint and the journal behind it,
even a former owner with an old store. Readers that fell off the journal's start find in it which records count there.

``kept`` bounds it: fine steps around the lag, coarse ones within the history, one place beyond.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

import msgspec

from millstream.errors import Corruption
from millstream.state.marker import Marker, decode_marker, encode_marker

STEPS_IN_LAG: Final = 8
STEPS_IN_HISTORY: Final = 16
CHECKPOINTED_KEPT_MAX: Final = 64
_FORMAT: Final = b"\x01"
_ONE: Final = Struct(">QQH")  # inbox, at_ms, length of the marker; then the marker


class Checkpointed(msgspec.Struct, frozen=True):
    """A committed checkpoint: the record it stands for, the inbox position in it, when it was begun (Unix ms)."""

    marker: Marker
    inbox: int
    at_ms: int

    @property
    def offset(self) -> int:
        """The journal record whose rows it holds."""
        return self.marker.offset


def encode_checkpointed(done: Sequence[Checkpointed]) -> bytes:
    """The list as bytes, oldest first."""
    parts = [_FORMAT]
    for one in done:
        marker = encode_marker(one.marker)
        parts += [_ONE.pack(one.inbox, one.at_ms, len(marker)), marker]
    return b"".join(parts)


def decode_checkpointed(raw: bytes | None) -> tuple[Checkpointed, ...]:
    """The inverse; nothing is an empty list. Raises Corruption on anything else."""
    if raw is None:
        return ()
    found: list[Checkpointed] = []
    at = len(_FORMAT)
    while raw.startswith(_FORMAT) and at + _ONE.size <= len(raw):
        inbox, at_ms, length = _ONE.unpack_from(raw, at)
        at += _ONE.size
        found.append(Checkpointed(decode_marker(raw[at : at + length]), inbox, at_ms))
        at += length
    if at != len(raw) or not raw.startswith(_FORMAT):
        raise Corruption(
            f"a list of checkpoints cannot be read: expected format {_FORMAT.hex()}, got the bytes {raw[:64].hex()}. "
            "Wipe the lane's directory; it is restored from the topics."
        )
    return tuple(found)


def cut_at(done: Sequence[Checkpointed], before_ms: int) -> Checkpointed | None:
    """The newest checkpoint from before a time that is not the last one."""
    return next((one for one in reversed(done[:-1]) if one.at_ms <= before_ms), None)


def kept(done: Sequence[Checkpointed], now_ms: int, lag_ms: int, history_ms: int) -> list[Checkpointed]:
    """What of the list is still of use, oldest first. What is kept once stays until it is too old: the oldest is the
    anchor from which steps are counted."""
    long_ms = max(lag_ms, history_ms)
    base = max((i for i, one in enumerate(done[:-1]) if one.at_ms <= now_ms - long_ms), default=0)
    found = list(done[base : base + 1])
    for one in done[base + 1 : -1]:
        step_ms = lag_ms // STEPS_IN_LAG if now_ms - one.at_ms < 2 * lag_ms else long_ms // STEPS_IN_HISTORY
        if one.at_ms - found[-1].at_ms >= step_ms:
            found.append(one)
    if len(done) > base + 1:
        found.append(done[-1])
    return found[-CHECKPOINTED_KEPT_MAX:]
