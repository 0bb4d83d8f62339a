"""Text that can be stored: what user code gives as text, made safe to encode, and bounded.

Python text may hold half a surrogate pair (a file name that is no UTF-8, as ``os.listdir`` gives it), and no UTF-8 can.
User code may also say what is no text at all: an exception's ``__str__``, a value's ``__repr__``. Both are made safe
here, once, before they become part of an operation or of a message; so nothing behind this has to think of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

SHOWN_CHARS_MAX: Final = 80


def storable(text: str, chars_max: int) -> str:
    """At most ``chars_max`` characters of the text, each half of a surrogate pair written as ``\\udc..``."""
    text = str.__str__(text)[:chars_max]  # Of a subclass: its text, by no method of its own.
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()[:chars_max]
    return text


def is_storable(value: object) -> bool:
    """Whether the value is text that UTF-8 can hold."""
    if not isinstance(value, str):
        return False
    try:
        str.encode(value)
    except UnicodeEncodeError:
        return False
    return True


def text_by(call: Callable[[object], object], value: object, otherwise: str) -> str:
    """What user code (``str``, ``repr``) says of a value; ``otherwise`` where that raises or is no text."""
    try:
        said = call(value)
    except BaseException:  # SystemExit of a __str__, too: it must not end the worker.
        return otherwise
    return said if isinstance(said, str) else otherwise


def type_name(value: object) -> str:
    """The name of the value's class, by no code of the class itself."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return storable(name, SHOWN_CHARS_MAX)


def shown(value: object, chars_max: int = SHOWN_CHARS_MAX) -> str:
    """The value's ``repr`` for a message, bounded and storable; its class where its ``repr`` raises."""
    text = text_by(repr, value, f"<{type_name(value)}, whose repr raises>")
    return storable(text if len(text) <= chars_max else text[: chars_max - 3] + "...", chars_max)
