"""What a server process holds alone: the lock of its data directory, the port that it listens on.

The kernel lets go of both when the process ends, however it dies. A child that user code *forks* (``os.fork``,
``multiprocessing``) has them too, and would keep them from the next server for as long as it lives: so a fork lets go
of them at once. Children that are started with exec never have them.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from millstream.errors import LogLocked
from millstream.files import private_file

_HELD: Final[set[int]] = set()


def drop_in_forks(handle: int) -> None:
    """Have every fork let go of this descriptor. ``forget`` comes before it is closed: its number is used again."""
    _HELD.add(handle)


def forget(handle: int) -> None:
    """Forget a descriptor that is about to be closed."""
    _HELD.discard(handle)


def lock(directory: Path, what: str) -> int:
    """Take a directory for this process; the lock's descriptor, for ``unlock``. Raises LogLocked naming who has it.

    ``what`` is there, for the message. There is no stale lock to remove. Raises ConfigError where the lock's file is
    none of ours.
    """
    handle = private_file(directory / "lock")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise LogLocked(
            f"{what} in {directory} is already being written by process {holder}. One process writes a data "
            "directory; stop that one, or choose another directory with --data."
        ) from None
    with suppress(OSError):  # A full disk: the note is for a message only, and the lock is held all the same.
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    drop_in_forks(handle)
    return handle


def unlock(handle: int) -> None:
    """Give the directory back."""
    forget(handle)
    os.close(handle)


def _drop_in_child() -> None:
    # Replaced, not closed: the objects that own these numbers are in the child, too, and close them some day.
    with suppress(OSError):
        nothing = os.open(os.devnull, os.O_RDWR)
        for handle in _HELD:
            os.dup2(nothing, handle, inheritable=False)
        os.close(nothing)
    _HELD.clear()


os.register_at_fork(after_in_child=_drop_in_child)
