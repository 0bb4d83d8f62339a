"""The reference says what the code says, and links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from millstream.api.server import ROUTES
from tests.docs.blocks import PAGES, ROOT

LINK = re.compile(r"\]\((?P<target>[^)#\s]+)[^)]*\)")
RULE = re.compile(r"lanes\.md,? rules? (?P<numbers>\d+a?(?:(?:, | to | and )\d+a?)*)")


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = generator()


@pytest.mark.parametrize("name", GENERATOR.PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    there = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert there == GENERATOR.page(name), (
        f"docs/reference/{name} is not what the code says: run python docs/generate.py"
    )


@pytest.mark.parametrize("file", GENERATOR.PLACES, ids=lambda file: file.name)
def test_drawings_and_tables_among_other_text_are_current(file: Path) -> None:
    there = file.read_text(encoding="utf-8")
    assert there == GENERATOR.filled(file), f"{file.name} is not what the code says: run python docs/generate.py"


def test_every_route_is_on_the_page_of_the_http_api_and_none_besides() -> None:
    page = (ROOT / "docs" / "reference" / "http-api.md").read_text(encoding="utf-8")
    told = re.findall(r"^### (GET|POST|DELETE|PUT|PATCH|OPTIONS) (\S+)$", page, re.MULTILINE)
    assert sorted(told) == sorted((method, path) for method, path, _ in ROUTES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_exist(page: Path) -> None:
    targets = [found["target"] for found in LINK.finditer(page.read_text(encoding="utf-8"))]
    missing = [t for t in targets if not t.startswith(("http:", "https:")) and not (page.parent / t).exists()]
    assert missing == []


def test_every_rule_that_the_code_names_is_in_lanes_md() -> None:
    page = (ROOT / "docs" / "lanes.md").read_text(encoding="utf-8")
    rules = set(re.findall(r"^(\d+a?)\. ", page, re.MULTILINE))
    named: dict[str, str] = {}
    for path in (ROOT / "platform").rglob("*.py"):
        for found in RULE.finditer(path.read_text(encoding="utf-8")):
            named |= dict.fromkeys(re.findall(r"\d+a?", found["numbers"]), path.name)
    assert {number: where for number, where in named.items() if number not in rules} == {}


def test_every_word_of_the_glossary_is_there_once_and_in_order() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\*\*(.+?)\*\*", page, re.MULTILINE)
    assert words == sorted(set(words), key=str.lower)


def test_every_layer_of_the_architecture_is_on_its_page() -> None:
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    packages = [path.parent.name for path in (ROOT / "platform" / "millstream").glob("*/__init__.py")]
    assert [name for name in packages if f"`{name}`" not in page] == []


def test_the_examples_say_what_they_show() -> None:
    for path in (ROOT / "examples").glob("*.py"):
        words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert len(words) > 100, f"{path.name}: the docstring says what the example shows"
