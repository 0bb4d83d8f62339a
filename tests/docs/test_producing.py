"""The envelope that docs/how-to/produce-events.md teaches is the one that lanes read."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from millstream.wire.events_topic import Written, read_event
from tests.docs.blocks import ROOT, Block, blocks_of

PAGE = ROOT / "docs" / "how-to" / "produce-events.md"


def block() -> Block:
    """The one that needs nothing of millstream."""
    (found,) = (block for block in blocks_of(PAGE) if "fastavro" in block.code)
    return found


def without_docs(schema: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(field["name"], field["type"]) for field in schema["fields"]]


def test_its_schema_is_that_of_the_topic() -> None:
    shipped = json.loads((ROOT / "schemas" / "messages" / "event.avsc").read_text())
    found = re.search(r"parse_schema\(\s*(\{.*?\n\s*\})\s*\)", block().code, re.DOTALL)
    assert found is not None
    taught = ast.literal_eval(found[1])
    assert without_docs(taught) == without_docs(shipped)
    rows = re.findall(r"^\| (`.*?`) \| (\w+) \|", PAGE.read_text(), re.MULTILINE)
    told = [(name, kind) for names, kind in rows for name in re.findall(r"`(\w+)`", names)]
    assert sorted(told) == sorted(without_docs(shipped))


def test_its_python_makes_an_event_that_is_read() -> None:
    code = block().code
    namespace: dict[str, Any] = {}
    exec(code[: code.index("producer = Producer")], namespace)
    value = namespace["envelope"]("order/placed", {"order": 4711}, id="order-4711-placed", key="customer-7")
    event = read_event(Written("events", 0, 5, 1_795_356_850_000), value)
    assert (event.name, event.data, event.id, event.id_is_clients) == (
        "order/placed", b'{"order": 4711}', "order-4711-placed", True,
    )  # fmt: skip
    assert len(event.internal_id) == 26
