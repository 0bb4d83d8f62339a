"""Avro schemas by name: our own (journal, state, messages), and those that users give their events.

Ours are files of the checkout's ``schemas/`` folder; the wheel carries them as ``millstream/schemas``. A user's are
files of the folders named with ``--schemas``: ``order/placed.avsc`` under one of them is the schema of
``order/placed``, and ``contact/message.received.avsc`` that of ``contact/message.received``: only the last ``.avsc`` is
not part of the name.

The rule: a name is looked up in a table made once, never turned into a path, so no sender can reach a file by a name.
How files use each other's types: ``schema_files.py``. How a value is checked: ``avro.py``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from millstream.errors import ConfigError, LogUnavailable, OperatorError, SchemaViolation
from millstream.wire.avro import Problem, compile_check
from millstream.wire.schema_files import SUFFIX, SchemaFiles, bad_schema, parse_text

NAME_SHOWN_CHARS_MAX: Final = 200
VERSION_CHARS_MAX: Final = 40


@functools.cache
def schemas_root() -> Path:
    """The folder that holds ``journal/``, ``state/`` and ``messages/``: the installed one, else the checkout's.

    Raises OperatorError where there is neither.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package, *package.parents):
        root = folder / "schemas"
        if (root / "journal" / "record.avsc").is_file():
            return root
    raise OperatorError(
        f"schemas not found: expected a folder 'schemas' with journal/record.avsc in {package} or above it, got none. "
        f"Install the wheel again, or run from a complete checkout."
    )


@functools.cache
def load_schema(name: str) -> Any:
    """The parsed schema of ``<folder>/<file>`` (without ``.avsc``), for example ``journal/record``.

    It may use the types of the other files of its folder. Read once per process. Raises OperatorError where there is
    no such file, ConfigError where it is not Avro.
    """
    path = schemas_root() / f"{name}{SUFFIX}"
    if not path.is_file():
        raise OperatorError(f"schema {name!r} not found: expected the file {path}. Install millstream again.")
    return _files_of(path.parent).parse(path.name.removesuffix(SUFFIX))


@functools.cache
def _files_of(folder: Path) -> SchemaFiles:
    return SchemaFiles(folder, folder.glob(f"*{SUFFIX}"))


@dataclass(frozen=True, slots=True)
class EventSchema:
    """The schema of one event name.

    ``version``  the schema's top-level ``"version"`` as text, or "".
    ``file``     its path under the folder it was found in.
    ``avro``     the schema as fastavro parses it, needing no other file.
    ``problem``  the first problem of an event's data, or None where it fits.
    """

    name: str
    version: str
    file: str
    avro: Any
    problem: Callable[[Any], Problem | None]


class EventSchemas:
    """The schemas of users' events: of files, made once at start, and where there is a registry of what it has now."""

    def __init__(self, schemas: Iterable[EventSchema] = ()) -> None:
        self._by_name: Mapping[str, EventSchema] = {schema.name: schema for schema in schemas}
        self.complete = True
        """False while a registry that may have more has not answered yet."""

    @classmethod
    def from_directories(cls, directories: Iterable[Path]) -> EventSchemas:
        """Every ``*.avsc`` in and under the folders.

        Raises ConfigError, naming the file and the reason: no such folder, a file that is not Avro, an event that is
        not a record, a default that does not fit, an event with schemas in two folders.
        """
        found: dict[str, EventSchema] = {}
        origins: dict[str, Path] = {}
        for directory in directories:
            if not directory.is_dir():
                raise ConfigError(
                    f"no folder of event schemas at {directory}: expected a directory. Correct --schemas."
                )
            files = SchemaFiles(directory, directory.rglob(f"*{SUFFIX}"))
            for name in files.names:
                path = directory / f"{name}{SUFFIX}"
                if name in found:
                    raise ConfigError(
                        f"event {name!r} has two schemas: expected one, got {origins[name]} and {path}. Remove one."
                    )
                found[name] = _event_schema(name, path, files.parse(name))
                origins[name] = path
        return cls(found.values())

    def replace(self, schemas: Iterable[EventSchema]) -> None:
        """From now on these, and no others."""
        self._by_name = {schema.name: schema for schema in schemas}

    @property
    def names(self) -> tuple[str, ...]:
        """The event names that have a schema, sorted."""
        return tuple(sorted(self._by_name))

    def get(self, name: str) -> EventSchema | None:
        """The schema of an event name, or None."""
        return self._by_name.get(name)

    def must_wait(self, name: str) -> bool:
        """Whether nobody can say yet if the event has a schema."""
        return not self.complete and name not in self._by_name

    def refuse_unknown(self, name: str) -> None:
        """Raise LogUnavailable for an event that must wait: taken now, it would go unchecked."""
        if self.must_wait(name):
            raise LogUnavailable(
                f"event {name[:NAME_SHOWN_CHARS_MAX]!r} cannot be checked now: the schema registry has not answered "
                "since this process started, and no file of --schemas has this name. Send it again in a moment."
            )

    def check(self, name: str, data: Mapping[str, Any]) -> None:
        """Does nothing where ``data`` fits the schema of ``name``, or where ``name`` has none; never changes it.

        Raises SchemaViolation at the first problem. The message names the event, the schema's version, the field's
        path, what was expected, what was got and what to do; it stays under 1,500 characters.
        """
        schema = self._by_name.get(name)
        if schema is None:
            return
        problem = schema.problem(data)
        if problem is None:
            return
        version = f" version {schema.version}" if schema.version else ""
        raise SchemaViolation(
            f"event {name[:NAME_SHOWN_CHARS_MAX]!r} refused by schema{version}: {problem}. "
            f"Fix the producer, or change the schema in {schema.file[:NAME_SHOWN_CHARS_MAX]}."
        )


def event_schema(name: str, text: str, version: str) -> EventSchema:
    """The schema of an event from a registry. Raises ConfigError where the text is none for an event."""
    where = Path(f"{name}{SUFFIX}")
    try:
        avro = parse_text(text)
    except ValueError as error:
        raise bad_schema(where, str(error)) from error
    made = _event_schema(name, where, avro)
    return EventSchema(name, version, f"version {version} of {name} in the registry", made.avro, made.problem)


def _event_schema(name: str, path: Path, avro: Any) -> EventSchema:
    kind = avro.get("type") if isinstance(avro, Mapping) else type(avro).__name__
    if kind != "record":
        raise bad_schema(path, f"a schema of type {kind!r}, but an event's data is a record")
    version = avro.get("version", "")
    if isinstance(version, bool) or not isinstance(version, (int, str)) or len(str(version)) > VERSION_CHARS_MAX:
        raise bad_schema(path, f"'version' must be a number or up to {VERSION_CHARS_MAX} characters")
    try:
        problem = compile_check(avro)
    except (ValueError, LookupError, TypeError) as mistake:
        raise bad_schema(path, str(mistake)) from mistake
    return EventSchema(name=name, version=str(version), file=f"{name}{SUFFIX}", avro=avro, problem=problem)
