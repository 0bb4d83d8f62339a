"""JSON in and out of user code: results are encoded once, and read back into the type a function says it returns.

A body is always given what was *decoded*, also the first time: a value that JSON changes (a tuple becomes a list) then
changes before anybody has looked at it, and a replay cannot differ. What a function says it returns comes back as that:
dataclasses, ``TypedDict``, ``msgspec.Struct``, named tuples, sets, dates and times, Decimal, bytes, UUID, enums and, if
installed, pydantic models, also inside each other. Without an annotation it is what JSON makes of it.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import math
import sys
import typing
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Final

import msgspec

from millstream.errors import NonRetriableError, UnserialisableResult
from millstream.model.text.storable import shown, text_by, type_name

Reader = Callable[[bytes], object]

_DEPTH_MAX: Final = 64
_CHANGED: Final = (
    *(msgspec.Struct, enum.Enum, set, frozenset, bytes, bytearray, uuid.UUID, decimal.Decimal),
    *(datetime.date, datetime.time, datetime.timedelta),
)
"""Types whose values JSON carries as something else. A datetime is a date; a plain tuple comes back as a list."""
_AWAITED: Final = (Awaitable, Coroutine)
_CACHE_MAX: Final = 4_096

decode: Final[Reader] = msgspec.json.Decoder().decode


def _foreign(value: object) -> object:
    dump = getattr(value, "model_dump", None)  # pydantic, without importing it
    if dump is None or isinstance(value, type):
        raise NotImplementedError
    dumped = dump(mode="json")
    place = _not_finite(dumped)
    if place is not None:
        raise ValueError(f"{place} of it is a number that JSON does not have")
    return dumped


_encode: Final = msgspec.json.Encoder(enc_hook=_foreign).encode


def encode(value: object, what: str, id: str = "") -> bytes:
    """The value as UTF-8 JSON. ``what`` and ``id`` name it in the error.

    Raises UnserialisableResult naming the path of the first field that is not JSON. NaN and infinite numbers are not:
    they would come back as null.
    """
    try:
        data = _encode(value)
    except Exception as error:
        path, bad = _first_unserialisable(value)
        raise UnserialisableResult(
            f"{_named(what, id)} is not JSON: {path} is {_said(bad)} ({type_name(error)}). "
            "Return dicts, lists, strings, numbers, booleans, None, dataclasses or Structs."
        ) from error
    if value is not None and b"null" in data:  # What such a number has become.
        place = _not_finite(value)
        if place is not None:
            raise UnserialisableResult(
                f"{_named(what, id)} is not JSON: {place} is a number that JSON does not have (NaN or infinity). "
                "Return None for what is not known, or text."
            )
    return data


def _named(what: str, id: str) -> str:
    return f"{what} {id!r}" if id else what


def _said(value: object) -> str:
    return f"a {type_name(value)}, {shown(value)}"


def _first_unserialisable(value: object) -> tuple[str, object]:
    try:
        return next(_unserialisable(value, "$", ()), ("$", value))
    except BaseException:  # A mapping or property of the user's raises: then the whole value has to do.
        return "$", value


def _unserialisable(value: object, path: str, above: tuple[int, ...]) -> Iterator[tuple[str, object]]:
    """Where a value fails to encode: the deepest places first in order of appearance."""
    if len(above) >= _DEPTH_MAX or id(value) in above:
        yield path, value
        return
    try:
        _encode(value)
        return
    except Exception:
        for name, part in _parts(value):
            yield from _unserialisable(part, f"{path}{name}", (*above, id(value)))
    yield path, value


def _not_finite(value: object) -> str | None:
    """The path of the first NaN or infinite number in what was encoded; None: there is none."""
    todo: list[tuple[str, object]] = [("$", value)]
    while todo:
        path, part = todo.pop()
        if isinstance(part, float):
            if not math.isfinite(part):
                return path
        elif not isinstance(part, str | bytes | int | None):
            todo += [(f"{path}{name}", inner) for name, inner in _parts(part)][::-1]
    return None


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        yield from ((f".{text_by(str, key, type_name(key))}", part) for key, part in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{i}]", part) for i, part in enumerate(value))
    elif isinstance(value, msgspec.Struct):
        yield from ((f".{name}", getattr(value, name)) for name in value.__struct_fields__)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value))


def reader_of(wanted: object) -> Reader | None:
    """What decodes JSON into this type; None where plain JSON is all there is to it."""
    if typing.get_origin(wanted) in _AWAITED:
        wanted = typing.get_args(wanted)[-1]
    if not _changes(wanted, 0):
        return None
    validate = getattr(wanted, "model_validate_json", None)
    if validate is not None:
        return typing.cast(Reader, validate)
    try:
        return typing.cast(Reader, msgspec.json.Decoder(typing.cast(type, wanted), dec_hook=_made).decode)
    except (TypeError, RuntimeError):  # A type msgspec cannot decode: pydantic may; else it is given the plain JSON.
        return _pydantics_reader(wanted)


def _pydantics_reader(wanted: object) -> Reader | None:
    """Pydantic's own reader of a type, where a program has loaded pydantic and the type is one it knows."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None:
        return None
    try:
        return typing.cast(Reader, pydantic.TypeAdapter(wanted).validate_json)
    except Exception:  # Not its type either.
        return None


def _made(wanted: type, value: object) -> object:
    """An instance of a type that msgspec does not know, of what was decoded: a pydantic model inside something."""
    validate = getattr(wanted, "model_validate_json", None)
    if validate is not None:
        return typing.cast(Reader, validate)(_encode(value))
    if isinstance(value, wanted):
        return value  # ``object``.
    raise ValueError(f"Expected `{wanted.__name__}`, got `{type(value).__name__}`")


def _changes(wanted: object, depth: int) -> bool:
    """Whether a value of this type is something else once JSON has carried it: a structure, a date, a set, a key."""
    if depth > _DEPTH_MAX:
        return False
    if isinstance(wanted, type) and (
        issubclass(wanted, _CHANGED)
        or dataclasses.is_dataclass(wanted)
        or typing.is_typeddict(wanted)
        or hasattr(wanted, "model_validate_json")
        or (issubclass(wanted, tuple) and hasattr(wanted, "_fields"))
    ):
        return True
    origin, parts = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is not None and _changes(origin, depth + 1):
        return True
    if origin is dict and parts[0] not in (str, typing.Any, object):
        return True
    return any(_changes(part, depth + 1) for part in parts)


_readers: dict[tuple[object, object], Reader | None] = {}


def result_reader(function: Callable[..., object]) -> Reader | None:
    """What decodes the results of a function, by its return annotation. Cached by code and annotation."""
    if isinstance(function, functools.partial):
        function = function.func
    annotations = getattr(function, "__annotations__", None)
    if not annotations or annotations.get("return") is None:
        return None
    key = (getattr(function, "__code__", None), annotations["return"])
    try:
        return _readers[key]
    except KeyError:
        pass
    except TypeError:  # An annotation that cannot be hashed: worked out anew each time.
        return reader_of(_return_type(function))
    if len(_readers) >= _CACHE_MAX:
        _readers.clear()
    reader = _readers[key] = reader_of(_return_type(function))
    return reader


def _return_type(function: Callable[..., object]) -> object:
    try:
        return typing.get_type_hints(function).get("return")
    except Exception:  # Names that exist for type checkers only: plain JSON then.
        return None


def read(data: bytes, reader: Reader | None, what: str, id: str = "") -> object:
    """The value of this JSON. Raises NonRetriableError, naming the field, where it does not fit the type."""
    if reader is None:
        return decode(data)
    try:
        return reader(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise NonRetriableError(
            f"{_named(what, id)} does not fit the type the code declares: {error}. Change the type, or what was sent."
        ) from error
