"""Payloads from where users have them: on the command line, in a file (``@file``), on standard input (``-``).

Files of events are jsonl: one object a line, with at least a name. They may be larger than memory, so they are read as
they are sent.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from millstream import files
from millstream.errors import BadRequest, ConfigError
from millstream.model import limits

PAYLOAD_BYTES_MAX: Final = 256 * 1024 * 1024
"""Of what is read as a whole. A file of whole events (``@events.jsonl``) may be of any size."""
LINE_BYTES_MAX: Final = limits.EVENT_BYTES_MAX + 64 * 1024
STDIN: Final = "-"


class JsonLines:
    """The objects of a jsonl source, with what is needed for errors and for a progress bar."""

    def __init__(self, source: BinaryIO, name: str, size: int) -> None:
        """``size`` 0: not known."""
        self.name = name
        self.size = size
        self.line = 0
        self.bytes = 0
        self._source = source

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Each line's object; empty lines are passed over. Raises BadRequest, naming the line."""
        while raw := self._source.readline(LINE_BYTES_MAX):
            self.line += 1
            self.bytes += len(raw)
            if not raw.endswith(b"\n") and len(raw) == LINE_BYTES_MAX:
                raise BadRequest(f"{self.where()}: a line may have {LINE_BYTES_MAX} bytes, this one has more.")
            if raw.strip():
                yield self._object(raw)

    def where(self) -> str:
        """The line read last, for messages."""
        return f"{self.name} line {self.line}"

    def _object(self, raw: bytes) -> dict[str, Any]:
        found = decoded(raw, self.where())
        if not isinstance(found, dict):
            raise BadRequest(
                f"{self.where()}: expected one JSON object a line, got {raw[:80].decode(errors='replace')}"
            )
        return found


@contextlib.contextmanager
def opened(text: str) -> Iterator[JsonLines]:
    """The jsonl behind ``-``, ``@file`` or a file's name. Raises ConfigError where there is none."""
    if text == STDIN:
        yield JsonLines(sys.stdin.buffer, "standard input", 0)
        return
    path = Path(text.removeprefix("@"))
    with files.opened(path, "the file of events") as file:
        yield JsonLines(file, str(path), path.stat().st_size)


def payload(text: str) -> bytes:
    """The bytes that an argument means: itself, a file's, or standard input's."""
    if text == STDIN:
        content = sys.stdin.buffer.read(PAYLOAD_BYTES_MAX + 1)
        if len(content) > PAYLOAD_BYTES_MAX:
            raise ConfigError(f"standard input was refused: expected at most {PAYLOAD_BYTES_MAX:,} bytes, got more.")
        return content
    if not text.startswith("@"):
        return text.encode()
    return files.content_of(Path(text[1:]), "the file", PAYLOAD_BYTES_MAX)


def decoded(raw: bytes, where: str) -> Any:
    """The JSON of bytes. Raises BadRequest that says where."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        shown = raw[:80].decode(errors="replace").strip()
        raise BadRequest(f"{where}: expected JSON, got {shown!r}: {error}") from error
