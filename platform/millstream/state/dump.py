"""Tables as bytes, to be compared: *restored tables = live tables, byte for byte* (lanes.md rule 15)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, Protocol

from millstream.model.rows import Row
from millstream.state.keys import Key
from millstream.state.keyspace import KEYSPACE
from millstream.wire.rows import encode_row

PAGE_ROWS: Final = 1_000


class _Scanned(Protocol):
    def scan(self, start: Key | None = None, *, limit: int) -> list[tuple[Key, Row]]: ...


class _Dumped(Protocol):
    @property
    def all(self) -> Sequence[_Scanned]: ...


def dump(tables: _Dumped) -> dict[str, dict[bytes, bytes]]:
    """Every row by table and key, in key order. ``LaneTables`` shows all layers, its ``durable`` what is acknowledged.

    For tests and verification: it holds everything in memory.
    """
    found: dict[str, dict[bytes, bytes]] = {}
    for spec, table in zip(KEYSPACE, tables.all, strict=True):
        encode = spec.encode()
        rows = found[spec.name] = {}
        page = table.scan(limit=PAGE_ROWS)
        while page:
            for key, row in page:
                rows[encode(key)] = encode_row(row)
            if len(page) < PAGE_ROWS:
                break
            page = table.scan(page[-1][0], limit=PAGE_ROWS + 1)[1:]
    return found


def fingerprint(tables: _Dumped) -> str:
    """A hash over ``dump``: equal for equal tables."""
    state = blake2b(digest_size=16)
    for name, rows in dump(tables).items():
        state.update(f"{name} {len(rows)}\n".encode())
        for key, row in rows.items():
            state.update(len(key).to_bytes(4, "big") + key + len(row).to_bytes(4, "big") + row)
    return state.hexdigest()
