"""What a client needs to reach a server: its URL, the key it sends. What cannot be either is refused with words."""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit

from millstream.errors import ConfigError
from millstream.model.text.redaction import keep_secret, redacted
from millstream.model.text.storable import is_storable

SHOWN_CHARS_MAX: Final = 200


def http_url(text: str, origin: str) -> SplitResult:
    """The parts of an http or https URL; a password in it is remembered as a secret. Raises ConfigError."""
    parts: SplitResult | None
    try:
        parts = urlsplit(text)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        secret = parts.password or ""
    except ValueError:  # A port that is no number, brackets that do not close.
        parts, is_one, secret = None, False, ""
    if parts is None or not is_one or not is_storable(text) or not text.isprintable() or " " in text:
        raise ConfigError(
            f"{origin} was refused: expected something like http://127.0.0.1:8288, "
            f"got {redacted(text[:SHOWN_CHARS_MAX])!r}."
        )
    keep_secret(secret)
    return parts


def sendable_key(key: str, origin: str) -> str:
    """An event key that a path and a header can hold. Raises ConfigError, which does not show it."""
    if not (is_storable(key) and key.isprintable()):
        raise ConfigError(
            f"{origin} was refused: expected characters that can be printed, got {len(key)} with another among them "
            "(a line's end?). Give the key as the server has it."
        )
    return key
