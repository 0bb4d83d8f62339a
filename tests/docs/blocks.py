"""The Python of a page: what its blocks are, and how they are run.

A block is what stands between ```` ```python ```` and ```` ``` ````. The blocks of a page run in order:

- One whose first line is ``# shop.py`` is a piece of the module ``shop``; later pieces add to it, later blocks may
  import it.
- One behind ``<!-- run: server shop -->`` runs against a server that runs ``shop.app``; its ``Client()`` finds it.
- One behind ``<!-- run: kafka -->`` runs where there is a broker, which MILLSTREAM_BROKERS names.
- ``test_…`` functions of a block are called when the block has run; ``await`` may stand outside of functions.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(
    r"^(?:<!-- run: (?:server (?P<app>\w+)|(?P<kafka>kafka)) -->\n)?```python\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MODULE = re.compile(r"# (?P<name>\w+)\.py\n")


@dataclass(frozen=True, slots=True)
class Block:
    """One block. ``server`` is the module whose ``app`` a server must run for it; empty: none."""

    page: Path
    line: int
    code: str
    module: str
    server: str
    kafka: bool = False

    def compiled(self) -> CodeType:
        """The code, with line numbers of the page."""
        text = "\n" * (self.line - 1) + self.code
        return compile(text, str(self.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        named = MODULE.match(found["code"])
        line = text.count("\n", 0, found.start("code")) + 1
        yield Block(
            page, line, found["code"], named["name"] if named else "page", found["app"] or "", bool(found["kafka"])
        )


class Running:
    """The modules that a page has made so far; they can be imported while it is entered."""

    def __init__(self) -> None:
        self.modules: dict[str, ModuleType] = {}

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.modules:
            sys.modules.pop(name, None)

    async def run(self, block: Block) -> None:
        """Run a block, then the tests it has."""
        module = self._module(block.module)
        before = set(vars(module))
        # In a thread: a block may wait for the server, which runs on this loop.
        outcome = await asyncio.to_thread(eval, block.compiled(), vars(module))
        if inspect.isawaitable(outcome):
            await outcome
        for name in [name for name in vars(module) if name.startswith("test_") and name not in before]:
            result = vars(module)[name]()
            if inspect.isawaitable(result):
                await result

    def _module(self, name: str) -> ModuleType:
        if name not in self.modules:
            assert name not in sys.modules, f"a page's module may not hide {name}: give it another name"
            self.modules[name] = sys.modules[name] = ModuleType(name)
        return self.modules[name]
