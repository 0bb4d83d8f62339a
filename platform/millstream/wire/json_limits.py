"""JSON from outside: what of it everything behind the door can read, decided once and in one place.

The lane reads an event's data to evaluate an expression, an executor to call a function, the history to show it; each
has a stack and a parser of its own, in the middle of something. So text that only some of them could read is refused
where it comes in: at the door, from direct producers, in foreign records.

    depth    objects and arrays inside each other, at most ``limits.JSON_DEPTH_MAX``
    numbers  at most ``limits.JSON_DIGITS_MAX`` digits in a row; with a value that a double has
    text     UTF-8, with no half of a surrogate pair (events of the door and answers of apps: ``whole_characters``)

Beside parsing, the checks cost a scan of longer text, and a look at each value where there are many brackets.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from millstream.model import limits

_HALF: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
"""A whole pair, half of one, or any other escape."""
_decode: Final = msgspec.json.Decoder(Any).decode
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_ONE_DIGIT: Final = bytes.maketrans(b"123456789", b"0" * 9)
_TOO_MANY_DIGITS: Final = b"0" * (limits.JSON_DIGITS_MAX + 1)


def whole_characters(text: bytes) -> bytes:
    """JSON with U+FFFD for each escape of half a surrogate pair, as the readers of other languages have it.

    JavaScript and Python write such an escape where a program has cut text within a character.
    """
    if b"\\ud" not in text and b"\\uD" not in text:
        return text
    return _HALF.sub(lambda found: b"\\ufffd" if found[1] else found[0], text)


def read_json(text: bytes) -> tuple[Any, str]:
    """What the text says, and why it is refused ("": it is not), to follow the name of what holds it."""
    try:
        value = _decode(text)
    except RecursionError:
        return None, _too_deep()
    except msgspec.ValidationError as wrong:
        return None, f"holds a number out of range: no 64-bit float can have it ({wrong})"
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        return None, f"is no valid JSON: {str(wrong).removeprefix('JSON is malformed: ')}"
    if text.count(b"[") + text.count(b"{") > limits.JSON_DEPTH_MAX and _is_deeper(value):
        return None, _too_deep()
    if len(text) > limits.JSON_DIGITS_MAX and _TOO_MANY_DIGITS in text.translate(_ONE_DIGIT) and _has_long_number(text):
        return None, f"holds a number of more than {limits.JSON_DIGITS_MAX:,} digits: send it as text"
    return value, ""


def _too_deep() -> str:
    return f"is nested too deeply: at most {limits.JSON_DEPTH_MAX} objects and arrays may lie inside each other"


def _is_deeper(value: object) -> bool:
    """Whether it has more levels than it may. Level by level, not by recursion."""
    level = [value]
    for _ in range(limits.JSON_DEPTH_MAX):
        level = [
            part
            for each in level
            for part in (each.values() if type(each) is dict else each if type(each) is list else ())
            if type(part) is dict or type(part) is list
        ]
        if not level:
            return False
    return True


def _has_long_number(text: bytes) -> bool:
    """Whether digits that stand in a row stand outside of strings."""
    return _TOO_MANY_DIGITS in _STRING.sub(b'""', text).translate(_ONE_DIGIT)
