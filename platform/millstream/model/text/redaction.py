"""Secrets taken out of text: what every log line, error and setting goes through before anybody can read it.

Two kinds are found. Those that *look* like one: the password of a URL, the key in the path of the event API, the token
of an Authorization header, the signature of a callback's URL, a query parameter named like a secret. And those that
this process was *given* (settings marked secret, password files, keys of a client), wherever they stand:
``keep_secret``.

*Warning*: a secret that neither looks like one nor was given as one is not recognised, and one of fewer than
``KNOWN_CHARS_MIN`` characters only where it looks like one: taken out of words it would leave none.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

MASK: Final = "****"
KNOWN_CHARS_MIN: Final = 6
OWN_CHARS_MIN: Final = 4
KNOWN_MAX: Final = 10_000

_USER_PART: Final = re.compile(r"(?<=://)[^\s/?#'\"<>]*@")
_EVENT_KEY: Final = re.compile(r"((?:(?<![^\s'\"=(\[`,])|://[^\s?#'\"<>]*?)/e/)[^\s/?#'\"<>…*)\]`,]+")
_HEADER: Final = re.compile(
    r"(\bauthorization\b['\"]?\s*[:=,]\s*b?['\"]?(?:bearer|basic|digest)\s+)[^\s'\",<>]+", re.IGNORECASE
)
_BEARER: Final = re.compile(r"(\bbearer\s+)(?=[^\s'\",<>]*[\d_.=-])[^\s'\",<>]{8,}", re.IGNORECASE)
_CALLBACK: Final = re.compile(r"(/v1/callbacks/[0-9A-Z]{26}\.[0-9a-f]{12}\.)[\w-]+")
_NAMED: Final = re.compile(
    r"((?:password|passwd|secret|token|api[_-]?key|access[_-]?key|event[_-]?key|signature|protection-bypass)=)[^\s&#'\"<>;,]+",
    re.IGNORECASE,
)

_known: tuple[str, ...] = ()


def keep_secret(value: str) -> None:
    """Take this value out of all text from now on, also where it is percent-encoded."""
    global _known
    if len(value) < KNOWN_CHARS_MIN or len(_known) >= KNOWN_MAX:
        return
    # The longest first: a secret may be a part of another.
    _known = tuple(sorted({*_known, value, quote(value, safe="")}, key=len, reverse=True))


def redacted(text: str, key: str = "") -> str:
    """The text with ``****`` in place of each secret; ``key`` is one of the caller's own, however short."""
    for value in {key, quote(key, safe="")} if key else ():
        text = text.replace(f"/e/{value}", f"/e/{MASK}")
        if len(value) >= OWN_CHARS_MIN:
            text = text.replace(value, MASK)
    for value in _known:
        if value in text:
            text = text.replace(value, MASK)
    return redacted_by_form(text)


def redacted_by_form(text: str) -> str:
    """The text without what looks like a secret: for answers to strangers.

    Those that this process was given stay out of it: a stranger who has his guess sent back would see by the mask
    whether it was right.
    """
    if "://" in text:
        text = _USER_PART.sub(_without_password, text)
    if "/e/" in text:
        text = _EVENT_KEY.sub(rf"\1{MASK}", text)
    if "/v1/callbacks/" in text:
        text = _CALLBACK.sub(rf"\1{MASK}", text)
    if "=" in text:
        text = _NAMED.sub(rf"\1{MASK}", text)
    text = _HEADER.sub(rf"\1{MASK}", text)
    return _BEARER.sub(rf"\1{MASK}", text)


def _without_password(found: re.Match[str]) -> str:
    """``user:****@``; without a password the user part may be a token itself."""
    user, colon, _ = found[0].partition(":")
    return f"{user}:{MASK}@" if colon else f"{MASK}@"
