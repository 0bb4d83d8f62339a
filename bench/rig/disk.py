"""How long one fdatasync takes on the disk that is measured: the floor under every durable figure."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

BLOCK: Final = b"x" * 4096


class Disk:
    """A file that is appended to and synced, a block at a time, beside what is measured."""

    def __init__(self, directory: Path) -> None:
        self.took_s: list[float] = []
        self._handle = os.open(directory / "disk", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def sync(self) -> float:
        """Append a block and sync it; how long the sync took."""
        os.write(self._handle, BLOCK)
        begun = time.perf_counter()
        os.fdatasync(self._handle)
        self.took_s.append(time.perf_counter() - begun)
        return self.took_s[-1]

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)
