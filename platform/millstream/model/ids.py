"""Identifiers: ULIDs, run ids and the slots that say which lane owns a run.

A ULID is 48 bits of Unix milliseconds and 80 bits of anything, written as 26 characters of Crockford's base 32, so that
text order is time order (https://github.com/ulid/spec). A run id is a ULID whose 80 bits are **12 bits of slot and 68
bits of hash**: the same cause gives the same run id, and the id alone names the lane.

Run ids and seeds are wire formats: they must never change. No randomness here; callers pass it in.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

SLOTS: Final = 4096
ULID_CHARS: Final = 26
TIME_CHARS: Final = 10
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Ten bits at a time: one table look-up for two characters.
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
TIMES_KEPT_MAX: Final = 4_096
_TIMES: Final[dict[int, str]] = {}
_THIRTY_BITS: Final = (1 << 30) - 1
_TWENTY_BITS: Final = (1 << 20) - 1
_AS_BASE32: Final = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")  # Python's own digits.
_VALUES: Final = {c: i for i, c in enumerate(_ALPHABET)}


def encode_ulid(number: int) -> str:
    """The 26 characters of a 128-bit number."""
    # In small numbers: shifting one of 128 bits thirteen times takes three times as long.
    time = number >> 80
    high, low, last, p = number >> 50 & _THIRTY_BITS, number >> 20 & _THIRTY_BITS, number & _TWENTY_BITS, _PAIRS
    return (
        f"{_TIMES.get(time) or _time_chars(time)}"
        f"{p[high >> 20]}{p[high >> 10 & 1023]}{p[high & 1023]}"
        f"{p[low >> 20]}{p[low >> 10 & 1023]}{p[low & 1023]}{p[last >> 10]}{p[last & 1023]}"
    )


def _time_chars(time: int) -> str:
    """The first ten characters; kept, since the ids of one millisecond share them."""
    p = _PAIRS
    chars = f"{p[time >> 40]}{p[time >> 30 & 1023]}{p[time >> 20 & 1023]}{p[time >> 10 & 1023]}{p[time & 1023]}"
    if len(_TIMES) >= TIMES_KEPT_MAX:
        _TIMES.clear()
    _TIMES[time] = chars
    return chars


def decode_ulid(text: str) -> int:
    """The 128-bit number of a ULID. Raises ValueError on anything else."""
    if not is_ulid(text):
        raise ValueError(f"expected a ULID (26 characters of 0-9 A-Z without I L O U), got {text[:64]!r}")
    number = 0
    for c in text:
        number = number << 5 | _VALUES[c]
    return number


def is_ulid(text: str) -> bool:
    """Whether the text is a ULID in upper case that fits 128 bits."""
    # What is left when the alphabet is taken off both ends: nothing, if there is nothing else. Once for each event.
    return len(text) == ULID_CHARS and text[0] in "01234567" and not text.strip(_ALPHABET)


def ulid(at_ms: int, tail: bytes) -> str:
    """The ULID of a time and ten bytes."""
    return encode_ulid(at_ms << 80 | int.from_bytes(tail, "big"))


def ulid_time_ms(text: str) -> int:
    """The Unix milliseconds in a ULID: its first ten characters. Raises ValueError where they are no such number."""
    return int(text[:TIME_CHARS].translate(_AS_BASE32), 32)


def hash16(*parts: str) -> bytes:
    """Sixteen bytes that stand for the parts."""
    return blake2b("\x00".join(parts).encode(), digest_size=16).digest()


def run_id(event_ms: int, internal_id: str, function: str, cause: str, *, lane: int, lanes: int) -> str:
    """The id of the run that this function makes of this event, in a slot of this lane.

    ``cause`` is empty for a trigger; a request's id for invoke, rerun and backfill, so that those are runs of their
    own.
    """
    bits = int.from_bytes(blake2b(f"{internal_id}\x00{function}\x00{cause}".encode(), digest_size=10).digest(), "big")
    slot = slot_of_lane(bits >> 68, lane, lanes)
    return encode_ulid(event_ms << 80 | slot << 68 | bits & ((1 << 68) - 1))


def slot_of_lane(number: int, lane: int, lanes: int) -> int:
    """One of the lane's slots, picked by ``number``. The slots of a lane are those equal to it modulo ``lanes``."""
    return lane + lanes * (number % ((SLOTS - lane + lanes - 1) // lanes))


def slot_of(run: str) -> int:
    """The slot in a run id."""
    return decode_ulid(run) >> 68 & (SLOTS - 1)


def lane_of(run: str, lanes: int) -> int:
    """The lane that owns a run."""
    return slot_of(run) % lanes


def home_of(key: str, lanes: int) -> int:
    """The lane that decides for a key (a function id, later a flow key)."""
    return int.from_bytes(blake2b(key.encode(), digest_size=2).digest(), "big") % SLOTS % lanes


def lane_of_source(topic: str, partition: int, lanes: int) -> int:
    """The lane that reads a source partition: shifted by the topic, so that small topics don't pile up on lane 0."""
    return (partition + int.from_bytes(blake2b(topic.encode(), digest_size=4).digest(), "big")) % lanes
