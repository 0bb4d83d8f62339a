"""The tutorial as a reader follows it: files, scripts, a server, pytest, and a kill; on the real command line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.cli.program import PATIENCE_S, environment, millstream, serving
from tests.docs.blocks import ROOT, blocks_of

PAGE = ROOT / "docs" / "tutorial.md"


def files_of(page: Path) -> dict[str, str]:
    """Each file that the page makes, with all its pieces."""
    files: dict[str, str] = {}
    for block in blocks_of(page):
        assert block.module != "page", (
            f"{page.name}:{block.line}: a block without a file's name cannot be run by a reader"
        )
        files[f"{block.module}.py"] = files.get(f"{block.module}.py", "") + block.code
    return files


def test_every_block_runs_as_the_file_it_names(tmp_path: Path) -> None:
    files = files_of(PAGE)
    scripts = sorted(name for name in files if not name.startswith(("shop", "test_")))
    assert {"shop.py", "test_shop.py", "place_order.py"} <= set(files)
    with serving(tmp_path, files=files) as served:
        for script in scripts:
            environ = environment(MILLSTREAM_URL=served.url)
            ran = subprocess.run(
                [sys.executable, script], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
            )
            assert ran.returncode == 0, ran.stderr
        ends_s = time.monotonic() + PATIENCE_S
        while len(runs := served.call("runs", "list").rows) < 2 * len(scripts):  # Both functions, on each order.
            assert time.monotonic() < ends_s, runs
        served.process.kill()
    line = [sys.executable, "-m", "pytest", "-q", "--asyncio-mode=auto", "-p", "no:cacheprovider"]
    environ = environment() | {"PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(tmp_path)])}
    tested = subprocess.run(line, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert tested.returncode == 0 and "2 passed" in tested.stdout, tested.stdout + tested.stderr
    checked = millstream("check", "shop:app", cwd=tmp_path)
    assert checked.code == 0, checked.err


def test_the_tutorial_says_how_to_install_and_when_to_restart() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.index("pip install ../millstream") < text.index("```python"), "before the first code"
    assert "**Restart it**" in text
