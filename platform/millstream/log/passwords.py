"""Passwords that are kept in files: never in arguments, which every process of the machine can read."""

from __future__ import annotations

from pathlib import Path

from millstream.errors import ConfigError


def password_in(file: str) -> str:
    """The first line of a password file; "" for none. Raises ConfigError."""
    if not file:
        return ""
    try:
        return Path(file).read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"password file {file} cannot be read: {error}. Name one that holds the password.") from error
