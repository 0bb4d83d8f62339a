"""Numbers as Avro writes them: zig-zag, seven bits a byte, lowest first; fast because they come again.

    0  00      -1  01      1  02      63  7e      64  80 01      a time in ms  6 bytes

Nearly every number of ours was written a moment ago: lengths, lanes, attempts and offsets that are small, and the time,
which stays for a millisecond. So the bytes are kept in a dict that makes what is missing (``numbers``), and a time once
read is known by its six bytes. The code that ``compiled_avro.py`` generates reads a number of one byte itself and calls
functions here for the rest.

The rule: what is remembered never changes a result, only its cost, and is at most NUMBERS_REMEMBERED_MAX numbers.
"""

from __future__ import annotations

from operator import index
from typing import Final

NUMBERS_REMEMBERED_MAX: Final = 16_384
"""Numbers kept in each direction, about 2 MB; when there are as many, all are forgotten."""
TIME_BYTES: Final = 6
"""Bytes of a time in milliseconds, until the year 2039; only numbers of this size are remembered when read."""


class Numbers(dict[int, bytes]):
    """The bytes of each number, made when first asked for.

    Raises TypeError on what is no whole number (a float equal to one may pass), OverflowError beyond 64 bits.
    """

    def __missing__(self, number: int) -> bytes:
        number = index(number)  # TypeError on what is no whole number; a member of an enum becomes a plain one.
        if not -(2**63) <= number < 2**63:
            raise OverflowError(f"a number of an Avro record must have at most 64 bits, got {number.bit_length()} bits")
        left = (number << 1) ^ (number >> 63)
        written = bytearray()
        while left > 127:
            written.append(left & 127 | 128)
            left >>= 7
        written.append(left)
        if len(self) >= NUMBERS_REMEMBERED_MAX:
            self.clear()  # What comes again is back at once, and this happens once in thousands of new numbers.
        self[number] = result = bytes(written)
        return result


numbers: Final = Numbers()
"""The bytes of a number: ``numbers[64]``."""
times: Final[dict[bytes, int]] = {}
"""The numbers of TIME_BYTES bytes that were read last."""


def number(data: bytes, at: int) -> tuple[int, int]:
    """A number of any length, and where it ends. Raises ValueError where it has more than 64 bits."""
    byte = data[at]
    if byte < 128:
        return (byte >> 1) ^ -(byte & 1), at + 1
    second = data[at + 1]
    if second < 128:
        read = byte & 127 | second << 7
        return (read >> 1) ^ -(read & 1), at + 2
    known = times.get(data[at : at + TIME_BYTES])
    if known is not None:
        return known, at + TIME_BYTES
    read, shift, start = 0, 0, at
    while byte > 127:
        read |= (byte & 127) << shift
        shift += 7
        at += 1
        byte = data[at]
        if shift > 63:
            raise ValueError("a number of more than 10 bytes")
    read |= byte << shift
    if read >= 2**64:
        raise ValueError("a number of more than 64 bits")
    value, at = (read >> 1) ^ -(read & 1), at + 1
    if at - start == TIME_BYTES:
        if len(times) >= NUMBERS_REMEMBERED_MAX:
            times.clear()
        times[data[start:at]] = value
    return value, at


def span(data: bytes, at: int) -> tuple[int, int]:
    """From where to where a string or bytes go whose length is at ``at``."""
    length, at = number(data, at)
    if length < 0:
        raise ValueError(f"a length of {length}")
    return at, at + length


def block(data: bytes, at: int) -> tuple[int, int]:
    """How many items come next in an array, and from where. A negative count has the block's size behind it."""
    count, at = number(data, at)
    if count < 0:
        _size, at = number(data, at)
    return abs(count), at
