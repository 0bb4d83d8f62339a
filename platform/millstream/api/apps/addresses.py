"""Addresses of apps, compared: what stands for the same place counts as one."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_PORTS: Final = {"http": 80, "https": 443}


def place_of(url: str) -> str:
    """The address in one spelling: names of this machine are one, default ports are written out."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or _PORTS.get(parts.scheme, 0)
    host = "localhost" if host in _LOOPBACK else host
    return f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}?{parts.query}"
