"""Writes what is made from the code: the pages of docs/reference, the drawings in ARCHITECTURE.md, the chart's README.

Each is a function from what the code says to Markdown, so that a test can compare it with the file. Run it after
changing a limit, a metric, a setting, a command, a transition or a value of the Helm chart:

    python docs/generate.py

Add a page: a function, and a line in ``PAGES``. Add a drawing or a table: a function, a line in ``PLACES``, and its two
markers in the file.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from millstream import config, telemetry
from millstream.core.runs import transitions
from millstream.core.runs.moves import Move
from millstream.model import limits

FOLDER: Final = Path(__file__).resolve().parent / "reference"
MADE: Final = "<!-- Made by docs/generate.py: change the code, then run it. -->\n\n"
VALUE: Final = re.compile(r"(?P<indent> *)(?P<name>\w+):(?: (?P<default>.+))?")
SECTION: Final = re.compile(r"#\s*-{3,}\s*(.+?)\s*-{3,}")


def limits_page() -> str:
    """Every constant of ``model/limits.py``, with what its line says."""
    source = inspect.getsource(limits)
    comments = _comments(source)
    lines = [
        "# Limits\n",
        "What is larger or more is refused with an error that names the limit: at the door with 400 or 413, in a run",
        "by failing the step or the run. Nothing is cut silently.",
    ]
    headings = sorted((at, found[1]) for at, text in comments.items() if (found := SECTION.match(text)))
    constants = list(_constants(source))
    for number, (at, heading) in enumerate(headings):
        until = headings[number + 1][0] if number + 1 < len(headings) else sys.maxsize
        lines += [f"\n## {heading.capitalize()}\n", "| limit | value | |", "|---|---|---|"]
        for line, name in constants:
            if at < line < until:
                note = comments.get(line, "").removeprefix("#").strip().removeprefix("ours").lstrip(": ")
                lines.append(f"| `{name}` | {_value(name, getattr(limits, name))} | {note} |")
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    """Every metric of ``telemetry.METRICS``."""
    lines = ["# Metrics\n", "What `GET /metrics` has. Labels are bounded; none holds an id.\n"]
    lines += ["| metric | kind | labels | |", "|---|---|---|---|"]
    for metric in telemetry.METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Every line of ``config.SETTINGS``."""
    lines = [
        "# Settings\n",
        "A flag comes before its variable, a variable before the default. `millstream config show` says",
    ]
    lines += ["what is set, and by what. A `MILLSTREAM_…` variable that is not listed here is refused.\n"]
    lines += ["| flag | variable | default | |", "|---|---|---|---|"]
    for setting in config.SETTINGS:
        default = f"`{setting.default}`" if setting.default else ""
        choices = f" One of {', '.join(f'`{one}`' for one in setting.choices)}." if setting.choices else ""
        flag = ", ".join(f"`{name} {setting.metavar}`".replace(" `", "`") for name in setting.flag.split("/"))
        cells = (flag, f"`{setting.variable}`", default, setting.doc + choices)
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def cli_page(command: Any) -> str:
    """Every command below a click command, with its help, arguments and options."""
    lines = ["# Command line\n"]
    for path, one in _commands(command, "millstream"):
        lines.append(f"## {path}\n\n{inspect.cleandoc(one.help or '')}\n")
        shown = (p for p in one.params if p.name != "help" and not getattr(p, "hidden", False))
        rows = [(p, getattr(p, "help", "") or "") for p in shown]
        if rows:
            lines += ["| argument or option | |", "|---|---|"]
        for parameter, words in rows:
            options = parameter.opts[0].startswith("-")
            names = (*parameter.opts, *parameter.secondary_opts)
            name = ", ".join(f"`{o}`" for o in names) if options else f"`{parameter.name}`"
            lines.append(f"| {name} | {' '.join(words.split()).replace('|', '&#124;')} |")
        lines.append("")
    return "\n".join(lines)


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", {})
    if not below:
        yield path, command
    for name in sorted(below):
        if not below[name].hidden:
            yield from _commands(below[name], f"{path} {name}")


def _cli() -> str:
    import typer.main

    from millstream.cli import commands

    whole = next(it for it in vars(commands).values() if isinstance(it, typer.Typer) and it.registered_groups)
    return cli_page(typer.main.get_command(whole))


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


def _constants(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.lineno, node.target.id


def _value(name: str, value: int) -> str:
    """A number with its unit, in the largest one that divides it."""
    units: tuple[tuple[int, str], ...] = ()
    if "_BYTES_" in name:
        units = ((1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes"))
    elif name.startswith("EVENT_TS"):
        return f"{value} (Unix ms)"
    elif name.endswith("_MS") or "_MS_" in name:
        units = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms"))
    for size, unit in units:
        if value >= size and value % size == 0:
            return f"{value // size:,} {unit}"
    return f"{value:,}"


def bodies_drawing() -> str:
    """How a body passes from hand to hand."""
    return _drawing(transitions.transitions().body)


def steps_drawing() -> str:
    """How a step passes from hand to hand."""
    return _drawing(transitions.transitions().step)


def _drawing(moves: tuple[Move, ...]) -> str:
    """A state diagram: one arrow for each (from, to), with the facts that go along it."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for move in moves:
        key = (
            move.before.name if move.before is not None else "[*]",
            move.after.name if move.after is not None else "[*]",
        )
        arrows.setdefault(key, []).append(move.fact.__name__)
    lines = [f"    {before} --> {after}: {', '.join(facts)}" for (before, after), facts in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"]) + "\n"


def values_table() -> str:
    """Every value of the chart with its default and what ``values.yaml`` says of it.

    What is said once is said of the same value of every role. A heading of that file (``# --- …``) begins a new table.
    """
    lines: list[str] = []
    said: dict[str, str] = {}
    path: list[str] = []
    comments: list[str] = []
    for line in (CHART / "values.yaml").read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"# --- (.+)", line):
            lines += [f"\n### {heading[1]}\n", "| value | default | |", "|---|---|---|"]
        elif not line:
            comments = []
        elif comment := re.fullmatch(r" *# ?(.*)", line):
            comments.append(comment[1])
        elif value := VALUE.fullmatch(line):
            path[len(value["indent"]) // 2 :] = [value["name"]]
            if value["default"]:
                words = " ".join(it for it in comments if not it.startswith("  "))
                in_role = ".".join(path[1:])
                if words and in_role:
                    said.setdefault(in_role, words)
                words = words or said.get(in_role, "")
                lines.append(f"| `{'.'.join(path)}` | `{value['default']}` | {words.replace('|', '&#124;')} |")
            comments = []
    return "\n".join(lines) + "\n"


PAGES: Final[dict[str, Callable[[], str]]] = {
    "limits.md": limits_page,
    "metrics.md": metrics_page,
    "settings.md": settings_page,
    **({"cli.md": _cli} if importlib.util.find_spec("millstream.cli.commands") else {}),
}


ROOT: Final = FOLDER.parent.parent
CHART: Final = ROOT / "helm" / "millstream"
PLACES: Final[dict[Path, dict[str, Callable[[], str]]]] = {
    FOLDER.parent / "ARCHITECTURE.md": {"bodies": bodies_drawing, "steps": steps_drawing},
    CHART / "README.md": {"values": values_table},
}
"""Files that hold what is made here among other text."""


def filled(file: Path) -> str:
    """A file of PLACES with its drawings and tables as the code of today makes them."""
    text = file.read_text(encoding="utf-8")
    for name, make in PLACES[file].items():
        begin, end = f"<!-- {name}: made by docs/generate.py -->\n", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        assert found and end in rest, f"{file.name} has no place for {name!r}: {begin.strip()} … {end}"
        text = before + begin + make() + end + rest.partition(end)[2]
    return text


def page(name: str) -> str:
    """A page as the code of today makes it."""
    heading, newline, rest = PAGES[name]().partition("\n")
    return f"{heading}{newline}\n{MADE}{rest.lstrip()}"


def main() -> int:
    """Write all pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        (FOLDER / name).write_text(page(name), encoding="utf-8")
        print(f"written docs/reference/{name}")
    for file in PLACES:
        file.write_text(filled(file), encoding="utf-8")
        print(f"filled {file.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
