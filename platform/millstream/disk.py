"""The machine's disk: which of its errors pass by themselves, and small files that are written whole or not at all.

A store that cannot write now is not a damaged one. ``passing`` is the one list of what passes once somebody makes room,
raises a limit or gives a permission back; every store, log and history classifies its errors by it, each in one
function of its own (``state/rocksdb.py``, ``log/embedded/file.py``, ``history/damage.py``).

``write_small_file`` writes the files that a start depends on: ``group``, ids, marks. A file that is empty after a full
disk would refuse every start from then on.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from millstream.errors import OperatorError

PASSING: Final[dict[int, str]] = {
    errno.ENOSPC: "no room on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EMFILE: "this process may open no more files (ulimit -n)",
    errno.ENFILE: "this machine may open no more files",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "the disk may only be read",
    errno.ENOMEM: "no memory",
    errno.EAGAIN: "the system has no resources now",
    errno.EINTR: "the system was interrupted",
    errno.EBUSY: "the system is busy",
}
"""Errors of the system that say nothing about what is stored, and why each is raised."""
_WORDS: Final = {os.strerror(number): why for number, why in PASSING.items()}
_TEMPORARY: Final = ".new"


def passing(error: BaseException) -> str:
    """Why an error passes by itself, in words; "" where it does not, or nobody knows.

    Libraries in C give the system's error as text only, so the text is looked at where there is no number.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return PASSING.get(error.errno, "")
    text = str(error)
    return next((why for words, why in _WORDS.items() if words in text), "")


def write_small_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file whole or not at all, and durably: a crash or a full disk leaves what was there before.

    Raises OperatorError where that cannot be done. One writer at a time; a link at ``path`` is replaced, not followed.
    """
    beside = path.with_name(path.name + _TEMPORARY)
    try:
        with suppress(FileNotFoundError):
            beside.unlink()  # Of a process that died in here.
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            with open(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
        sync_directory(path.parent)
    except OSError as error:
        why = passing(error)
        raise OperatorError(
            f"{path} was not written: {why + ' (' if why else ''}{error}{')' if why else ''}. Expected to write "
            f"{len(content)} bytes; what was there before is unchanged. "
            f"{'Mend that' if why else 'Check the disk'}, then start again."
        ) from error


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power cut."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
