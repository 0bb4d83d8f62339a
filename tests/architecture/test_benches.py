"""Every bench can be loaded: they are run by hand, so that nothing else would tell when a name of theirs has gone."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from bench.__main__ import SHORT
from tests.architecture.code import PACKAGE

BENCHES = PACKAGE.parent.parent / "bench"


@pytest.mark.parametrize("name", sorted(SHORT))
def test_a_bench_loads_and_says_what_it_claims(name: str) -> None:
    assert (importlib.import_module(f"bench.{name}").__doc__ or "").count("\n") > 2


def test_every_bench_is_run_by_make_bench() -> None:
    assert {path.stem for path in Path(BENCHES).glob("[!_]*.py")} == set(SHORT)
