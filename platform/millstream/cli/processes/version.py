"""``millstream version``."""

from __future__ import annotations

from millstream import __version__


def print_version() -> int:
    """Print the version; 0."""
    print(f"millstream {__version__}")
    return 0
