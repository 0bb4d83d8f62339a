"""What the pages name is there: files, folders, tests, commands with their options, make targets."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from millstream.cli import commands
from tests.docs.blocks import PAGES, ROOT

READMES = sorted(
    [
        ROOT / "deploy" / "README.md",
        ROOT / "helm" / "millstream" / "README.md",
        *(ROOT / "examples").glob("*_*/README.md"),
    ]
)
ALL = [*PAGES, *READMES]
ROOTS = (ROOT, ROOT / "platform" / "millstream", ROOT / "tests")
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.<>*-]*(?:/[\w.<>*-]+)+/?|[\w<>*-]+\.(?:py|avsc|yml|yaml|toml|jsonl)|[\w-]+/")
TEST_NAME = re.compile(r"(?:test_|…)\w+…?")
COMMAND = re.compile(r"(?:^|(?<=\| )|(?<=── )|(?<=; ))millstream (?=[a-z])[^;|#]*")
NOT_OURS = {
    # The reader's own files and folders.
    "shop.py", "test_shop.py", "schemas/order/placed.avsc", "order/placed.avsc", "log/", "state/", "events.jsonl",
    "placed.avro", ".millstream/", "FILE.jsonl", "losses.jsonl", "log/mark", "log/lost-<time>/",
    # Other things with a stroke in their names.
    "text/plain", "kubernetes.io/tls", "statefulset/millstream",
}  # fmt: skip
PROSE = {f"millstream {verb}" for verb in ("again", "could", "for", "itself", "runs", "writes", "wrote")}
"""Where a text speaks of millstream and of no command (but for those below ``millstream runs``)."""
EVENTS = re.compile(r"(?:order|shop|trial|stock|inngest|bench)/")


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def named_paths(page: Path) -> Iterator[str]:
    """What in code spans looks like a file or folder of this repository."""
    for span in SPAN.findall(prose(page)):
        for word in span.split():
            if PATH.fullmatch(word) and word not in NOT_OURS and not word.startswith("/") and not EVENTS.match(word):
                yield word


def is_there(page: Path, name: str) -> bool:
    pattern = re.sub(r"<\w+>", "*", name)
    return (
        any(any(root.glob(pattern)) for root in (*ROOTS, page.parent) if ".." not in pattern)
        or (page.parent / name).exists()
    )


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    assert [name for name in named_paths(page) if not is_there(page, name)] == []


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_heading_that_a_page_links_to_is_there(page: Path) -> None:
    missing = []
    for name, anchor in re.findall(r"\]\(([^)#\s:]*)#([\w-]+)\)", page.read_text(encoding="utf-8")):
        target = page.parent / name if name else page
        headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
        if anchor not in anchors:
            missing.append(f"{name}#{anchor}")
    assert missing == []


def test_every_test_that_shows_a_guarantee_is_in_the_file_before_it() -> None:
    page = prose(ROOT / "docs" / "guarantees.md")
    wrong, shown = [], 0
    for line in page.splitlines():
        file: Path | None = None
        for span in SPAN.findall(line):
            if span.endswith(".py") and (ROOT / "tests" / span).is_file():
                file = ROOT / "tests" / span
            elif TEST_NAME.fullmatch(span):
                shown += 1
                assert file is not None, f"{span}: name its file first"
                if not re.search(rf"def \w*{span.strip('…')}", file.read_text(encoding="utf-8")):
                    wrong.append(span)
    assert wrong == []
    assert shown > 5


def test_every_line_of_the_log_that_a_page_quotes_is_one_that_the_code_writes() -> None:
    page = prose(ROOT / "docs" / "how-to" / "run-on-kafka.md")
    listed = re.search(r"The log has one line for each of these: (.*)\.$", page, re.MULTILINE)
    assert listed is not None
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "platform").rglob("*.py"))
    lines = SPAN.findall(listed[1])
    assert len(lines) > 3
    assert [line for line in (*lines, "record not sent") if f'"{line}"' not in code] == []


def shown_commands(page: Path) -> Iterator[str]:
    """The command lines of indented blocks, continued lines joined, and those in code spans."""
    text = prose(page)
    blocks = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    for line in re.sub(r"\\\n\s*", "", blocks).splitlines():
        yield from (found.strip() for found in COMMAND.findall(line.strip()))
    for span in SPAN.findall(text):
        yield from (found.strip() for found in COMMAND.findall(span))


def below(path: list[str]) -> tuple[Any, list[str]]:
    """The command that these words call, and the words behind its name."""
    whole = next(it for it in vars(commands).values() if isinstance(it, typer.Typer) and it.registered_groups)
    found: Any = typer.main.get_command(whole)
    while path and path[0] in getattr(found, "commands", {}):
        found, path = found.commands[path[0]], path[1:]
    return found, path


def problem_of(line: str) -> str:
    """What is wrong with a command line of a page; empty: nothing."""
    try:
        words = shlex.split(line)[1:]
    except ValueError:
        words = line.split()[1:]
    for choice in words[1].split("|") if len(words) > 1 and "|" in words[1] else [""]:
        command, rest = below([words[0], choice, *words[2:]] if choice else words)
        if getattr(command, "commands", None):
            if rest and not rest[0].startswith(("-", "…")) and rest[0].isalpha():
                return f"{line}: there is no such command"
            continue
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        unknown = [w.split("=")[0] for w in rest if re.match(r"--?[a-z]", w) and w.split("=")[0] not in options]
        if unknown:
            return f"{line}: there is no option {', '.join(unknown)}"
    return ""


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_shows_is_one_that_millstream_has(page: Path) -> None:
    assert [problem for line in shown_commands(page) if (problem := problem_of(line))] == []


def test_commands_are_found_on_the_pages_and_wrong_ones_are_noticed() -> None:
    assert sum(1 for page in ALL for _ in shown_commands(page)) > 40
    assert "no option --boat" in problem_of("millstream dev shop:app --boat 3")
    assert "no such command" in problem_of("millstream topics sink")
    assert problem_of("millstream topics plan|apply --group shop") == ""


def texts(path: Path) -> Iterator[str]:
    """The texts of a module that somebody may be shown: no docstrings; ``X`` is where a value goes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unseen: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            unseen.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            unseen |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in unseen:
            yield node.value


def told_commands(text: str) -> Iterator[str]:
    """The command lines in a message, up to the end of each; prose about millstream is none."""
    for found in re.finditer(r"millstream (?!import )(?=[a-z])[^.,;:|#`\"'\n<]*", text):
        words = found[0].split()
        if " ".join(words[:2]) not in PROSE or words[2:3] in (["list"], ["get"], ["cancel"]):
            # Prose goes on behind a command without a sign of it: what counts are its name and its options.
            is_group = getattr(below(words[1:2])[0], "commands", None)
            yield " ".join(words[: 3 if is_group else 2] + [word for word in words[2:] if word.startswith("-")])


def test_every_command_that_a_message_names_is_one_that_millstream_has() -> None:
    lines = [
        line
        for path in sorted((ROOT / "platform").rglob("*.py"))
        for text in texts(path)
        for line in told_commands(text)
    ]
    assert len(lines) > 20
    assert [problem for line in lines if (problem := problem_of(line))] == []
    (wrong,) = told_commands("Report this with the journal: millstream journal.")
    assert problem_of(wrong)


def test_every_target_of_make_and_every_bench_that_a_page_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in ALL:
        text = page.read_text(encoding="utf-8")
        made = {name for span in SPAN.findall(text) for name in re.findall(r"\bmake ([a-z-]+)", span)}
        assert made - targets == set(), page
        benches = set(re.findall(r"\bbench\.(?!\*)([a-z_]+)", text)) - {"rig"}
        assert [name for name in benches if not (ROOT / "bench" / f"{name}.py").is_file()] == [], page
