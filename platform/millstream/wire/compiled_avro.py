"""Compiled Avro codecs for our own records: each schema becomes straight-line Python once, when it is first used.

fastavro determines the type of every value anew: about 3 µs a fact, a sixth of a lane's time, though the types of our
records never change while a process lives. So this file *generates source* from the same parsed schema, one function
per record, and executes it:

    def write_RetryDue_16(value):                    def read_RetryDue(data, at):
        t0 = encode(value.run)                           end = data[at]
        t1 = encode(value.step)                          if end & 129: at, end = span(data, at)
        return join((                                    else: at += 1; end = at + (end >> 1)
            b"\\x16",                                     v0 = data[at:end].decode(); at = end
            numbers[len(t0)], t0,                        ...
            numbers[len(t1)], t1,                        return RetryDue(v0, v1), at
        ))

Why source and not closures as in ``avro.py``: a call per field costs more than the field. Measured (CPython 3.11, µs a
StepCompleted in a large journal record): fastavro writes 3.4 and reads 3.5, this file 0.65 and 1.4. Why ``join`` of
a tuple: 0.49, against 0.51 for one list, 0.59 for a bytearray, 0.70 for ``+``; ``numbers`` that remembers: 0.49 against
0.66 for a table with a range check and 0.89 for one that forgets times.

The rule: **fastavro is the reference**. The codec writes the bytes that fastavro writes, and fastavro reads the same
value from them; ``tests/wire/test_compiled_avro.py`` compares both on values of every class. An unsupported type is
refused at import, never guessed. Add one: a case in ``_part`` and in ``_read``.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from millstream.wire.reference_avro import corrupt
from millstream.wire.varints import block, number, numbers, span

BRANCHES_MAX: Final = 8_192
"""Branches of a union: as many as two bytes can tell."""
# Raised by generated code on bytes that are no record: cut short, no UTF-8, no such branch, an absurd length.
_BROKEN: Final = (LookupError, ValueError, OverflowError, MemoryError)

Value = TypeVar("Value")


class CompiledCodec(Generic[Value]):
    """The compiled codec of one schema: ``encode`` and ``decode``.

    ``classes`` names the class of every record in it by the last part of the record's name: a Struct with the same
    fields in the same order, or ``tuple`` for a record that is a plain tuple of its fields. ``schema`` is parsed by
    fastavro. Arrays are tuples. Raises ValueError on a schema that has something else.
    """

    def __init__(self, schema: Any, classes: Mapping[str, type[Any]]) -> None:
        source = _Source(classes)
        name = source.record(schema, b"")
        self.encode: Final[Callable[[Value], bytes]] = source.functions[f"write_{name}_"]
        """The bytes of a value. Equal values have equal bytes.

        Raises TypeError or AttributeError on a value of another type, OverflowError on a number of more than 64 bits,
        UnicodeEncodeError on text with half a surrogate pair. As in fastavro, any value is a boolean, a number may have
        64 bits in an ``int`` too, and a float that equals a whole number may pass for it.
        """
        self._read: Final[Callable[[bytes, int], tuple[Value, int]]] = source.functions[f"read_{name}"]

    def decode(self, data: bytes, what: str, at: int = 0) -> Value:
        """The value that ``data`` holds from ``at`` to its end. Raises Corruption, naming ``what`` was expected."""
        try:
            value, end = self._read(data, at)
        except IndexError as broken:
            raise corrupt(what, data, "EOF: the bytes end inside the record") from broken
        except _BROKEN as broken:
            raise corrupt(what, data, f"{type(broken).__name__}: {broken}") from broken
        if end > len(data):  # A slice behind the end is empty; nothing was read there.
            raise corrupt(what, data, f"EOF: a field that goes on to byte {end}")
        if end < len(data):
            raise corrupt(what, data, f"a record that ends after {end} bytes")
        return value


# --- called by generated code ---


Reader = Callable[[bytes, int], tuple[Any, int]]
"""(data, where the value begins) -> the value, and where it ends."""


class _Writers(dict[type[Any], Callable[[Any], bytes]]):
    """The writers of a union's branches, by class."""

    def __missing__(self, kind: type[Any]) -> Callable[[Any], bytes]:
        raise TypeError(f"expected one of {', '.join(known.__name__ for known in self)}, got {kind.__name__}")


def _text(value: str) -> bytes:
    written = str.encode(value)
    return numbers[len(written)] + written


def _blob(value: bytes) -> bytes:
    return b"".join((numbers[len(value)], value))


def _array(items: list[bytes]) -> bytes:
    return b"".join((numbers[len(items)], *items, b"\0")) if items else b"\0"


def _null_writer(branch: bytes) -> Callable[[None], bytes]:
    return lambda _value: branch


def _truth_writer(branch: bytes) -> Callable[[bool], bytes]:
    return lambda value: branch + (b"\1" if value else b"\0")


def _wide_reader(seconds: Mapping[int, Reader]) -> Reader:
    return lambda data, at: seconds[data[at]](data, at + 1)


def _nothing(_data: bytes, at: int) -> tuple[None, int]:
    return None, at


def _truth(data: bytes, at: int) -> tuple[bool, int]:
    return data[at] != 0, at + 1


# --- generated code ---

_NUMBER_LINES: Final = (
    "{to} = data[at]",
    "if {to} > 127: {to}, at = number(data, at)",
    "else: at += 1; {to} = {to} >> 1 ^ -({to} & 1)",
)
_SPAN_LINES: Final = (
    "end = data[at]",
    # 129: a length of several bytes, or a negative one.
    "if end & 129: at, end = span(data, at)",
    "else: at += 1; end = at + (end >> 1)",
)
_READ_LINES: Final[dict[str, tuple[str, ...]]] = {
    "int": _NUMBER_LINES,
    "long": _NUMBER_LINES,
    "boolean": ("{to} = data[at] != 0; at += 1",),
    "string": (*_SPAN_LINES, "{to} = data[at:end].decode(); at = end"),
    "bytes": (*_SPAN_LINES, "{to} = data[at:end]; at = end"),
}
_BLOCK_LINE: Final = "count, at = block(data, at)"
_PARTS: Final = {
    "int": "numbers[{value}]",
    "long": "numbers[{value}]",
    "boolean": "b'\\1' if {value} else b'\\0'",
    "string": "text({value})",
    "bytes": "blob({value})",
}


class _Source:
    """Generates and executes the functions of one schema; ``functions`` is their namespace."""

    def __init__(self, classes: Mapping[str, type[Any]]) -> None:
        self._classes = classes
        self._schemas: dict[str, Any] = {}
        self.functions: dict[str, Any] = {
            "numbers": numbers,
            "encode": str.encode,
            "join": b"".join,
            "text": _text,
            "blob": _blob,
            "array": _array,
            "number": number,
            "span": span,
            "block": block,
        }

    def record(self, schema: Any, prefix: bytes) -> str:
        """Makes ``write_<name>_<prefix as hex>`` and ``read_<name>``; returns the name."""
        if isinstance(schema, str) and schema in self._schemas:
            schema = self._schemas[schema]
        if not isinstance(schema, dict) or schema["type"] != "record":
            raise ValueError(
                f"expected a record, an array or a primitive type that compiled_avro.py knows, got {schema!r}"
            )
        name: str = schema["name"].rpartition(".")[2]
        names = tuple(field["name"] for field in schema["fields"])
        kind = self._classes.get(name)
        if kind is None or not names or (kind is not tuple and kind.__struct_fields__ != names):
            raise ValueError(
                f"expected for the record {name} a class with the fields {names} in this order, got {kind}"
            )
        self.functions[name] = kind
        writer, reader = f"write_{name}_{prefix.hex()}", f"read_{name}"
        if writer not in self.functions:
            self._execute(writer, [f"def {writer}(value):", *self._write_lines(kind, schema["fields"], prefix)])
        if reader not in self.functions:
            self._execute(reader, [f"def {reader}(data, at):", *self._read_lines(kind, schema["fields"])])
        self._schemas[schema["name"]] = schema  # Only now: a type inside itself is refused.
        return name

    def _execute(self, function: str, lines: list[str]) -> None:
        source = "\n".join(lines)
        # With the lines in this cache a traceback shows the one that raised, and with it the field.
        file = f"<compiled avro {function} {id(self):x}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        exec(compile(source, file, "exec"), self.functions)

    def _write_lines(self, kind: type[Any], fields: list[Any], prefix: bytes) -> list[str]:
        lines = []
        parts = [repr(prefix)] if prefix else []
        for n, field in enumerate(fields):
            value = f"value[{n}]" if kind is tuple else f"value.{field['name']}"
            # The two frequent types without a call.
            if field["type"] in ("string", "bytes"):
                lines.append(f"    t{n} = encode({value})" if field["type"] == "string" else f"    t{n} = {value}")
                parts.append(f"numbers[len(t{n})], t{n}")
            else:
                parts.append(self._part(field["type"], value))
        return [*lines, "    return join((", *(f"        {part}," for part in parts), "    ))"]

    def _part(self, schema: Any, value: str) -> str:
        """An expression for the bytes of a value."""
        if isinstance(schema, str) and schema in _PARTS:
            return _PARTS[schema].format(value=value)
        if isinstance(schema, list):
            return f"{self._union(schema)}_writers[type({value})]({value})"
        if isinstance(schema, dict) and schema["type"] == "array":
            return f"array([{self._part(schema['items'], 'item')} for item in {value}])"
        return f"write_{self.record(schema, b'')}_({value})"

    def _read_lines(self, kind: type[Any], fields: list[Any]) -> list[str]:
        lines = []
        for n, field in enumerate(fields):
            lines += [f"    {line}" for line in self._read(field["type"], f"v{n}")]
        values = "".join(f"v{n}, " for n in range(len(fields)))
        return [*lines, f"    return {'' if kind is tuple else kind.__name__}({values}), at"]

    def _read(self, schema: Any, to: str) -> list[str]:
        """Lines that read a value into the variable ``to`` and move ``at`` behind it."""
        if isinstance(schema, str) and schema in _READ_LINES:
            return [line.format(to=to) for line in _READ_LINES[schema]]
        if isinstance(schema, list):
            return [f"{to}, at = {self._union(schema)}_readers[data[at]](data, at + 1)"]
        if isinstance(schema, dict) and schema["type"] == "array":
            item = [f"        {line}" for line in self._read(schema["items"], f"{to}i")]
            loop = ["while count:", "    for _ in range(count):", *item, f"        {to}.append({to}i)"]
            return [f"{to} = []", _BLOCK_LINE, *loop, f"    {_BLOCK_LINE}", f"{to} = tuple({to})"]
        return [f"{to}, at = read_{self.record(schema, b'')}(data, at)"]

    def _union(self, branches: list[Any]) -> str:
        """Makes ``<name>_writers`` by class and ``<name>_readers`` by the byte of the branch; returns the name."""
        if len(branches) > BRANCHES_MAX:
            raise ValueError(f"expected a union of at most {BRANCHES_MAX} branches, got {len(branches)}")
        writers = _Writers()
        readers: dict[int, Reader] = {}
        wide: dict[int, dict[int, Reader]] = {}  # Of a branch whose number has two bytes, by its first.
        for n, branch in enumerate(branches):
            prefix = numbers[n]
            reader: Reader
            if branch == "null":
                writers[type(None)], reader = _null_writer(prefix), _nothing
            elif branch == "boolean":
                writers[bool], reader = _truth_writer(prefix), _truth
            else:
                name = self.record(branch, prefix)
                writers[self._classes[name]] = self.functions[f"write_{name}_{prefix.hex()}"]
                reader = self.functions[f"read_{name}"]
            if len(prefix) == 1:
                readers[prefix[0]] = reader
            else:
                wide.setdefault(prefix[0], {})[prefix[1]] = reader
        readers |= {first: _wide_reader(seconds) for first, seconds in wide.items()}
        union = f"union{len(self.functions)}"
        self.functions |= {f"{union}_writers": writers, f"{union}_readers": readers}
        return union
