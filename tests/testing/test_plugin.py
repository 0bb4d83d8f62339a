"""The pytest plugin, in a pytest of its own: does it work in every mode, stay out of the way, and help at a failure?"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APP = """
from millstream import App, Context, Event

app = App("shop")

@app.function(on="go")
async def greet(ctx: Context) -> str:
    return await ctx.step.run("word", str.upper, ctx.event.data["word"])
"""
TEST = """
import pytest
from millstream import Event
from shop import app
{mark}
async def test_greet(millstream_app):
    async with millstream_app(app) as t:
        run = await t.send(Event("go", {{"word": "hello"}}))
        assert run.result == {expected!r}
"""


def run_pytest(where: Path, *arguments: str) -> str:
    """What pytest prints for the tests of a folder, with the plugins named here and no others."""
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT / "platform")}
    line = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "millstream.testing.plugin",
        "-p",
        "no:cacheprovider",
        *arguments,
    ]
    done = subprocess.run(line, cwd=where, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def write(where: Path, expected: str, mark: str = "") -> None:
    (where / "shop.py").write_text(APP, encoding="utf-8")
    (where / "test_shop.py").write_text(TEST.format(expected=expected, mark=mark), encoding="utf-8")


@pytest.mark.parametrize(("mode", "mark"), [("auto", ""), ("strict", "@pytest.mark.asyncio")])
def test_the_fixture_works_in_both_modes_of_pytest_asyncio(tmp_path: Path, mode: str, mark: str) -> None:
    write(tmp_path, "HELLO", mark)
    out = run_pytest(tmp_path, "-p", "pytest_asyncio.plugin", f"--asyncio-mode={mode}")
    assert "1 passed" in out, out


def test_the_fixture_works_with_anyio_on_asyncio(tmp_path: Path) -> None:
    pytest.importorskip("anyio")
    write(tmp_path, "HELLO", "@pytest.mark.anyio")
    (tmp_path / "conftest.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n", encoding="utf-8"
    )
    out = run_pytest(tmp_path, "-p", "anyio.pytest_plugin")
    assert "1 passed" in out, out


def test_a_test_that_fails_shows_its_runs(tmp_path: Path) -> None:
    write(tmp_path, "BYE")
    out = run_pytest(tmp_path, "-p", "pytest_asyncio.plugin", "--asyncio-mode=auto")
    assert "millstream runs" in out, out
    assert "<Step word run completed attempts=1>" in out, out


def test_a_project_that_does_not_use_it_does_not_import_the_engine(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_other():\n"
        "    heavy = {'millstream.worker.worker', 'millstream.core.decide', 'millstream.testing.app', 'fastavro',\n"
        "             'rocksdict', 'confluent_kafka', 'aiohttp', 'prometheus_client', 'cel_expr_python'}\n"
        "    assert not heavy & sys.modules.keys()\n",
        encoding="utf-8",
    )
    out = run_pytest(tmp_path)
    assert "1 passed" in out, out


def test_the_plugin_is_what_the_package_registers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"millstream": "millstream.testing.plugin"}
