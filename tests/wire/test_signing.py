"""Signatures and bearers are those of the SDKs: what one side makes, the other side takes."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inngest._internal import net, server_lib

from millstream.errors import ConfigError
from millstream.wire.signing import SKEW_S_MAX, SigningKeys, parse_signing_key

OLD, NEW = "signkey-prod-" + "ab" * 16, "signkey-test-" + "0c" * 32
NOW_S = 1_795_357_115
BOTH = SigningKeys.of(NEW, OLD)


def taken_by_the_sdk(header: str, body: bytes, key: str, fallback: str | None = None) -> bool:
    """Whether the Python SDK takes a call with this header."""
    said = net.validate_request_sig(
        body=body,
        headers={"x-inngest-signature": header},
        mode=server_lib.ServerKind.CLOUD,
        signing_key=key,
        signing_key_fallback=fallback,
    )
    return not isinstance(said, Exception)


def signed_by_the_sdk(body: bytes, key: str, at_s: int = NOW_S) -> str:
    """The header of a reply of the Python SDK."""
    header = net.sign_response(body, key, at_s)
    assert isinstance(header, str)
    return header


@given(st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), st.floats(-1e30, 1e30), max_size=5))
def test_the_sdk_takes_a_call_that_is_signed_here(body: dict[str, Any]) -> None:
    sent = json.dumps(body, indent=1).encode()
    assert taken_by_the_sdk(BOTH.sign(sent, NOW_S), sent, NEW)


def test_a_call_without_a_body_is_signed_too() -> None:
    assert taken_by_the_sdk(BOTH.sign(b"", NOW_S), b"", NEW)


def test_a_bare_hex_key_signs_as_the_one_with_a_prefix_does() -> None:
    bare = SigningKeys.of(OLD.rpartition("-")[2])
    assert bare.sign(b"{}", NOW_S) == SigningKeys.of(OLD).sign(b"{}", NOW_S)


def test_calls_are_signed_with_the_new_key_and_an_app_that_has_both_takes_them() -> None:
    header = BOTH.sign(b"{}", NOW_S)
    assert taken_by_the_sdk(header, b"{}", OLD, NEW)
    assert not taken_by_the_sdk(header, b"{}", OLD)


@pytest.mark.parametrize("key", [OLD, NEW])
def test_a_reply_is_taken_with_either_key(key: str) -> None:
    body = b'{"b": 1, "a": 1.0}'
    assert BOTH.verify(signed_by_the_sdk(body, key), body, NOW_S)


def test_a_reply_is_refused_when_a_byte_a_key_or_the_time_is_another() -> None:
    body = b'{"b": 1}'
    header = signed_by_the_sdk(body, OLD)
    assert not BOTH.verify(header, body + b" ", NOW_S)
    assert not SigningKeys.of(NEW).verify(header, body, NOW_S)
    assert not BOTH.verify(header.replace("t=1", "t=2", 1), body, NOW_S)
    assert BOTH.verify(header, body, NOW_S + SKEW_S_MAX)
    assert not BOTH.verify(header, body, NOW_S + SKEW_S_MAX + 1)
    assert not BOTH.verify(header, body, NOW_S - SKEW_S_MAX - 1)


@pytest.mark.parametrize("header", ["", "t=1", "s=00", "t=x&s=00", "t=1&s=" + "é" * 64, "t=1&s=" + "0" * 63])
def test_a_header_of_another_form_is_no_signature(header: str) -> None:
    assert not BOTH.verify(header, b"{}", 1)


def test_the_signature_is_the_hmac_of_the_canonical_body_and_the_time_under_the_text_of_the_key() -> None:
    expected = hmac.new(b"ab" * 16, b'{"a":1,"b":2}' + str(NOW_S).encode(), hashlib.sha256).hexdigest()
    assert SigningKeys.of(OLD).sign(b'{"b":2,"a":1.0}', NOW_S) == f"t={NOW_S}&s={expected}"


def test_the_hash_of_a_key_is_the_one_that_both_sdks_were_seen_to_send() -> None:
    found = parse_signing_key(OLD).hash
    assert (found[:8], found[-8:]) == ("5a2cfe8a", "80473fc1")
    assert SigningKeys.of(OLD).bearers() == (f"signkey-prod-{found}",)


@pytest.mark.parametrize("key", [OLD, NEW])
def test_either_key_and_its_hash_are_accepted_with_its_prefix_another_or_none(key: str) -> None:
    shown = parse_signing_key(key).hash
    for header in (f"Bearer {key}", f"Bearer {shown}", f"bearer signkey-prod-{shown}", f"Bearer signkey-other-{shown}"):
        assert BOTH.accepts_bearer(header), header


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer undefined", f"Bearer {NEW[:-1]}f", "Basic x", "Bearer ÿ", "undefined"]
)
def test_with_keys_nothing_else_is_accepted(header: str) -> None:
    assert not BOTH.accepts_bearer(header)


@pytest.mark.parametrize("header", ["", "Bearer undefined"])
def test_without_keys_anybody_is_accepted_and_no_signature_holds(header: str) -> None:
    none = SigningKeys.of()
    assert none.accepts_bearer(header)
    assert not none.verify(signed_by_the_sdk(b"", NEW), b"", NOW_S)
    assert (none.kind, BOTH.kind) == ("dev", "cloud")


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("signkey-prod-", "got nothing"),
        ("signkey-prod-abc", "got 3 digits, an odd number"),
        ("signkey-prod-hunter2!", "got 8 characters"),
        ("hunter2!", "got 8 characters"),
    ],
)
def test_a_text_that_is_no_key_is_refused_and_not_quoted(text: str, got: str) -> None:
    with pytest.raises(ConfigError) as refused:
        SigningKeys.of(text)
    assert got in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_fallback_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="without a signing key"):
        SigningKeys.of("", OLD)


def test_no_key_is_printed() -> None:
    assert "0c0c" not in repr(BOTH)
