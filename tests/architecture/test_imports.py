"""What does an import really load? The tables of `test_layers.py` read the code; this runs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.architecture.code import PACKAGE, SOURCE

HEAVY = ("confluent_kafka", "rocksdict")


@pytest.mark.parametrize("name", ["millstream", "millstream.sdk", "millstream.core"])
def test_writing_functions_loads_neither_kafka_nor_rocksdb(name: str) -> None:
    folder = PACKAGE.joinpath(*name.split(".")[1:])
    assert (folder / "__init__.py").exists(), f"{name} must be a package"
    code = f"import sys, {name}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    ran = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "", f"`import {name}` loads {ran.stdout.strip()}: move that import into the shell"
