"""Disks that fail for real: a small file system that can be filled, and bytes that are flipped in a file.

A simulated full disk would only show what we believe of it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, mounted at ``folder``. Skips the test where nothing can be mounted."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room there is; the file that takes it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return filler


def flip(path: Path, at: int, bits: int = 0xFF) -> None:
    """Flip bits of the byte at a place of a file, as a failing disk does."""
    with path.open("r+b") as file:
        file.seek(at)
        held = file.read(1)
        assert held, f"{path} ends before {at}"
        file.seek(at)
        file.write(bytes([held[0] ^ bits]))
