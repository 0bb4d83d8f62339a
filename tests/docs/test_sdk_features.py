"""The page of the SDK features has a line for every opcode and option that the code reads, and a word on each."""

from __future__ import annotations

import re

from millstream.execute.endpoint.opcodes import OPCODES
from millstream.wire.registration.options import Options
from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "reference" / "sdk-features.md").read_text(encoding="utf-8")
HEADS = {"feature", "option", "---"}
ROWS = [
    cells
    for line in PAGE.splitlines()
    if line.startswith("|") and (cells := [cell.strip() for cell in line.strip("|").split("|")])[0] not in HEADS
]


def named(head: str, here: str) -> set[str]:
    """The code spans of the third column, of the tables with this head, in the lines with this word."""
    tables = re.findall(rf"^\| {head}\n(?:\|.*\n)+", PAGE, re.MULTILINE)
    assert tables, head
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for table in tables for line in table.splitlines()]
    return {name for row in rows if row[1] == here for name in re.findall(r"`(\w+)`", row[2])}


def test_every_feature_is_there_or_comes_later_or_is_not_planned() -> None:
    assert {row[1] for row in ROWS} == {"yes", "later", "no"}
    assert len(ROWS) > 60


def test_what_works_are_the_opcodes_that_the_code_knows() -> None:
    assert named(r"feature \| here \| opcodes \| note \|", "yes") == set(OPCODES)


def test_no_opcode_that_comes_later_is_known_already_but_the_one_of_a_plain_step() -> None:
    assert named(r"feature \| here \| opcodes \| note \|", "later") & set(OPCODES) == {"StepRun"}


def test_what_works_are_the_options_that_a_registration_is_read_for() -> None:
    works = named(r"option \| here \| on the wire \| note \|", "yes")
    assert works == {*Options.__struct_encode_fields__, "retries"}
