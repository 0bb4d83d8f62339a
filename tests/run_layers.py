"""Runs the test layers in order, each against a time budget: `make test`, or `python tests/run_layers.py core sim`.

A layer answers one question (docs: ARCHITECTURE.md). A budget is what the layer may take on two idle cores, 40 minutes
for all; past it a warning is printed, and in CI (`CI` is set) more than four times the budget fails: so late no busy
machine makes it.

On a busy machine a right test may fail. So a test that fails is run once more, alone, in a fresh pytest. One that
passes then is flaky: it counts as passed, it is listed, and what it said is kept in `out/flaky/`. FLAKY_MAX of them
fail the run. A broken promise has no second chance: no test of a layer that is `final`, and no test anywhere that
fails with `BrokenPromise` (tests/promises.py).
The last line says what happened: `N passed, N failed, N skipped`.

To add a layer: one line in LAYERS. A folder of tests that no layer names is an error.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # Python puts this folder there, whose `kafka` and `log` nobody should import.

from tests.outcomes import Outcome, read  # noqa: E402

IN_CI_FAIL_PAST_BUDGETS = 4
FLAKY_MAX = 3
"""So many flaky tests fail the run: chance does not explain them any more."""
SECOND_CHANCES_MAX = 10
"""Where more fail, something is broken, and running each once more would only take time."""
SHOWN_LINES_MAX = 40


@dataclass(frozen=True, slots=True)
class Layer:
    """Folders of tests that answer one question within ``budget_s``, over ``processes`` processes.

    ``spread`` says how xdist shares the tests out; ``final``: no test of it has a second chance.
    """

    name: str
    question: str
    folders: tuple[str, ...]
    budget_s: int
    processes: int = 1
    spread: str = "worksteal"
    final: bool = False


PARTS = ("wire", "log", "state", "functions", "execute", "endpoint", "history", "api", "roles", "runner")

LAYERS = (
    Layer("architecture", "does the code keep its form?", ("architecture",), 20),
    Layer("core", "is every decision right?", ("core",), 60, processes=2),
    Layer("parts", "does each part keep its promise?", PARTS, 200, processes=2),
    Layer("contract", "do all backends mean the same?", ("contract",), 80, processes=2, final=True),
    Layer("lane", "does one lane keep its promises?", ("lane", "testing", "cli"), 240, processes=2),
    Layer("faults", "does a user's value stop more than its run?", ("faults",), 100, processes=2),
    Layer("sim", "does the loop keep its promises in a hostile world?", ("sim",), 290, processes=2, final=True),
    Layer("cases", "does the product do what the docs say?", ("cases", "examples", "docs"), 180, processes=2),
    Layer("deploy", "does what is shipped start and serve?", ("deploy",), 280, processes=2, spread="loadfile"),
    Layer("sdk", "do the unmodified SDKs run here?", ("sdk",), 220, processes=2, spread="loadfile"),
    Layer("kafka", "does it hold on a real broker?", ("kafka",), 420, processes=2, spread="loadfile"),
    Layer("chaos", "does kill -9 lose anything?", ("chaos",), 220),
)


@dataclass(frozen=True, slots=True)
class Suite:
    """Layers of tests below ``root``/tests, and where the logs of flaky ones are kept."""

    root: Path = ROOT
    layers: tuple[Layer, ...] = LAYERS

    @property
    def kept(self) -> Path:
        return self.root / "out" / "flaky"

    def paths(self, layer: Layer) -> list[str]:
        """Those folders of a layer that have tests."""
        folders = [self.root / "tests" / folder for folder in layer.folders]
        return [str(folder.relative_to(self.root)) for folder in folders if any(folder.rglob("test_*.py"))]

    def unclaimed(self) -> list[str]:
        """Folders with tests that no layer runs."""
        tests = self.root / "tests"
        claimed = {folder for layer in self.layers for folder in layer.folders}
        found = {path.relative_to(tests).parts[0] for path in tests.rglob("test_*.py")}
        return sorted(f"tests/{folder}" for folder in found - claimed)


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
class Flaky:
    """A test that failed, and passed alone. ``log`` is what it said when it failed."""

    test: str
    log: Path


@dataclass(frozen=True, slots=True)
class Result:
    """How one layer ended. ``took_s`` includes pytest's start, and no second chances."""

    layer: Layer
    count: Count
    took_s: float
    flaky: tuple[Flaky, ...] = ()

    @property
    def verdict(self) -> str:
        """`ok`, or why not; a late layer is `late` and fails in CI only when it is far too late."""
        if self.count.failed:
            return "FAILED"
        if self.took_s <= self.layer.budget_s:
            return "ok"
        return "FAR TOO LATE" if self.took_s > IN_CI_FAIL_PAST_BUDGETS * self.layer.budget_s else "late"


def main(names: Sequence[str], suite: Suite | None = None) -> int:
    """Run the named layers, or all; 0 when nothing failed."""
    suite = suite or Suite()
    unknown = sorted(set(names) - {layer.name for layer in suite.layers})
    if unknown:
        print(f"no such layer: {', '.join(unknown)}; expected {', '.join(layer.name for layer in suite.layers)}")
        return 2
    if suite.unclaimed():
        print(f"no layer runs the tests in {', '.join(suite.unclaimed())}: add them to LAYERS in tests/run_layers.py")
        return 2
    results: list[Result] = []
    chances = SECOND_CHANCES_MAX
    for layer in suite.layers:
        if suite.paths(layer) and (not names or layer.name in names):
            result, chances = _run(suite, layer, chances)
            results.append(result)
    return _report(results)


def _run(suite: Suite, layer: Layer, chances: int) -> tuple[Result, int]:
    """Run a layer; how it ended, and how many second chances are left."""
    print(f"\n=== {layer.name}: {layer.question} (budget {layer.budget_s} s)", flush=True)
    spread = ["-n", str(layer.processes), "--dist", layer.spread] if layer.processes > 1 else []
    begun = time.monotonic()
    outcomes = _pytest(suite, [*spread, *suite.paths(layer)])
    took_s = time.monotonic() - begun
    failures = [one for one in outcomes if one.how == "failed"]
    final = [one for one in failures if layer.final or one.broke_a_promise or not one.is_test]
    if final:
        print(f"{len(final)} broke a promise or could not be run: no second chance", flush=True)
    again = [one for one in failures if one not in final]
    if len(again) > chances:
        print(f"{len(again)} failed, which is more than chance: no second chances", flush=True)
        again = []
    flaky = tuple(Flaky(one.test, _keep(suite, one)) for one in again if _passes_alone(suite, one))
    hows = [one.how for one in outcomes]
    count = Count(hows.count("passed") + len(flaky), len(failures) - len(flaky), hows.count("skipped"))
    result = Result(layer, count, took_s, flaky)
    print(
        f"--- {layer.name}: {result.verdict}, {took_s:.1f} s of {layer.budget_s} s, {count}"
        + (f" ({len(flaky)} of the passed are flaky)" if flaky else ""),
        flush=True,
    )
    return result, chances - len(again)


def _pytest(suite: Suite, arguments: Sequence[str]) -> list[Outcome]:
    """Run pytest once; how the tests ended. That nothing ran, or that pytest itself broke, is a failure."""
    with tempfile.TemporaryDirectory(prefix="millstream-layer-") as folder:
        told = Path(folder) / "outcomes.jsonl"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.outcomes", "--outcomes", str(told), *arguments]
        code = subprocess.run(command, cwd=suite.root, check=False).returncode
        outcomes = read(told)
    if code and not any(one.how == "failed" for one in outcomes):
        outcomes.append(Outcome(f"pytest ended with {code}", "failed", is_test=False))
    return outcomes


def _passes_alone(suite: Suite, failed: Outcome) -> bool:
    """Run a test once more, in a fresh process and with nothing beside it."""
    print(f"\n--- once more, alone: {failed.test}", flush=True)
    return [(one.test, one.how) for one in _pytest(suite, [failed.test])] == [(failed.test, "passed")]


def _keep(suite: Suite, failed: Outcome) -> Path:
    suite.kept.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "-", failed.test.removeprefix("tests/")).strip("-")[:180]
    log = suite.kept / f"{name}.log"
    log.write_text(f"{failed.test}\n\n{failed.text}\n", encoding="utf-8")
    return log


def _report(results: list[Result]) -> int:
    total, failing = Count(), False
    print()
    for result in results:
        total += result.count
        failing |= result.verdict == "FAILED" or ("CI" in os.environ and result.verdict == "FAR TOO LATE")
        print(f"{result.layer.name:<13} {result.verdict:<13} {result.took_s:7.1f} s of {result.layer.budget_s:4} s")
        if result.verdict in ("late", "FAR TOO LATE"):
            print(f"warning: {result.layer.name} is past its budget: make its tests cheaper or move them")
    took_s, budget_s = sum(result.took_s for result in results), sum(result.layer.budget_s for result in results)
    print(f"{'all':<13} {'':<13} {took_s:7.1f} s of {budget_s:4} s")
    flaky = [one for result in results for one in result.flaky]
    for one in flaky:
        last = one.log.read_text(encoding="utf-8").splitlines()[-SHOWN_LINES_MAX:]
        print(f"\nflaky: {one.test} failed, and passed alone. The end of {one.log}:")
        print("\n".join(f"    {line}" for line in last))
    if flaky:
        print(f"\nflaky: {len(flaky)} tests; {FLAKY_MAX} fail the run")
    if len(flaky) >= FLAKY_MAX:
        failing = True
        total += Count(passed=-len(flaky), failed=len(flaky))
    print(total)
    return 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
