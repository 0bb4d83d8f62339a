"""Avro schema files of a folder, made to stand alone: where one file uses a type of another, it is written out there.

Avro says nothing about files. Here every file may use the named types of every file read with it, in any order, and
the result is one schema that needs no other: it can be stored, compared, and given to a registry.

The rules: a type is written out where it is used first and named after that; a type of the same file wins over one of
another; a name that two other files define is an error, never a choice; the result depends on the files alone, not on
the order in which they were read. Everything wrong is a ConfigError that names the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fastavro
from fastavro.schema import SchemaParseException, UnknownType

from millstream.errors import ConfigError
from millstream.files import content_of
from millstream.wire.avro_leaves import PRIMITIVES

SCHEMA_BYTES_MAX: Final = 1024 * 1024
SCHEMA_FILES_MAX: Final = 10_000
SCHEMA_DEPTH_MAX: Final = 64
SUFFIX: Final = ".avsc"

_NAMED_KINDS: Final = ("record", "error", "enum", "fixed")
# What fastavro raises on a schema that is not Avro. AttributeError and the others: a part of an unexpected JSON type.
_NOT_AVRO: Final = (SchemaParseException, UnknownType, LookupError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True)
class _Definition:
    """A named type where a file defines it; ``namespace`` is that around it."""

    file: str
    schema: Mapping[str, Any]
    namespace: str


class SchemaFiles:
    """The schemas of some files, by the path each has under its folder, without ``.avsc``."""

    def __init__(self, root: Path, paths: Iterable[Path]) -> None:
        self.root: Final = root
        self._sources: dict[str, Any] = {}
        self._definitions: dict[str, list[_Definition]] = {}
        for path in sorted(paths):
            if len(self._sources) == SCHEMA_FILES_MAX:
                raise ConfigError(f"too many schemas: expected at most {SCHEMA_FILES_MAX} files in {root}, got more.")
            name = path.relative_to(root).as_posix().removesuffix(SUFFIX)
            self._sources[name] = _read(path)
            for full_name, definition in _definitions(self._sources[name], "", name):
                self._definitions.setdefault(full_name, []).append(definition)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(self._sources)

    def parse(self, name: str) -> Any:
        """The schema of one file as fastavro parses it, needing no other. Raises ConfigError with file and reason."""
        try:
            inliner = _Inliner(name, self._definitions, {})
            return fastavro.parse_schema(inliner.inline(self._sources[name], "", 1))
        except _NOT_AVRO as problem:
            raise bad_schema(self.root / f"{name}{SUFFIX}", _reason(problem)) from problem


def bad_schema(path: Path, reason: str) -> ConfigError:
    """The error for a file that cannot be used as a schema."""
    return ConfigError(
        f"schema file {path} refused: expected a valid Avro schema, got: {reason[:300]}. Correct the file."
    )


def schema_json(schema: Any) -> str:
    """A parsed schema as its original JSON, without fastavro's marks."""
    return json.dumps(_unmarked(schema))


def parse_text(text: str) -> Any:
    """A schema's JSON as fastavro parses it. Raises ValueError with the reason."""
    try:
        return fastavro.parse_schema(json.loads(text))
    except _NOT_AVRO as problem:
        raise ValueError(_reason(problem)) from problem


def standing_alone(text: str, references: Iterable[str]) -> str:
    """A schema's JSON with the types of its references in it, as files of one folder use each other's types.

    The text itself where it has none, or is no Avro.
    """
    texts = tuple(references)
    if not texts:
        return text
    known: dict[str, list[_Definition]] = {}
    try:
        source = json.loads(text)
        for number, each in enumerate((source, *map(json.loads, texts))):
            for full_name, definition in _definitions(each, "", str(number)):
                known.setdefault(full_name, []).append(definition)
        return json.dumps(_Inliner("0", known, {}).inline(source, "", 1))
    except _NOT_AVRO:
        return text


def same_schema(one: str, other: str) -> bool:
    """Whether two JSON texts are the same schema, however their names are spelled out. Raises what fastavro does."""
    texts = (schema_json(fastavro.parse_schema(json.loads(text))) for text in (one, other))
    first, second = (json.loads(text) for text in texts)
    return bool(first == second)


def _unmarked(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: _unmarked(part) for name, part in schema.items() if not name.startswith("__")}
    return [_unmarked(part) for part in schema] if isinstance(schema, list) else schema


def _read(path: Path) -> Any:
    try:
        return json.loads(content_of(path, "the schema file", SCHEMA_BYTES_MAX))
    except (ValueError, RecursionError) as problem:
        raise bad_schema(path, f"text that is not JSON ({problem})") from problem


def _reason(problem: Exception) -> str:
    match problem:
        case UnknownType():
            return f"the type {problem.name!r}, which neither Avro nor a file here defines"
        case KeyError():
            return f"a part without {problem.args[0]!r}"
        case _:
            return str(problem) or type(problem).__name__


def _full_name(schema: Mapping[str, Any], namespace: str) -> str:
    name = schema["name"]
    if not isinstance(name, str):
        raise TypeError(f"the name {name!r}, which is not text")
    around = schema.get("namespace", namespace)
    return name if "." in name or not around else f"{around}.{name}"


def _definitions(schema: Any, namespace: str, file: str, depth: int = 1) -> Iterator[tuple[str, _Definition]]:
    """Every named type that a source defines. What is malformed is passed over: parsing that file says so."""
    if depth > SCHEMA_DEPTH_MAX:
        return
    if isinstance(schema, list):
        for branch in schema:
            yield from _definitions(branch, namespace, file, depth + 1)
    if not isinstance(schema, dict):
        return
    if schema.get("type") in _NAMED_KINDS and isinstance(schema.get("name"), str):
        full_name = _full_name(schema, namespace)
        yield full_name, _Definition(file, schema, namespace)
        namespace = full_name.rpartition(".")[0]
    for inside in _insides(schema):
        yield from _definitions(inside, namespace, file, depth + 1)


def _insides(schema: Mapping[str, Any]) -> Iterator[Any]:
    fields = schema.get("fields")
    for field in fields if isinstance(fields, list) else ():
        if isinstance(field, dict):
            yield field.get("type")
    for part in ("items", "values"):
        if part in schema:
            yield schema[part]


@dataclass(frozen=True, slots=True)
class _Inliner:
    """One file under way: ``defined`` are the types written out so far, with the source of each."""

    file: str
    known: Mapping[str, list[_Definition]]
    defined: dict[str, Mapping[str, Any]]

    def inline(self, schema: Any, namespace: str, depth: int) -> Any:
        """The schema with the types of other files in it. ``namespace`` is that of the source around it."""
        if depth > SCHEMA_DEPTH_MAX:
            raise ValueError(f"types inside each other more than {SCHEMA_DEPTH_MAX} deep")
        if isinstance(schema, list):
            return [self.inline(branch, namespace, depth + 1) for branch in schema]
        if isinstance(schema, str):
            return self._reference(schema, namespace, depth)
        if not isinstance(schema, dict):
            raise TypeError(f"{json.dumps(schema)[:60]} where a type is expected")
        inlined = dict(schema)
        if schema.get("type") in _NAMED_KINDS:
            full_name = _full_name(schema, namespace)
            if self.defined.get(full_name) is schema:
                return full_name  # Written out earlier, where it was used first.
            if self.defined.setdefault(full_name, schema) is not schema:
                raise ValueError(f"a second definition of the type {full_name!r}")
            # Explicit, because the place of use may lie in another namespace than the place of definition.
            namespace = full_name.rpartition(".")[0]
            inlined |= {"name": full_name, "namespace": namespace}
        if isinstance(schema.get("fields"), list):
            inlined["fields"] = [
                {**field, "type": self.inline(field["type"], namespace, depth + 1)} if _has_type(field) else field
                for field in schema["fields"]
            ]
        for part in ("items", "values"):
            if part in schema:
                inlined[part] = self.inline(schema[part], namespace, depth + 1)
        return inlined

    def _reference(self, name: str, namespace: str, depth: int) -> Any:
        if name in PRIMITIVES:
            return name
        full_name = name if "." in name or not namespace else f"{namespace}.{name}"
        if full_name in self.defined:
            return full_name
        definitions = self.known.get(full_name, [])
        candidates = [each for each in definitions if each.file == self.file] or definitions
        if not candidates:
            raise UnknownType(full_name)  # type: ignore[no-untyped-call]
        if len(candidates) > 1:
            files = " and ".join(f"{each.file}{SUFFIX}" for each in candidates[:3])
            raise ValueError(f"the type {full_name!r}, which {files} define")
        return self.inline(candidates[0].schema, candidates[0].namespace, depth + 1)


def _has_type(field: Any) -> bool:
    return isinstance(field, dict) and "type" in field
