"""What the architecture tests know about the code: its modules, what they import, how long things are.

Read with `ast`, never imported: an import hidden in a function, or under TYPE_CHECKING, counts like any other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "platform"
PACKAGE = SOURCE / "millstream"


@dataclass(frozen=True)
class Module:
    """One file of the package; ``name`` is dotted and without `millstream.`, empty for the package itself."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def layer(self) -> str:
        """The first part of its name: `core`, `lane`, `errors`; `millstream` for the package itself."""
        return self.name.split(".")[0] or "millstream"

    @property
    def where(self) -> str:
        """Its path in the repository, as messages show it."""
        return str(self.path.relative_to(ROOT))


@dataclass(frozen=True)
class Import:
    """One imported name: `millstream.model.event` or `aiohttp.web`, absolute."""

    target: str
    line: int


@dataclass(frozen=True)
class Function:
    """A function's name and its size: lines without its docstring, and parameters that may be given by position."""

    name: str
    line: int
    lines: int
    positional: int


@lru_cache(maxsize=1)
def modules() -> tuple[Module, ...]:
    """Every module of the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        text = path.read_text(encoding="utf-8")
        found.append(Module(name, path, text, ast.parse(text, str(path))))
    return tuple(found)


def imports(module: Module) -> Iterator[Import]:
    """Every import anywhere in the module; `from a import b` gives `a.b`, which may be a module or a name in it."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            yield from (Import(f"{start}.{alias.name}" if start else alias.name, node.lineno) for alias in node.names)


def own_imports(module: Module) -> Iterator[tuple[str, int]]:
    """The modules of the package that this one imports, by our short names."""
    known = {other.name for other in modules()}
    for imported in imports(module):
        if imported.target != "millstream" and not imported.target.startswith("millstream."):
            continue
        name = imported.target.removeprefix("millstream").removeprefix(".")
        yield (name if name in known else name.rpartition(".")[0]), imported.line


def functions(module: Module) -> Iterator[Function]:
    """Every function and method."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            end = node.end_lineno or node.lineno
            first = node.body[0]
            documented = ast.get_docstring(node, clean=False) is not None
            prose = (first.end_lineno or first.lineno) - first.lineno + 1 if documented else 0
            arguments = [argument.arg for argument in node.args.posonlyargs + node.args.args]
            positional = len([name for name in arguments if name not in ("self", "cls")])
            yield Function(node.name, node.lineno, end - node.lineno + 1 - prose, positional)


def complain(problems: list[str], what_to_do: str) -> None:
    """Fail with every problem, one a line, and what to do about them."""
    assert not problems, f"{what_to_do}\n" + "\n".join(f"  {problem}" for problem in problems)
