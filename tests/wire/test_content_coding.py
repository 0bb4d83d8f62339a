"""All of a content coding is taken off a body, and a body that is not all of one is refused."""

from __future__ import annotations

import gzip
import zlib

import pytest

from millstream.errors import BadRequest
from millstream.wire.content_coding import PART_BYTES_MAX, decoder_of

TEXT = b'{"name":"x","data":{"a":"' + b"abc" * 1_000 + b'"}}'
BARE = zlib.compress(TEXT)[2:-4]
SENT = {
    "gzip": gzip.compress(TEXT, mtime=0),
    "x-gzip": gzip.compress(TEXT, mtime=0),
    "GZip": gzip.compress(TEXT[:9], mtime=0) + gzip.compress(TEXT[9:], mtime=0),
    "deflate": zlib.compress(TEXT),
    "Deflate": BARE,
    "identity, gzip": gzip.compress(TEXT, mtime=0),
}


def decoded(encoding: str, body: bytes, step: int = 1_000_000) -> bytes:
    decoder = decoder_of(encoding)
    assert decoder is not None
    parts = [part for at in range(0, len(body), step) for part in decoder.feed(body[at : at + step])]
    return b"".join([*parts, *decoder.end()])


@pytest.mark.parametrize("step", [1, 7, 1_000_000])
@pytest.mark.parametrize("encoding", SENT)
def test_a_body_is_decoded_however_it_arrives(encoding: str, step: int) -> None:
    assert decoded(encoding, SENT[encoding], step) == TEXT


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "Deflate"])
def test_a_body_that_stops_anywhere_before_its_end_is_refused(encoding: str) -> None:
    for length in range(1, len(SENT[encoding])):
        with pytest.raises(BadRequest, match=r"Content-Encoding '(gzip|deflate)'.*Nothing was stored"):
            decoded(encoding, SENT[encoding][:length])


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "Deflate"])
@pytest.mark.parametrize("step", [1, 1_000_000])
def test_what_lies_behind_the_end_is_refused(encoding: str, step: int) -> None:
    with pytest.raises(BadRequest):
        decoded(encoding, SENT[encoding] + b"zz", step)


@pytest.mark.parametrize("body", [b"{}", b"\x1f\x8b\x08" + b"\xff" * 200, SENT["gzip"][:-9] + b"\0" * 9, b"\x78\xff\0"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_no_such_coding_is_refused(encoding: str, body: bytes) -> None:
    with pytest.raises(BadRequest):
        decoded(encoding, body)


@pytest.mark.parametrize("encoding", ["br", "zstd", "x", "gzip, gzip", "deflate,gzip", "\xff"])
def test_a_coding_that_is_not_known_is_refused(encoding: str) -> None:
    with pytest.raises(BadRequest, match="is not known here"):
        decoder_of(encoding)


@pytest.mark.parametrize("encoding", ["", "identity", " , Identity"])
def test_a_body_without_coding_is_left_as_it_is(encoding: str) -> None:
    assert decoder_of(encoding) is None


def test_a_bomb_comes_in_parts() -> None:
    decoder = decoder_of("gzip")
    assert decoder is not None
    parts = decoder.feed(gzip.compress(bytes(64 * 1024 * 1024), mtime=0))
    assert [len(next(parts)) for _ in range(4)] == [PART_BYTES_MAX] * 4
