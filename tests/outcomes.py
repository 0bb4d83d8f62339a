"""A pytest plugin that writes down how each test ended, for the runner of the layers: a JSON line a report.

    python -m pytest -p tests.outcomes --outcomes FILE tests/core

Lines are written as they come, so that a pytest that dies leaves what it knew. ``read`` folds them: a test that
passed and whose fixture then failed has failed; a file that cannot be imported has failed under the file's name.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

PROMISE = re.compile(r"^[E\s|+-]*(?:\w+\.)*BrokenPromise\b", re.MULTILINE)
"""The line of a traceback that names the exception; alone, in pytest's form or within a group."""
WORST_FIRST = ("failed", "skipped", "passed")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test ended. ``text`` is what pytest says of a failure; ``is_test`` is False for a file not imported."""

    test: str
    how: str
    is_test: bool = True
    text: str = ""

    @property
    def broke_a_promise(self) -> bool:
        """Whether the failure says so itself."""
        return PROMISE.search(self.text) is not None


def read(path: Path) -> list[Outcome]:
    """What the plugin wrote, one outcome a test, in the order in which they ended."""
    found: dict[str, Outcome] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        one = Outcome(**json.loads(line))
        before = found.get(one.test)
        if before is None or WORST_FIRST.index(one.how) < WORST_FIRST.index(before.how):
            found[one.test] = one
    return list(found.values())


def pytest_addoption(parser: pytest.Parser) -> None:
    """Pytest asks for the plugin's options."""
    parser.addoption("--outcomes", type=Path, help="write how each test ended to this file")


def pytest_configure(config: pytest.Config) -> None:
    """Pytest begins. Of several processes the one that the others report to writes."""
    path = config.getoption("--outcomes")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder(path), "outcomes-recorder")


class _Recorder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            self._write(report, is_test=True)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self._write(report, is_test=False)

    def _write(self, report: pytest.TestReport | pytest.CollectReport, *, is_test: bool) -> None:
        text = ""
        if report.failed:
            captured = [f"--- {title}\n{content}" for title, content in report.sections]
            text = "\n".join([report.longreprtext, *captured])
        line = {"test": report.nodeid, "how": report.outcome, "is_test": is_test, "text": text}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
