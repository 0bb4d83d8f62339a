"""``Retry-After`` in its three forms: seconds, an ISO 8601 instant (RFC 3339), an HTTP date (RFC 1123)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from millstream.model import limits

SECONDS_DIGITS_MAX: Final = 7
NOT_SAID: Final = -1


def retry_after_ms(text: str, now_ms: int) -> int:
    """How long to wait from now, up to RETRY_AFTER_MS_MAX; −1 where the text says nothing that can be understood."""
    text = text.strip()
    if not text:
        return NOT_SAID
    if text.isascii() and text.isdigit():
        return min(int(text) * 1_000, limits.RETRY_AFTER_MS_MAX) if len(text) <= SECONDS_DIGITS_MAX else NOT_SAID
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return NOT_SAID
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    try:
        after_ms = round(at.timestamp() * 1_000) - now_ms
    except (ValueError, OverflowError):
        return NOT_SAID
    return min(max(after_ms, 0), limits.RETRY_AFTER_MS_MAX)
