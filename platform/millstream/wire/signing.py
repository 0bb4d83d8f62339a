"""Signing keys: how a server and its apps know each other in the SDKs' protocol.

    key       signkey-<env>-<hex>, or the hex alone
    calls     X-Inngest-Signature: t=<Unix seconds>&s=<hex HMAC-SHA256 of the body, then t>
    requests  Authorization: Bearer <SHA-256 of the key's bytes, in hex>, with the key's prefix or without; people's own
              requests may show the key itself

The HMAC's key is the text behind the prefix, not its bytes. Calls to an app are signed over the canonical form of their
body (``canonical_json.py``), its replies over their bytes as they are. The SDKs do not sign requests to us: they show
the hash of the key.

Two keys may hold at once, so that a key is replaced without an outage: what is signed here is signed with the first,
what comes is taken with either.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from millstream.errors import ConfigError
from millstream.wire.canonical_json import canonical_json

SIGNATURE_HEADER: Final = "X-Inngest-Signature"
KIND_HEADER: Final = "X-Inngest-Server-Kind"
"""Of requests and answers of a server: ``SigningKeys.kind``."""
SKEW_S_MAX: Final = 300
"""How far the clocks of a server and an app may be apart."""
_KEY: Final = re.compile(r"(?P<prefix>signkey-\w+-)?(?P<hex>(?:[0-9a-fA-F]{2})+)")
_PREFIX: Final = re.compile(r"signkey-\w+-")
_SIGNATURE: Final = re.compile(r"t=(?P<t>\d{1,12})&s=(?P<s>[0-9a-f]{64})")
_BEARER: Final = "bearer "


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key: ``prefix`` is ``signkey-<env>-`` or empty, ``secret`` the hex behind it."""

    prefix: str
    secret: str = field(repr=False)

    @property
    def hash(self) -> str:
        """What an SDK shows instead of the key."""
        return sha256(bytes.fromhex(self.secret)).hexdigest()

    def signature(self, message: bytes, at_s: int) -> str:
        """The hex HMAC of these bytes at this time."""
        return hmac.digest(self.secret.encode(), message + str(at_s).encode(), sha256).hex()


def parse_signing_key(text: str, what: str = "signing key") -> SigningKey:
    """The key in ``signkey-<env>-<hex>`` or bare hex. Raises ConfigError, which never quotes it."""
    given = text.strip()
    found = _KEY.fullmatch(given)
    if found is not None:
        return SigningKey(found["prefix"] or "", found["hex"])
    behind = _PREFIX.sub("", given, count=1)
    if not behind:
        got = "nothing"
    elif re.fullmatch(r"[0-9a-fA-F]+", behind):
        got = f"{len(behind)} digits, an odd number"
    else:
        got = f"{len(behind)} characters that are not all hexadecimal"
    raise ConfigError(
        f"the {what} is none: expected signkey-<environment>-<hex> or an even number of hexadecimal digits alone, "
        f"got {got}. Make one with: openssl rand -hex 32"
    )


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The keys of a server; none in dev mode. ``primary`` signs, ``fallback`` is taken as well."""

    primary: SigningKey | None = None
    fallback: SigningKey | None = None

    def __post_init__(self) -> None:
        if self.fallback is not None and self.primary is None:
            raise ConfigError(
                "a fallback signing key was given without a signing key. Give the new key as the signing key and the "
                "one that it replaces as the fallback."
            )

    @staticmethod
    def of(primary: str = "", fallback: str = "") -> SigningKeys:
        """The keys in these texts, empty for none. Raises ConfigError."""
        return SigningKeys(
            parse_signing_key(primary) if primary else None,
            parse_signing_key(fallback, "fallback signing key") if fallback else None,
        )

    def __bool__(self) -> bool:
        return self.primary is not None

    @property
    def kind(self) -> str:
        """What ``X-Inngest-Server-Kind`` says: ``cloud`` with keys, else ``dev``."""
        return "cloud" if self else "dev"

    @property
    def all(self) -> tuple[SigningKey, ...]:
        """The first, then the fallback."""
        return tuple(key for key in (self.primary, self.fallback) if key is not None)

    def sign(self, body: bytes, now_s: int) -> str:
        """The header of a call with this JSON body, in any form. Raises BadRequest for what is no JSON."""
        return self.sign_canonical(canonical_json(body), now_s)

    def sign_canonical(self, body: bytes, now_s: int) -> str:
        """The header of a call whose body has this canonical form."""
        assert self.primary is not None, "without a key nothing is signed"
        return f"t={now_s}&s={self.primary.signature(body, now_s)}"

    def verify(self, header: str, body: bytes, now_s: int, skew_s: int = SKEW_S_MAX) -> bool:
        """Whether one of the keys has signed these bytes, as an app signs its reply, within ``skew_s`` of now."""
        found = _SIGNATURE.fullmatch(header)
        if found is None:
            return False
        at_s = int(found["t"])
        right = sum(hmac.compare_digest(found["s"], key.signature(body, at_s)) for key in self.all)
        return right > 0 and abs(now_s - at_s) <= skew_s

    def bearers(self) -> tuple[str, ...]:
        """The texts behind ``Bearer`` with which requests are made, the first key's first."""
        return tuple(key.prefix + key.hash for key in self.all)

    def accepts_bearer(self, header: str) -> bool:
        """Whether an Authorization header has a key or its hash, with any prefix or none; without keys anything does.

        In dev mode one SDK sends no header at all, the other ``Bearer undefined``.
        """
        if not self:
            return True
        if header[: len(_BEARER)].lower() != _BEARER:
            return False
        shown = _PREFIX.sub("", header[len(_BEARER) :].strip(), count=1).encode("utf-8", "surrogateescape")
        right = [text.encode() for key in self.all for text in (key.hash, key.secret)]
        return sum(hmac.compare_digest(shown, text) for text in right) > 0  # All are compared.
