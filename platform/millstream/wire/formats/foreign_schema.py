"""``ForeignSchema``: a schema as a registry gives it, of any of the three kinds, with those that it refers to."""

from __future__ import annotations

from dataclasses import dataclass

from millstream.errors import Corruption
from millstream.wire.formats.avro_value import ValueReader, value_reader
from millstream.wire.formats.json_text import parse_json
from millstream.wire.formats.protobuf_value import message_reader


@dataclass(frozen=True, slots=True)
class ForeignSchema:
    """``text`` is Avro's JSON, JSON Schema, or a Protobuf file's descriptor in base64, by ``kind``.

    ``references``  the texts of the schemas it uses, each behind those that it uses itself.
    """

    kind: str
    text: str
    references: tuple[str, ...] = ()

    def reader(self) -> ValueReader:
        """The reader of values that it wrote.

        Raises Corruption where it cannot be used, ConfigError where an extra is not installed.
        """
        match self.kind:
            case "AVRO":
                return value_reader(self.text, self.references)
            case "JSON":
                return parse_json  # Whether it fits is not asked: its producer was asked that.
            case "PROTOBUF":
                return message_reader((*self.references, self.text))
        raise Corruption(f"a schema was refused: expected Avro, JSON Schema or Protobuf, got {self.kind[:40]!r}.")
