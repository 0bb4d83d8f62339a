"""Runs the test layers in order, each against a time budget: `make test`, or `python tests/run_layers.py core sim`.

A layer answers one question (docs: ARCHITECTURE.md). A budget is what the layer may take on two cores; past it a
warning is printed, and in CI (`CI` is set) more than twice the budget fails, so that slow tests are noticed when
they arrive.
The last line says what happened: `N passed, N failed, N skipped`.

To add a layer: one line in LAYERS. A folder of tests that no layer names is an error.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
IN_CI_FAIL_PAST_BUDGETS = 2
NO_TESTS_COLLECTED = 5


@dataclass(frozen=True, slots=True)
class Layer:
    """Folders of tests that answer one question within ``budget_s``, over ``processes`` processes."""

    name: str
    question: str
    folders: tuple[str, ...]
    budget_s: int
    processes: int = 1


PARTS = ("wire", "log", "state", "functions", "execute", "history", "api")

LAYERS = (
    Layer("architecture", "does the code keep its form?", ("architecture",), 20),
    Layer("core", "is every decision right?", ("core",), 180, processes=2),
    Layer("parts", "does each part keep its promise?", PARTS, 180, processes=2),
    Layer("contract", "do all backends mean the same?", ("contract",), 300, processes=2),
    Layer("lane", "does one lane keep its promises?", ("lane", "testing", "cli"), 240, processes=2),
    Layer("faults", "does a user's value stop more than its run?", ("faults",), 180, processes=2),
    Layer("sim", "does the loop keep its promises in a hostile world?", ("sim",), 600, processes=2),
    Layer("cases", "does the product do what the docs say?", ("cases", "examples", "docs", "deploy"), 420, processes=2),
    Layer("kafka", "does it hold on a real broker?", ("kafka",), 1_200),
    Layer("chaos", "does kill -9 lose anything?", ("chaos",), 360),
)


@dataclass(frozen=True, slots=True)
class Count:
    """How the tests of a layer, or of all, ended."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


@dataclass(frozen=True, slots=True)
class Result:
    """How one layer ended. ``ok`` is pytest's word, ``took_s`` includes its start."""

    layer: Layer
    ok: bool
    count: Count
    took_s: float

    @property
    def verdict(self) -> str:
        """`ok`, or why not; a late layer is `late` and fails in CI only when it is far too late."""
        if not self.ok:
            return "FAILED"
        if self.took_s <= self.layer.budget_s:
            return "ok"
        return "FAR TOO LATE" if self.took_s > IN_CI_FAIL_PAST_BUDGETS * self.layer.budget_s else "late"


def main(names: list[str]) -> int:
    """Run the named layers, or all; 0 when nothing failed."""
    unknown = sorted(set(names) - {layer.name for layer in LAYERS})
    if unknown:
        print(f"no such layer: {', '.join(unknown)}; expected {', '.join(layer.name for layer in LAYERS)}")
        return 2
    unclaimed = _unclaimed_folders()
    if unclaimed:
        print(f"no layer runs the tests in {', '.join(unclaimed)}: add them to LAYERS in tests/run_layers.py")
        return 2
    present = [layer for layer in LAYERS if _paths(layer) and (not names or layer.name in names)]
    results = [_run(layer) for layer in present]
    return _report(results)


def _unclaimed_folders() -> list[str]:
    claimed = {folder for layer in LAYERS for folder in layer.folders}
    tests = {path.relative_to(TESTS).parts for path in TESTS.rglob("test_*.py")}
    return sorted({f"tests/{parts[0]}" for parts in tests if parts[0] not in claimed})


def _paths(layer: Layer) -> list[str]:
    folders = [TESTS / folder for folder in layer.folders]
    return [str(folder.relative_to(ROOT)) for folder in folders if any(folder.rglob("test_*.py"))]


def _run(layer: Layer) -> Result:
    print(f"\n=== {layer.name}: {layer.question} (budget {layer.budget_s} s)", flush=True)
    with tempfile.TemporaryDirectory(prefix="millstream-layer-") as folder:
        report = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *_paths(layer)]
        if layer.processes > 1:
            command += ["-n", str(layer.processes), "--dist", "worksteal"]
        begun = time.monotonic()
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        took_s = time.monotonic() - begun
        result = Result(layer, code in (0, NO_TESTS_COLLECTED), _counted(report), took_s)
    print(f"--- {layer.name}: {result.verdict}, {took_s:.1f} s of {layer.budget_s} s, {result.count}", flush=True)
    return result


def _counted(report: Path) -> Count:
    if not report.exists():
        return Count(failed=1)  # Pytest died before it could say anything.
    total = Count()
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped = int(suite.get("skipped", 0))
        total += Count(int(suite.get("tests", 0)) - failed - skipped, failed, skipped)
    return total


def _report(results: list[Result]) -> int:
    total, failing = Count(), False
    print()
    for result in results:
        total += result.count
        failing |= result.verdict == "FAILED" or ("CI" in os.environ and result.verdict == "FAR TOO LATE")
        print(f"{result.layer.name:<13} {result.verdict:<13} {result.took_s:7.1f} s of {result.layer.budget_s:4} s")
        if result.verdict in ("late", "FAR TOO LATE"):
            print(f"warning: {result.layer.name} is past its budget: make its tests cheaper or move them")
    print(total)
    return 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
