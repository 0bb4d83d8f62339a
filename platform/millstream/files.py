"""Files that somebody names, read with a bound; directories and files that hold data, for our own user alone.

What is named may be anything: a directory, a pipe that nobody writes to, a device without end, a link to another's
file. Reading it must end, and what is wrong with it is one sentence (ConfigError).
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from millstream.errors import ConfigError

PRIVATE_DIRECTORY: Final = 0o700
PRIVATE_FILE: Final = 0o600
OTHERS: Final = 0o077
TEXT_BYTES_MAX: Final = 1 << 20


def opened(path: Path, what: str) -> BinaryIO:
    """The file for reading. Raises ConfigError where there is none, or none that can be read to an end."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # Else a pipe waits for its writer.
    except (OSError, ValueError) as error:
        raise _unreadable(path, what, getattr(error, "strerror", None) or str(error)) from error
    try:
        kind = os.fstat(handle).st_mode
        if stat.S_ISDIR(kind):
            raise _unreadable(path, what, "it is a directory")
        first = _first_byte(handle, path, what) if stat.S_ISFIFO(kind) else b""
        os.set_blocking(handle, True)
        raw = io.FileIO(handle, "rb")
    except BaseException:
        os.close(handle)
        raise
    return io.BufferedReader(_Pipe(raw, first) if first else raw)


def content_of(path: Path, what: str, bytes_max: int = TEXT_BYTES_MAX) -> bytes:
    """All of the file. Raises ConfigError, also for one that is larger than ``bytes_max``."""
    with opened(path, what) as file:
        try:
            content = file.read(bytes_max + 1)
        except OSError as error:
            raise _unreadable(path, what, error.strerror or str(error)) from error
    if len(content) > bytes_max:
        raise _unreadable(path, what, f"it has more than {bytes_max:,} bytes, or no end")
    return content


def text_of(path: Path, what: str, bytes_max: int = TEXT_BYTES_MAX) -> str:
    """All of the file as text. Raises ConfigError, also where it is no UTF-8."""
    try:
        return content_of(path, what, bytes_max).decode()
    except UnicodeDecodeError as error:
        raise _unreadable(path, what, f"it is no text in UTF-8 (byte {error.start})") from error


def private_directory(path: Path) -> None:
    """Make the directory for our own user alone, where it is not there. Raises ConfigError where it cannot be.

    One that is there stays as it is: who made it has decided who may enter. What is made in it is private all the same.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(
            f"{path} cannot be the directory of data: expected a directory, or a place for one, got a file. "
            "Name another with --data."
        ) from error


def private_file(path: Path) -> int:
    """Open a file of ours for reading and writing, made if it is not there; its descriptor.

    No link is followed, and nothing is opened that another user owns or that has another name elsewhere: writing to it
    would write to somebody else's file. Raises ConfigError.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, PRIVATE_FILE)
    except OSError as error:
        if os.path.lexists(path) and (other := _whose(os.lstat(path))):
            raise _not_ours(path, other) from error
        raise
    found = os.fstat(handle)
    if other := _whose(found):
        os.close(handle)
        raise _not_ours(path, other)
    if found.st_mode & OTHERS and found.st_uid == os.geteuid():
        os.fchmod(handle, PRIVATE_FILE)  # An older version made it.
    return handle


def private_database(path: Path) -> None:
    """Make the empty file of a database for our own user alone, or look at the one that is there. Raises ConfigError.

    One that is there is not opened: closing it would drop the locks that a connection of this process has on it.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE))
        return
    except FileExistsError:
        found = os.lstat(path)
    if other := _whose(found):
        raise _not_ours(path, other)
    if found.st_mode & OTHERS and found.st_uid == os.geteuid():
        os.chmod(path, PRIVATE_FILE)


def keep_files_private() -> None:
    """Have everything that this process makes belong to its user alone, whoever makes it (SQLite, RocksDB)."""
    os.umask(os.umask(OTHERS) | OTHERS)


def _whose(found: os.stat_result) -> str:
    """What a file is instead of one that is ours alone; "" where it is that."""
    if stat.S_ISLNK(found.st_mode):
        return "a link"
    if not stat.S_ISREG(found.st_mode):
        return "a directory" if stat.S_ISDIR(found.st_mode) else "something that is no file"
    if found.st_nlink > 1:
        return "a file with a second name"
    if os.geteuid() not in (0, found.st_uid):
        return f"a file of user {found.st_uid}, while this process runs as {os.geteuid()}"
    return ""


class _Pipe(io.RawIOBase):
    """A pipe whose first byte has been read already, to see whether anybody writes to it."""

    def __init__(self, rest: io.FileIO, first: bytes) -> None:
        self._rest = rest
        self._first = first

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._first:
            buffer[:1], self._first = self._first, b""
            return 1
        return self._rest.readinto(buffer) or 0

    def close(self) -> None:
        self._rest.close()
        super().close()


def _first_byte(handle: int, path: Path, what: str) -> bytes:
    try:
        first = os.read(handle, 1)
    except BlockingIOError:
        return b""  # Somebody has it open and has not written yet.
    if not first:
        raise _unreadable(path, what, "it is a pipe that nobody writes to")
    return first


def _unreadable(path: Path, what: str, why: str) -> ConfigError:
    return ConfigError(f"{what} {str(path)!r:.300} cannot be read: {why}. Name a file that can.")


def _not_ours(path: Path, got: str) -> ConfigError:
    return ConfigError(
        f"{path} is not used: expected a file of our own, got {got}. Remove it if nobody needs it, or choose another "
        "directory with --data."
    )
