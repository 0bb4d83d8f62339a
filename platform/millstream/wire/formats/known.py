"""``KnownSchemas``: the schemas at hand, from files and from what a registry has answered so far.

    files      by fingerprint (single-object values), by the record's full name, by the file's name
    registry   by id or guid, and by subject for a name that no file has

A file that is put there later is found by ``look_at_files``; what is known already keeps its meaning. An id never
changes its meaning in a registry, so what was fetched stays true. A name's latest version may change: the names are
asked for again from time to time (``names``), and what they meant holds until the answer. That somebody has
*no* such schema is remembered until then too (``forget_absent``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from millstream.errors import ConfigError, Corruption
from millstream.wire.formats.avro_value import ValueReader, value_reader
from millstream.wire.formats.content import SchemaWanted
from millstream.wire.formats.foreign_schema import ForeignSchema
from millstream.wire.formats.framing import SchemaRef, fingerprint
from millstream.wire.schema_files import SUFFIX, SchemaFiles, schema_json

SCHEMAS_MAX: Final = 10_000
"""Fetched schemas kept at once; beyond it the oldest go, and are fetched again when they are met again."""
BY_NAME: Final = "name"


class KnownSchemas:
    """See the module; a ``content.SchemaSource``. Made once per process, used on one thread."""

    def __init__(self, directories: Iterable[Path] = (), *, has_registry: bool = False) -> None:
        """Raises ConfigError for a file that is not Avro, or two that define one name."""
        self.has_registry: Final = has_registry
        self.directories: Final = tuple(directories)
        self._files: dict[SchemaRef, ValueReader] = {}
        self._seen: list[tuple[Path, int, int]] = []
        self._fetched: dict[SchemaRef, ValueReader] = {}
        self._absent: dict[SchemaRef, str] = {}
        self.look_at_files()

    def reader(self, ref: SchemaRef) -> ValueReader:
        """See ``SchemaSource``."""
        found = self._files.get(ref) or self._fetched.get(ref)
        if found is not None:
            return found
        if ref in self._absent:
            raise Corruption(self._absent[ref])
        raise SchemaWanted(ref)

    def named(self, name: str) -> ValueReader:
        """See ``SchemaSource``."""
        return self.reader(SchemaRef(BY_NAME, name))

    def has_file(self, ref: SchemaRef) -> bool:
        """Whether a file has it."""
        return ref in self._files

    def look_at_files(self) -> None:
        """Read the files again if one is new or has changed, and take what was not known.

        Raises as the constructor, once for each state of the files: nothing is taken then.
        """
        paths = {folder: sorted(folder.rglob(f"*{SUFFIX}")) for folder in self.directories}
        seen = [_mark(path) for found in paths.values() for path in found]
        if seen == self._seen:
            return
        self._seen = seen
        files: dict[SchemaRef, ValueReader] = {}
        for folder, found in paths.items():
            _read(SchemaFiles(folder, found), files)
        self._files = files | self._files

    def learn(self, ref: SchemaRef, schema: ForeignSchema | str) -> None:
        """A registry has answered; a plain text is Avro. A schema that cannot be used counts as absent, with a reason.

        Raises ConfigError where its kind needs an extra that is not installed.
        """
        self._absent.pop(ref, None)
        try:
            reader = (ForeignSchema("AVRO", schema) if isinstance(schema, str) else schema).reader()
        except Corruption as error:
            self.miss(ref, str(error))
            return
        while len(self._fetched) >= SCHEMAS_MAX:
            del self._fetched[next(iter(self._fetched))]
        self._fetched[ref] = reader

    def miss(self, ref: SchemaRef, why: str) -> None:
        """A registry has answered that it has no such schema."""
        while len(self._absent) >= SCHEMAS_MAX:
            del self._absent[next(iter(self._absent))]
        self._absent[ref] = why

    @property
    def names(self) -> tuple[SchemaRef, ...]:
        """The names that a registry was asked for: what they stand for may have changed."""
        return tuple(ref for ref in self._fetched if ref.kind == BY_NAME)

    def forget_absent(self) -> None:
        """Ask again for what was not there."""
        self._absent.clear()


def _mark(path: Path) -> tuple[Path, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return path, 0, 0  # Deleted meanwhile, or a link to nowhere: whoever reads it says so.
    return path, stat.st_mtime_ns, stat.st_size


def _read(files: SchemaFiles, known: dict[SchemaRef, ValueReader]) -> None:
    for name in files.names:
        schema = files.parse(name)
        reader = value_reader(schema_json(schema))
        known[SchemaRef("fingerprint", fingerprint(schema))] = reader
        for each in {name, _record_name(schema)} - {""}:
            ref = SchemaRef(BY_NAME, each)
            if ref in known:
                raise ConfigError(
                    f"schema {each!r} is there twice: {files.root / name}{SUFFIX} and another file define it. "
                    "Remove one."
                )
            known[ref] = reader


def _record_name(schema: Any) -> str:
    name = schema.get("name", "") if isinstance(schema, Mapping) else ""
    return name if isinstance(name, str) else ""
