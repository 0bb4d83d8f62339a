"""Text as people may see it: characters that steer a terminal, or that turn a line around, are written as escapes.

What comes from events, user code, files and other systems may hold them: ESC sequences that recolour, retitle or answer
for a terminal, newlines that fake a log line, marks that reverse the reading order. Nothing is taken away: each becomes
its escape (``\\x1b``), so that what was sent can still be seen.

    one_line        table cells, log lines, notes: a newline is escaped, too
    printable       text of several lines, such as a traceback: newlines and tabs stay
    printable_json  encoded JSON: the same document, with escapes that JSON itself has
"""

from __future__ import annotations

import re
from typing import Final

_C1_AND_MARKS: Final = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_ALL: Final = re.compile(f"[\x00-\x1f{_C1_AND_MARKS}]")
_BUT_LINES: Final = re.compile(f"[\x00-\x08\x0b-\x1f{_C1_AND_MARKS}]")
_IN_JSON: Final = re.compile(f"[{_C1_AND_MARKS}]")
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def one_line(text: str) -> str:
    """The text on one line, without characters that steer a terminal."""
    return _ALL.sub(_escape, text)


def printable(text: str) -> str:
    """The text with its newlines and tabs, and otherwise without characters that steer a terminal."""
    return _BUT_LINES.sub(_escape, text)


def printable_json(document: str) -> str:
    """Encoded JSON without characters that steer a terminal; decoded it is the same. (JSON escapes those below 32.)"""
    return document if document.isascii() and "\x7f" not in document else _IN_JSON.sub(_json_escape, document)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    number = ord(character)
    return _SHORT.get(character) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")


def _json_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
