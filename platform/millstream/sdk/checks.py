"""What a step tool's arguments must be, checked once, where the tool is called.

So the traceback ends at the user's line, nothing that cannot be recorded travels further, and no attempt is wasted:
each check raises FunctionError, which is not retried. Add an argument: a function here, called in ``steps.py``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Final

from millstream.errors import FunctionError, LimitExceeded
from millstream.model import limits
from millstream.model.operations import PublishFound
from millstream.model.text.storable import is_storable, shown, type_name

RESERVED_HEADERS: Final = "millstream-"
_TOPIC: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def step_id(id: object) -> str:
    """The id of a step: text of 1 to 512 characters."""
    if type(id) is str and id.isascii() and 0 < len(id) <= limits.STEP_ID_CHARS_MAX:
        return id  # Nearly all, at once.
    if not isinstance(id, str):
        raise FunctionError(
            f"step refused: an id must be text, got {type_name(id)} {shown(id)}. "
            'Write the id as text: ctx.step.run("charge", …).'
        )
    text = str.__str__(id)  # Of a StrEnum: the value.
    if not is_storable(text):
        raise FunctionError(
            f"step refused: an id must be Unicode text, got half a surrogate pair in {shown(text)}. "
            'Replace it: name.encode(errors="replace").decode().'
        )
    if not 0 < len(text) <= limits.STEP_ID_CHARS_MAX:
        raise FunctionError(
            f"step refused: an id must have 1 to {limits.STEP_ID_CHARS_MAX} characters, got {len(text)}: "
            f"{shown(text)}. Shorten it, or use a hash of it."
        )
    return text


def step_call(id: str, call: object) -> None:
    """What a step calls: a function, plain or async."""
    if callable(call):
        return
    if inspect.iscoroutine(call):
        call.close()  # It is never awaited, and Python would warn of that beside this error.
        raise FunctionError(
            f"step {id!r} refused: expected a function, got the coroutine of {call.__name__}(): it was called already. "
            f"Give the function and its arguments: ctx.step.run({id!r}, {call.__name__}, …)."
        )
    raise FunctionError(
        f"step {id!r} refused: expected a function to call, got {type_name(call)} {shown(call)}. "
        f"Give the function and its arguments: ctx.step.run({id!r}, charge, order)."
    )


def function_slug(id: str, slug: object) -> str:
    """The id of a function, ``<app>-<function>``."""
    if isinstance(slug, str) and is_storable(slug) and 0 < len(slug) <= limits.FUNCTION_ID_CHARS_MAX:
        return str.__str__(slug)
    raise FunctionError(
        f"step {id!r} refused: a function is named by its id, such as 'billing-report', got {type_name(slug)} "
        f"{shown(slug)}. Is it one of ours? Then give the function itself to step.invoke."
    )


def topic_name(id: str, topic: object) -> str:
    """The name of a topic, as Kafka allows it."""
    if isinstance(topic, str) and _TOPIC.fullmatch(topic) and topic not in (".", ".."):
        return str.__str__(topic)
    raise FunctionError(
        f"step {id!r} refused: a topic's name must be text of 1 to 249 letters, digits, '.', '_' and '-', "
        f"got {type_name(topic)} {shown(topic)}. Is the setting that names the topic there?"
    )


def record_size(found: PublishFound) -> PublishFound:
    """A record within what a step may hold."""
    size = len(found.key) + len(found.value) + sum(len(name) + len(value) for name, value in found.headers)
    if size > limits.PUBLISH_BYTES_MAX or len(found.headers) > limits.PUBLISH_HEADERS_MAX:
        raise LimitExceeded(
            f"step {found.name!r} refused: a record may have {limits.PUBLISH_BYTES_MAX} bytes in key, value and "
            f"headers, and {limits.PUBLISH_HEADERS_MAX} headers, got {size} and {len(found.headers)}. "
            "Store it elsewhere and publish a reference."
        )
    return found


def record_headers(id: str, headers: object) -> tuple[tuple[str, bytes], ...]:
    """A record's headers: names with text or bytes."""
    if headers is None:
        return ()
    if not isinstance(headers, Mapping):
        raise FunctionError(
            f"step {id!r} refused: headers must be a dict of names with text or bytes, got {type_name(headers)}."
        )
    return tuple(_header(id, name, value) for name, value in headers.items())


def _header(id: str, name: object, value: object) -> tuple[str, bytes]:
    if not isinstance(name, str) or not is_storable(name) or not name:
        raise FunctionError(f"step {id!r} refused: a header's name must be text, got {type_name(name)} {shown(name)}.")
    if name.startswith(RESERVED_HEADERS):
        raise FunctionError(
            f"step {id!r} refused: header {name!r} is millstream's own, as are all that begin {RESERVED_HEADERS!r}. "
            "Choose another name."
        )
    if isinstance(value, bytes | bytearray | memoryview):
        return str.__str__(name), bytes(value)
    if isinstance(value, str) and is_storable(value):
        return str.__str__(name), str.encode(value)
    raise FunctionError(
        f"step {id!r} refused: header {name!r} must be text or bytes, got {type_name(value)} {shown(value)}."
    )
