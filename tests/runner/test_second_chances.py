"""What the runner of the layers does about tests that fail once, always, or must not fail at all.

It runs for real on small projects of their own: a test that counts its runs in a file fails the first time.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.run_layers import FLAKY_MAX, ROOT, SECOND_CHANCES_MAX, Layer, Suite, main

FAILS_ONCE = """
    from pathlib import Path

    def first_time(name):
        runs = Path(name)
        runs.write_text((runs.read_text() if runs.exists() else "") + "x")
        return runs.read_text() == "x"
"""


@dataclass
class Ran:
    """What a run said, and whether it failed."""

    code: int
    lines: list[str]

    @property
    def last(self) -> str:
        return self.lines[-1]

    def line(self, start: str) -> str:
        (found,) = [line for line in self.lines if line.startswith(start)]
        return found


@dataclass
class Project:
    """A project of its own, with a layer for each folder of tests."""

    root: Path
    capture: pytest.CaptureFixture[str]

    def write(self, name: str, text: str) -> None:
        path = self.root / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(FAILS_ONCE) + textwrap.dedent(text))

    def run(self, *layers: Layer) -> Ran:
        self.capture.readouterr()
        code = main([], Suite(self.root, layers))
        return Ran(code, self.capture.readouterr().out.splitlines())

    def runs_of(self, name: str) -> int:
        return len((self.root / name).read_text())


def layer(name: str, *, final: bool = False, processes: int = 1) -> Layer:
    return Layer(name, "?", (name,), 600, processes=processes, final=final)


@pytest.fixture
def project(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # Its pytest loads our plugin.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # A dozen of them start: none needs what is installed.
    monkeypatch.setenv("PYTEST_PLUGINS", "xdist.plugin")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    return Project(tmp_path, capfd)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_test_that_passes_alone_is_flaky_and_its_log_is_kept(project: Project, processes: int) -> None:
    project.write(
        "parts/test_it.py",
        """
        import pytest

        def test_good(): pass

        @pytest.mark.parametrize("what", ["a/b [c]"])
        def test_busy(what):
            print("what it printed")
            assert not first_time("busy"), "too slow today"

        @pytest.mark.skip
        def test_left_out(): pass
        """,
    )
    ran = project.run(layer("parts", processes=processes))
    assert (ran.code, ran.last) == (0, "2 passed, 0 failed, 1 skipped")
    assert project.runs_of("busy") == 2
    assert "test_busy[a/b [c]] failed, and passed alone" in ran.line("flaky: tests/parts/test_it.py")
    assert ran.line("flaky: 1 tests")
    assert any("too slow today" in line for line in ran.lines[ran.lines.index(ran.line("flaky: tests/")) :])
    (log,) = (project.root / "out" / "flaky").iterdir()
    assert "too slow today" in log.read_text()
    assert "what it printed" in log.read_text()


def test_a_test_that_fails_again_has_failed(project: Project) -> None:
    project.write(
        "parts/test_it.py",
        """
        import pytest

        @pytest.fixture
        def broken():
            yield
            assert False, "what the fixture finds afterwards"

        @pytest.fixture
        def missing():
            first_time("missing")
            raise OSError

        def test_good(): pass
        def test_bad():
            first_time("bad")
            assert False
        def test_of_a_missing_fixture(missing): pass
        def test_that_leaves_something_broken(broken): pass
        """,
    )
    ran = project.run(layer("parts"))
    assert (ran.code, ran.last) == (1, "1 passed, 3 failed, 0 skipped")
    assert project.runs_of("bad") == project.runs_of("missing") == 2
    assert not [line for line in ran.lines if line.startswith("flaky")]


def test_a_fixture_that_fails_once_is_flaky_too(project: Project) -> None:
    project.write(
        "parts/test_it.py",
        """
        import pytest

        @pytest.fixture
        def server():
            assert not first_time("server")

        def test_it(server): pass
        """,
    )
    ran = project.run(layer("parts"))
    assert (ran.code, ran.last) == (0, "1 passed, 0 failed, 0 skipped")
    assert ran.line("flaky: 1 tests")


def test_a_broken_promise_has_no_second_chance(project: Project) -> None:
    once = """
        def test_it(): assert not first_time("{name}")
    """
    project.write("sim/test_sim.py", once.format(name="sim"))
    project.write(
        "parts/test_parts.py",
        """
        from tests.promises import BrokenPromise

        def test_verdict():
            if first_time("verdict"):
                raise BrokenPromise("an event is lost")

        def test_verdict_of_a_group():
            if first_time("group"):
                raise ExceptionGroup("", [ValueError(), BrokenPromise("an event is lost")])
        """,
    )
    ran = project.run(layer("sim", final=True), layer("parts"))
    assert (ran.code, ran.last) == (1, "0 passed, 3 failed, 0 skipped")
    assert project.runs_of("sim") == project.runs_of("verdict") == project.runs_of("group") == 1


def test_too_many_flaky_tests_fail_the_run_over_all_layers(project: Project) -> None:
    once = """
        import pytest

        @pytest.mark.parametrize("n", range({many}))
        def test_it(n): assert not first_time(f"{name}-{{n}}")
        def test_good(): pass
    """
    project.write("first/test_it.py", once.format(name="first", many=1))
    project.write("second/test_it.py", once.format(name="second", many=FLAKY_MAX - 1))
    ran = project.run(layer("first"), layer("second"))
    assert (ran.code, ran.last) == (1, f"2 passed, {FLAKY_MAX} failed, 0 skipped")
    assert ran.line(f"flaky: {FLAKY_MAX} tests")


def test_where_much_is_broken_nothing_is_run_again(project: Project) -> None:
    project.write(
        "parts/test_it.py",
        f"""
        import pytest

        @pytest.mark.parametrize("n", range({SECOND_CHANCES_MAX + 1}))
        def test_it(n): assert not first_time(f"{{n}}")
        """,
    )
    ran = project.run(layer("parts"))
    assert (ran.code, ran.last) == (1, f"0 passed, {SECOND_CHANCES_MAX + 1} failed, 0 skipped")
    assert project.runs_of("0") == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_a_file_that_cannot_be_imported_has_failed(project: Project, processes: int) -> None:
    project.write("parts/test_it.py", "import nothing_of_this_name\n")
    ran = project.run(layer("parts", processes=processes))
    assert (ran.code, ran.last) == (1, "0 passed, 1 failed, 0 skipped")


def test_a_layer_whose_tests_are_gone_has_failed(project: Project) -> None:
    project.write("parts/test_it.py", "")
    ran = project.run(layer("parts"))
    assert (ran.code, ran.last) == (1, "0 passed, 1 failed, 0 skipped")


def test_a_pytest_that_dies_has_failed_and_what_it_did_is_counted(project: Project) -> None:
    project.write(
        "parts/test_it.py",
        """
        import os

        def test_good(): pass
        def test_deadly(): os._exit(3)
        """,
    )
    ran = project.run(layer("parts"))
    assert (ran.code, ran.last) == (1, "1 passed, 1 failed, 0 skipped")


def test_a_folder_that_no_layer_runs_is_an_error(project: Project) -> None:
    project.write("parts/test_it.py", "def test_it(): pass\n")
    project.write("else/test_it.py", "def test_it(): pass\n")
    assert project.run(layer("parts")).code == 2
