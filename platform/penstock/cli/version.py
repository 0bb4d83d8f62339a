"""``penstock version``."""

from __future__ import annotations

from penstock import __version__


def print_version() -> int:
    """Print the version; 0."""
    print(f"penstock {__version__}")
    return 0
