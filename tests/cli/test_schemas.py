"""``millstream schemas``: are files compared with what came before, and made from code?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import millstream

TYPED = """
from dataclasses import dataclass
from millstream import App, Context

app = App("shop")

@dataclass
class Placed:
    "An order."
    order: int
    note: str | None = None

@app.function(on="order/placed")
async def fulfil(ctx: Context[Placed]):
    return ctx.event.data.order
"""


def schema(*fields: Any) -> str:
    return json.dumps({"type": "record", "name": "Placed", "fields": fields})


ORDER = {"name": "order", "type": "long"}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for which in ("old", "new"):
        (tmp_path / which / "order").mkdir(parents=True)
        (tmp_path / which / "order" / "placed.avsc").write_text(schema(ORDER))
    return tmp_path / "old", tmp_path / "new"


def test_schemas_are_listed_with_their_fingerprints(folders: tuple[Path, Path]) -> None:
    ended = millstream("schemas", "list", "--schemas", str(folders[1]))
    assert ended.code == 0, ended.err
    (row,) = ended.rows
    assert row["event"] == "order/placed" and len(row["fingerprint"]) == 16


def test_a_schema_that_cannot_read_the_last_release_s_data_fails_the_check(folders: tuple[Path, Path]) -> None:
    old, new = folders
    assert millstream("schemas", "check", "--schemas", str(new), "--against", str(old)).code == 0
    (new / "order" / "placed.avsc").write_text(schema(ORDER, {"name": "customer", "type": "string"}))
    ended = millstream("schemas", "check", "--schemas", str(new), "--against", str(old))
    assert ended.code == 6
    assert "customer" in ended.rows[0]["problem"] and "default" in ended.err


def test_a_check_without_anything_to_compare_with_says_so(folders: tuple[Path, Path]) -> None:
    ended = millstream("schemas", "check", "--schemas", str(folders[1]))
    assert ended.code == 2 and "--against" in ended.err


def test_schemas_are_made_of_the_types_that_functions_declare(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(TYPED)
    ended = millstream("schemas", "gen", "shop:app", "--out", "schemas", cwd=tmp_path)
    assert ended.code == 0, ended.err
    made = json.loads((tmp_path / "schemas" / "order" / "placed.avsc").read_text())
    assert made["doc"] == "An order." and [each["name"] for each in made["fields"]] == ["order", "note"]
    python = millstream("schemas", "gen", "order/placed", "--schemas", "schemas", cwd=tmp_path)
    assert "class Placed:" in python.out and "note: str | None = None" in python.out


def test_an_event_without_a_schema_is_named(folders: tuple[Path, Path]) -> None:
    ended = millstream("schemas", "gen", "order/lost", "--schemas", str(folders[1]))
    assert ended.code == 2 and "order/lost" in ended.err
