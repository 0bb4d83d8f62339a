"""What goes into a format and what comes out: ``ForeignRecord`` and ``Content``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from millstream.wire.formats.avro_value import ValueReader
from millstream.wire.formats.framing import SchemaRef


class ForeignRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as it lies in its topic. ``at_ms`` is its timestamp, Unix milliseconds; ``value`` None: a tombstone."""

    topic: str
    partition: int
    offset: int
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()

    def header(self, name: str) -> str:
        """The last header of this name as text, however its letters are cased; "" where there is none."""
        wanted = name.lower()
        for held, value in reversed(self.headers):
            if held.lower() == wanted and value is not None:
                return value.decode("utf-8", "replace")
        return ""


class Content(msgspec.Struct, frozen=True, gc=False):
    """What a record says. Empty texts and ``ts_ms`` −1 mean: it does not say, the subscription's rules decide.

    ``data``  UTF-8 JSON of an object.       ``name``, ``id``  what the record calls its kind and itself.
    ``meta``  UTF-8 JSON of an object, or empty: what is about the event rather than in it.
    """

    data: bytes
    name: str = ""
    id: str = ""
    key: str = ""
    ts_ms: int = -1
    meta: bytes = b""


class SchemaWanted(Exception):
    """A schema is not known yet: fetch it (``lane.port.Schemas``), then read the record again.

    The topic waits as long as it takes. That the schema is nowhere is the operator's to mend and says nothing against
    the record, so it never makes a dead letter.
    """

    def __init__(self, ref: SchemaRef) -> None:
        super().__init__(f"the schema by the {ref} is not known")
        self.ref = ref


class SchemaSource(Protocol):
    """Where the schemas of foreign values come from. Answers from memory only; fetching is the shell's business."""

    @property
    def has_registry(self) -> bool:
        """Whether ids mean anything here."""
        ...

    def reader(self, ref: SchemaRef) -> ValueReader:
        """The reader of a schema by mark. Raises SchemaWanted (fetch it first), Corruption (a registry has none)."""
        ...

    def named(self, name: str) -> ValueReader:
        """The reader of a schema by name: a record's full name, or a file's. Raises SchemaWanted, Corruption."""
        ...
