"""Real brokers on this machine for a bench: started before, stopped after, their processes known for their CPU time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.rig.figures import ROOT


@contextmanager
def brokers(named: str, directory: Path, *, nodes: int = 1) -> Iterator[tuple[str, list[int]]]:
    """(bootstrap servers, process ids): those that are named (no ids), or ``nodes`` started in ``directory``."""
    if named:
        yield named, []
        return
    _broker("start", directory, str(nodes), "--load", "--with", str(os.getpid()))
    try:
        pids = [int((directory / f"node{n}.pid").read_text()) for n in range(1, nodes + 1)]
        yield _broker("bootstrap", directory), pids
    finally:
        _broker("stop", directory)


def _broker(command: str, directory: Path, *more: Any) -> str:
    script = ROOT / "deploy" / "kafka" / "broker"
    ran = subprocess.run(
        [sys.executable, str(script), command, str(directory), *more],
        env={**os.environ, "PORT": "free"},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        sys.exit(ran.stderr.strip())
    return ran.stdout.strip()
