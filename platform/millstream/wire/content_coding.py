"""``decoder_of``: takes the content coding off a body (RFC 9110, Content-Encoding), piece by piece.

gzip, of one member or several, and deflate: zlib's format, and the bare stream that some clients send under that name.
The rule: **all of a coding is there, and nothing else.** A body that stops before the coding's end, be it two bytes of
one, is refused: what it would decode to is not what was sent, and of two bytes it is nothing at all.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from millstream.errors import BadRequest

PART_BYTES_MAX: Final = 256 * 1024
"""The most that one step decodes, so that a small piece of a bomb does not become hundreds of MiB at once."""
_GZIP: Final = frozenset(("gzip", "x-gzip"))
_DEFLATE: Final = "deflate"
_ZLIB_METHOD: Final = 8


def decoder_of(content_encoding: str) -> Decoder | None:
    """What decodes a body with this header; None where it is sent as it is. Raises BadRequest on a coding we lack."""
    names = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    if not names:
        return None
    if len(names) > 1 or (names[0] not in _GZIP and names[0] != _DEFLATE):
        raise BadRequest(
            f"the request body could not be read: Content-Encoding {content_encoding[:64]!r} is not known here. "
            "Nothing was stored: encode it once, as gzip or deflate, or leave the header out."
        )
    return Decoder(names[0])


class Decoder:
    """One body being decoded: ``feed`` each piece of it, then ``end``."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._stream: zlib._Decompress | None = None

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The parts that a piece of the body decodes to. Raises BadRequest where it is not in the coding."""
        while piece:
            stream = self._stream
            if stream is None or stream.eof:
                stream = self._stream = self._next(piece)
            try:
                part = stream.decompress(piece, PART_BYTES_MAX)
            except zlib.error as error:
                raise self._refused(str(error)) from error
            piece = stream.unused_data if stream.eof else stream.unconsumed_tail
            if part:
                yield part

    def end(self) -> Iterator[bytes]:
        """The parts that are left when all pieces were fed. Raises BadRequest where the coding is not complete."""
        stream = self._stream
        if stream is None:
            return  # Nothing was sent.
        while not stream.eof and (part := stream.decompress(b"", PART_BYTES_MAX)):
            yield part
        if not stream.eof:
            raise self._refused("a body that stops before its end")

    def _next(self, piece: bytes) -> zlib._Decompress:
        if self._coding in _GZIP:
            return zlib.decompressobj(zlib.MAX_WBITS | 16)  # The first member, or another.
        if self._stream is not None:
            raise self._refused(f"{len(piece)} bytes or more behind its end")
        is_zlib = piece[0] & 0xF == _ZLIB_METHOD  # Its format begins so; what does not is a bare stream.
        return zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)

    def _refused(self, got: str) -> BadRequest:
        return BadRequest(
            f"the request body could not be read: expected it as its headers say (Content-Encoding {self._coding!r}), "
            f"got {got!r}. Nothing was stored: encode it so, or leave the header out."
        )
