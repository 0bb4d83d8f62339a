"""A Protobuf value of a foreign topic as JSON, by the descriptor that a registry gives for its file.

    which message   of the file: a count and that many numbers, zig-zag; a count of 0 is the first one
    the message     as Protobuf writes it

The forms are those of ``schemas/README.md``, as for Avro: numbers stay numbers, also of 64 bits; bytes are text with
one character a byte; an enum is its name. Fields have the names of the ``.proto`` file, and one that is not set its
default, so that an expression can ask for it; one that knows whether it is set (``optional``, a message) is left out.
Google's own types, such as ``Timestamp``, have the JSON form that Protobuf gives them.

The rule: nothing is made before it is counted. Needs the extra ``millstream[protobuf]``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

from millstream.errors import ConfigError, Corruption
from millstream.wire.formats.avro_value import DEPTH_MAX, VALUES_MAX, ValueReader, json_number
from millstream.wire.varints import number

MESSAGES_DEEP_MAX: Final = 16
GOOGLES: Final = "google.protobuf."
WELL_KNOWN: Final = ("any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers")


def message_reader(files: Sequence[str]) -> ValueReader:
    """A reader of values of the last file. ``files`` are descriptors in base64, each behind those that it imports.

    Raises Corruption where they are none, ConfigError where the extra is not installed.
    """
    try:
        from google.protobuf import json_format, message_factory
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ConfigError(
            f"values in Protobuf need the extra 'protobuf', which is not installed ({error}). "
            "Install it: pip install 'millstream[protobuf]'."
        ) from error
    messages = _messages(files)

    def read(data: bytes) -> object:
        try:
            path, at = _which(data)
            message: Any = message_factory.GetMessageClass(_message(messages, path))()
            message.ParseFromString(data[at:])
            return _Forms(json_format.MessageToDict).object(message, 1)
        except (IndexError, ValueError, TypeError, DecodeError, json_format.Error) as error:
            raise Corruption(f"the value does not fit its schema: {type(error).__name__}: {error}") from error

    return read


def _messages(files: Sequence[str]) -> list[Any]:
    """The messages of the last file, in its order."""
    from importlib import import_module

    from google.protobuf import descriptor_pb2, descriptor_pool

    pool: Any = descriptor_pool.DescriptorPool()
    own: dict[str, bytes] = {}
    for name in WELL_KNOWN:
        descriptor = import_module(f"google.protobuf.{name}_pb2").DESCRIPTOR
        own[descriptor.name] = descriptor.serialized_pb
    try:
        parsed = [
            descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text, validate=True)) for text in files
        ]
        for proto in parsed:
            own.pop(proto.name, None)  # Some registries give Google's files, too.
        for serialised in own.values():
            pool.AddSerializedFile(serialised)
        for proto in parsed:
            pool.AddSerializedFile(proto.SerializeToString())
        last = parsed[-1]
        found = pool.FindFileByName(last.name).message_types_by_name
        return [found[message.name] for message in last.message_type]
    except (binascii.Error, ValueError, TypeError, LookupError) as error:
        raise Corruption(f"a schema was refused: expected the descriptor of a Protobuf file, got {error}.") from error
    except Exception as error:  # DecodeError is an Exception of its own, in a module that has moved between releases.
        raise Corruption(f"a schema was refused: {type(error).__name__}: {error}.") from error


def _which(data: bytes) -> tuple[list[int], int]:
    count, at = number(data, 0)
    if not 0 <= count <= MESSAGES_DEEP_MAX:
        raise ValueError(f"a message {count} deep inside others")
    path = [] if count else [0]
    for _ in range(count):
        place, at = number(data, at)
        path.append(place)
    return path, at


def _message(messages: Sequence[Any], path: Sequence[int]) -> Any:
    inside, found = messages, None
    for place in path:
        if not 0 <= place < len(inside):
            raise ValueError(f"message {place} of {len(inside)}")
        found = inside[place]
        inside = found.nested_types
    assert found is not None
    return found


class _Forms:
    """The JSON forms of one message. ``google`` makes those of Google's own types."""

    def __init__(self, google: Any) -> None:
        self._google = google
        self._left = VALUES_MAX

    def object(self, message: Any, depth: int) -> Any:
        descriptor = message.DESCRIPTOR
        self._enter(depth, len(descriptor.fields) or 1)
        if descriptor.full_name.startswith(GOOGLES):
            return self._google(message)
        return {
            field.name: self._field(message, field, depth)
            for field in descriptor.fields
            if not field.has_presence or message.HasField(field.name)
        }

    def _field(self, message: Any, field: Any, depth: int) -> Any:
        value = getattr(message, field.name)
        inside = field.message_type
        if inside is not None and inside.GetOptions().map_entry:
            self._enter(depth + 1, len(value))
            kind = inside.fields_by_name["value"]
            return {_key(key): self._one(kind, value[key], depth + 1) for key in value}
        if not hasattr(value, "append"):
            return self._one(field, value, depth)
        self._enter(depth + 1, len(value))
        return [self._one(field, each, depth + 1) for each in value]

    def _one(self, field: Any, value: Any, depth: int) -> Any:
        if field.message_type is not None:
            return self.object(value, depth + 1)
        if field.enum_type is not None:
            known = field.enum_type.values_by_number.get(value)
            return known.name if known is not None else value
        if isinstance(value, bytes):
            return value.decode("latin-1")
        return json_number(value) if isinstance(value, float) else value

    def _enter(self, depth: int, count: int) -> None:
        if depth > DEPTH_MAX:
            raise Corruption(f"the value was refused: objects and arrays inside each other more than {DEPTH_MAX} deep")
        self._left -= count
        if self._left < 0:
            raise Corruption(f"the value was refused: more than {VALUES_MAX} fields and items")


def _key(key: Any) -> str:
    return ("true" if key else "false") if isinstance(key, bool) else str(key)
