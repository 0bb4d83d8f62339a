"""Can every file be read alone? Sizes, names, docstrings, and traps in the layout.

The limits only go down: LONGER_FILES and LONGER_FUNCTIONS name what is over a limit today, with its size, and
an entry that is larger than needed fails too.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.code import PACKAGE, ROOT, SOURCE, complain, functions, modules

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
POSITIONAL_PARAMETERS_MAX = 5

LONGER_FILES: dict[str, int] = {}
LONGER_FUNCTIONS: dict[str, int] = {}

BANNED_NAMES = {"util", "utils", "helper", "helpers", "common", "manager", "managers", "base", "misc", "lib"}
# Put together so that this file does not name them itself.
UNFINISHED = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")) + r")\b")
ONE_MACHINE = re.compile("|".join(("/ro" + "ot/", "/ho" + "me/", "/Us" + "ers/", "/wo" + "rk/(?:main|shared)")))
TEXTS = {".py", ".md", ".toml", ".yml", ".yaml", ".avsc", ".sh", ".ts", ".css", ".html", ".json", ""}
NOT_OURS = ("examples/data/", "platform/millstream/console/static/", "LICENSE")


def tracked_texts() -> list[Path]:
    """The text files of the repository, ours only; outside a checkout, those of the package."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = listing.stdout.splitlines() or [str(module.path.relative_to(ROOT)) for module in modules()]
    ours = [ROOT / name for name in names if not name.startswith(NOT_OURS)]
    return [path for path in ours if path.suffix in TEXTS and path.is_file()]


def over(sizes: dict[str, int], limit: int, known: dict[str, int]) -> list[str]:
    """What is over its limit, and what the list of known exceptions allows too much."""
    grown = [f"{name}: {size} lines, at most {known.get(name, limit)}" for name, size in sizes.items()]
    grown = [line for line, (name, size) in zip(grown, sizes.items(), strict=True) if size > known.get(name, limit)]
    loose = [f"{name}: listed with {size}, now {sizes.get(name, 0)}" for name, size in known.items()]
    loose = [line for line, (name, size) in zip(loose, known.items(), strict=True) if sizes.get(name, 0) < size]
    return grown + loose


def test_a_file_is_short_enough_to_read_alone() -> None:
    sizes = {module.where: len(module.text.splitlines()) for module in modules()}
    complain(
        over(sizes, FILE_LINES_MAX, LONGER_FILES), "Split the file by subject; lower or drop entries of LONGER_FILES."
    )


def test_a_function_fits_on_a_page() -> None:
    sizes: dict[str, int] = {}
    for module in modules():
        for function in functions(module):
            name = f"{module.where}:{function.name}"
            sizes[name] = max(function.lines, sizes.get(name, 0))
    complain(over(sizes, FUNCTION_LINES_MAX, LONGER_FUNCTIONS), "Give a part of the function its own name.")


def test_a_function_takes_few_arguments_by_position() -> None:
    problems = [
        f"{module.where}:{function.line}: {function.name} takes {function.positional}"
        for module in modules()
        for function in functions(module)
        if function.positional > POSITIONAL_PARAMETERS_MAX
    ]
    complain(
        problems, f"At most {POSITIONAL_PARAMETERS_MAX}: group them in an options value, or make them keyword-only."
    )


def test_a_name_says_what_is_in_the_file() -> None:
    problems = [
        module.where
        for module in modules()
        if BANNED_NAMES & set(re.split(r"[._]", module.path.stem + "." + module.name))
    ]
    complain(problems, f"Name the file after its one subject, not {', '.join(sorted(BANNED_NAMES))}.")


def test_every_module_says_what_it_is_for() -> None:
    problems = [module.where for module in modules() if not (ast.get_docstring(module.tree) or "").strip()]
    complain(problems, "Begin with a docstring: what, why here, the rule it keeps, where to add.")


def test_nothing_is_left_unfinished() -> None:
    problems = []
    for path in tracked_texts():
        if path.suffix in (".py", ".ts", ".sh"):
            lines = path.read_text(encoding="utf-8").splitlines()
            problems += [
                f"{path.relative_to(ROOT)}:{at}" for at, line in enumerate(lines, 1) if UNFINISHED.search(line)
            ]
    complain(problems, "Do it, or open an issue and delete the note.")


def test_no_file_knows_one_machine() -> None:
    problems = []
    for path in tracked_texts():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        problems += [
            f"{path.relative_to(ROOT)}:{at}: {line[:80]}"
            for at, line in enumerate(lines, 1)
            if ONE_MACHINE.search(line)
        ]
    complain(problems, "Derive the path from the file's own place or from a setting.")


def test_platform_is_a_source_root_and_not_a_package() -> None:
    assert not (SOURCE / "__init__.py").exists(), (
        "platform/__init__.py shadows the standard library's `platform` (uuid and aiohttp fail to import): delete it."
    )
    strangers = sorted(path.name for path in SOURCE.iterdir() if path != PACKAGE and path.name != "__pycache__")
    complain(strangers, "Only millstream/ lives under platform/.")


def test_no_folder_of_tests_is_called_platform() -> None:
    assert not (ROOT / "tests" / "platform").exists(), "tests/platform breaks pytest's imports: give it another name."


def test_every_package_has_an_init() -> None:
    folders = {parent for module in modules() for parent in module.path.parents if parent.is_relative_to(PACKAGE)}
    problems = [str(folder.relative_to(ROOT)) for folder in sorted(folders) if not (folder / "__init__.py").exists()]
    complain(
        problems, "Add an __init__.py with a docstring: a folder without one is left out of imports by type checkers."
    )


PRIVATE = re.compile(r"_[a-z]\w*")
PRIVATE_OF_OTHERS = {"asyncio.tasks._all_tasks"}  # Python's: filling it costs a simulated world as much as its turns.


def test_the_simulation_looks_at_the_product_from_outside() -> None:
    """What it may know of the product is public there. Mutants break the product from inside, that is what they do."""
    problems = []
    for path in sorted((ROOT / "tests" / "sim").rglob("*.py")):
        if "mutants" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = _private_of_another(node)
            if name and name not in PRIVATE_OF_OTHERS:
                problems.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: {name}")
    complain(problems, "Observe it from outside, or give the product a property that any observer may use.")


def _private_of_another(node: ast.AST) -> str:
    """What is private in it and not its own: an attribute, or the name of one for setattr; empty for nothing."""
    if isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr):
        is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        return "" if is_own else ast.unparse(node)
    is_name = isinstance(node, ast.Constant) and isinstance(node.value, str) and PRIVATE.fullmatch(node.value)
    return ast.unparse(node) if is_name else ""


def test_a_test_asks_something() -> None:
    problems = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_test = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
            if is_test and not any(isinstance(part, ast.Assert | ast.Raise | ast.Call) for part in _inside(node)):
                problems.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}")
    complain(problems, "Nothing in it can fail: write what it promises, or delete it.")


def _inside(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    for statement in test.body:
        yield from ast.walk(statement)
