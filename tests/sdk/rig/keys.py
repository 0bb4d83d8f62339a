"""Signing keys, and what apps and requests are given for them."""

from __future__ import annotations

import hashlib
from typing import Final

KEY: Final = "signkey-prod-" + "ab" * 16
NEW_KEY: Final = "signkey-prod-" + "cd" * 16
EVENT_KEY: Final = "test"
"""The one that the server of the cases sends events with."""


def bearer(key: str) -> str:
    """The token that stands for a signing key."""
    return "signkey-prod-" + hashlib.sha256(bytes.fromhex(key.rpartition("-")[2])).hexdigest()


def variables(url: str, key: str = KEY, fallback: str = "") -> dict[str, str]:
    """What users set for an app with a server of their own."""
    given = {"INNGEST_DEV": "0", "INNGEST_BASE_URL": url, "INNGEST_EVENT_KEY": EVENT_KEY, "INNGEST_SIGNING_KEY": key}
    return given | ({"INNGEST_SIGNING_KEY_FALLBACK": fallback} if fallback else {})
