"""Can a new schema read what older ones wrote? Avro's rules for schema resolution, by PyPI's ``avro``.

    backward   the new schema reads all the old ones' data: for events, whose readers are upgraded first
    full       ... and every old schema reads the new one's, too: for our own journal and state

Both are transitive: every earlier version is looked at, not only the last. Needs the extra ``millstream[registry]``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from millstream.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Incompatible:
    """One reason why data written by ``writer`` cannot be read by ``reader`` (both as the caller called them)."""

    reader: str
    writer: str
    reason: str

    def __str__(self) -> str:
        return f"{self.reader} cannot read what {self.writer} wrote: {self.reason}"


Named = tuple[str, str]
"""What a schema is called in a message, and its JSON text."""


def backward(new: Named, old: Sequence[Named]) -> list[Incompatible]:
    """Why the new schema can't read what these wrote; empty where it can. Raises ConfigError for what is no Avro."""
    return [problem for each in old for problem in _problems(new, each)]


def full(new: Named, old: Sequence[Named]) -> list[Incompatible]:
    """Why data can't go both ways; empty where it can. Raises ConfigError for what is no Avro."""
    return [problem for each in old for problem in (*_problems(new, each), *_problems(each, new))]


def _problems(reader: Named, writer: Named) -> list[Incompatible]:
    try:
        from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
        from avro.errors import AvroException
        from avro.schema import parse
    except ImportError as error:
        raise ConfigError(
            f"comparing schemas needs the extra 'registry', which is not installed ({error}). "
            "Install it: pip install 'millstream[registry]'."
        ) from error
    parsed = []
    for name, text in (reader, writer):
        try:
            parsed.append(parse(json.dumps(json.loads(text))))
        except (AvroException, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"schema {name} was refused: expected Avro, got {error}. Correct it.") from error
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(parsed[0], parsed[1])
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    messages = sorted(result.messages) or ["its types differ"]
    places = ", ".join(sorted(result.locations)) or "/"
    return [Incompatible(reader[0], writer[0], f"{'; '.join(messages)} (at {places})")]
