"""The token of a callback: what its URL ends with, and all that a post to it needs.

    <run>.<mark of the step>.<signature>        01KBC….5f0e9c41d2a7.q3J…
    ╰──────── id ──────────╯

The signature is an HMAC of the id under the group's key, so whoever has the key knows that a token was made here, also
long after its run is over, and nobody keeps a row for it. The same step always has the same token. The id alone is no
secret: it names the callback where people look at it.
"""

from __future__ import annotations

import base64
import hmac
from hashlib import blake2b, sha256
from typing import Final

from millstream.model.ids import is_ulid

PATH: Final = "/v1/callbacks/"
KEY_BYTES: Final = 32
MARK_BYTES: Final = 6
SIGNATURE_BYTES: Final = 18
"""144 bits: 24 characters, none of them padding."""


def mark_of(step: str) -> str:
    """What stands for a step of a run in a token."""
    return blake2b(step.encode("utf-8", "surrogatepass"), digest_size=MARK_BYTES).hexdigest()


def callback_id(run: str, step: str) -> str:
    """The id of the callback that this step has made."""
    return f"{run}.{mark_of(step)}"


def token_of(key: bytes, id: str) -> str:
    """The token of a callback by its id."""
    return f"{id}.{_signature(key, id)}"


def callback_url(public_url: str, key: bytes, id: str) -> str:
    """Where one posts to a callback."""
    return f"{public_url.rstrip('/')}{PATH}{token_of(key, id)}"


def opened(key: bytes, token: str) -> tuple[str, str] | None:
    """The run and the mark of the step in a token of ours; None for any other text."""
    id, _, signature = token.rpartition(".")
    run, _, mark = id.partition(".")
    if not key or not token.isascii() or not is_ulid(run):
        return None
    return (run, mark) if hmac.compare_digest(signature, _signature(key, id)) else None


def _signature(key: bytes, id: str) -> str:
    assert len(key) == KEY_BYTES, f"the key of a group has {KEY_BYTES} bytes, got {len(key)}"
    digest = hmac.digest(key, b"millstream callback\x00" + id.encode(), sha256)
    return base64.urlsafe_b64encode(digest[:SIGNATURE_BYTES]).decode()
