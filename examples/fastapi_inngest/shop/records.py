"""Records as JSON files below SHOP_DATA, where a larger shop has a database.

Each write replaces a whole record, so a step that runs again does no harm.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("SHOP_DATA", ".shop"))


def put(kind: str, id: str, record: dict[str, Any]) -> dict[str, Any]:
    """Write a record, at once or not at all; it."""
    path = ROOT / kind / f"{id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(record), encoding="utf-8")
    new.replace(path)
    return record


def get(kind: str, id: str) -> dict[str, Any] | None:
    """A record; None where there is none."""
    return next((record for known, record in every(kind) if known == id), None)


def every(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All records of a kind with their ids. An id of a visitor is compared with these and never made a path."""
    for path in sorted((ROOT / kind).glob("*.json")):
        yield path.stem, json.loads(path.read_text(encoding="utf-8"))
