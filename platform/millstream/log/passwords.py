"""Passwords that are kept in files: never in arguments, which every process of the machine can read."""

from __future__ import annotations

from pathlib import Path

from millstream.files import text_of
from millstream.model.text.redaction import keep_secret


def password_in(file: str) -> str:
    """The first line of a password file; "" for none. Raises ConfigError."""
    if not file:
        return ""
    password = text_of(Path(file), "the password file").partition("\n")[0].strip()
    keep_secret(password)
    return password
