"""Names of settings that commands with apps over HTTP take together."""

from __future__ import annotations

from typing import Final

SIGNING: Final = (
    "signing_key", "signing_key_file", "signing_key_fallback", "signing_key_fallback_file", "environments",
)  # fmt: skip
SYNC: Final = ("sdk_urls", "no_poll")
