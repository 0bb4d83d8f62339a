"""The page of flow control has a line for each combination that is refused, and for no other."""

from __future__ import annotations

import inspect
import re

from millstream import App
from millstream.model.gates.declared import TOGETHER
from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "flow-control.md").read_text(encoding="utf-8")


def test_every_combination_that_is_refused_is_on_the_page_and_none_besides() -> None:
    told = re.findall(r"^\| `(\w+)` \| `(\w+)` \| ", PAGE, re.MULTILINE)
    assert told == [(together.one, together.other) for together in TOGETHER]


def test_every_option_of_flow_control_has_a_line_and_a_section_with_its_signature() -> None:
    options = set(re.findall(r"^\| `(\w+)` \| [^`|]+ \| [^|]*\|$", PAGE, re.MULTILINE))
    assert options == set(re.findall(r"^### `(\w+)=", PAGE, re.MULTILINE))
    assert options <= set(inspect.signature(App.function).parameters)
