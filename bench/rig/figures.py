"""What a bench prints: one JSON line a figure, and what the machine did meanwhile.

The line: what, value, unit, p50_ms, p99_ms, c (outstanding), n, cpu_s_per_1000_runs, load_average, others_cores,
cores, commit, durability, loop, and whatever else the script wants to state.

``others_cores`` is how many cores everything but the bench's own processes kept busy while it measured: above 0.2
on a machine of two cores, figures are not to be compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies; 0 without any."""
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))] if sorted_values else 0.0


def commit() -> str:
    """The commit that is measured, with a ``+`` where files differ from it."""
    line = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    found = subprocess.run(line, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def children_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident_mb(pid: int) -> float:
    """The resident size of a process in MB; 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / 1e6
    except OSError:
        return 0.0


def directory_mb(directory: Path) -> float:
    """What a directory's files take on the disk, in MB."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except OSError:
            continue  # Removed meanwhile.
    return total / 1e6


def _busy_s() -> float:
    fields = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS_PER_S  # Neither idle nor waiting for a disk.


@dataclass
class Stopwatch:
    """Wall time, the CPU of some processes, and that of the machine, from its making on.

    ``ours`` are the measured processes; ``generators`` make the load. Both are the bench's own.
    """

    ours: Sequence[int] = ()
    generators: Sequence[int] = ()
    begun: float = field(default_factory=time.perf_counter)
    _cpu: dict[int, float] = field(default_factory=dict)
    _busy: float = 0.0

    def __post_init__(self) -> None:
        self._cpu = {pid: cpu_s(pid) for pid in (*self.ours, *self.generators)}
        self._busy = _busy_s()

    def stop(self, started: Sequence[int] = ()) -> Lap:
        """What happened since. ``started`` are processes of ours that began meanwhile."""
        took = time.perf_counter() - self.begun
        used = {pid: cpu_s(pid) - at for pid, at in self._cpu.items()} | {pid: cpu_s(pid) for pid in started}
        others = max(_busy_s() - self._busy - sum(used.values()), 0.0) / took
        ours = [used[pid] for pid in (*self.ours, *started)]
        return Lap(took, ours, sum(used[pid] for pid in self.generators) / took, others)


@dataclass(frozen=True, slots=True)
class Lap:
    """A measured stretch: seconds, CPU-seconds of each of our processes, cores of generators and of others."""

    took_s: float
    cpu_s: Sequence[float]
    generator_cores: float
    others_cores: float


def emit(what: str, value: float, unit: str, lap: Lap, **stated: Any) -> None:
    """Print a figure's line. ``stated`` are p50_ms, p99_ms, c, n, runs, durability and the like; None is left out."""
    line: dict[str, Any] = {"what": what, "value": round(value, 2 if value < 100 else None), "unit": unit}
    runs = stated.pop("runs", 0)
    latencies = sorted(stated.pop("latencies_s", ()))
    if latencies:
        stated = {
            "p50_ms": round(percentile(latencies, 0.5) * 1e3, 2),
            "p99_ms": round(percentile(latencies, 0.99) * 1e3, 2),
        } | stated
    if runs:
        stated["cpu_s_per_1000_runs"] = round(sum(lap.cpu_s) / runs * 1e3, 3)
    if lap.generator_cores:
        stated["generator_cores"] = round(lap.generator_cores, 2)
    line |= {key: value for key, value in stated.items() if value is not None}
    line |= {
        "took_s": round(lap.took_s, 2),
        "others_cores": round(lap.others_cores, 2),
        "load_average": round(os.getloadavg()[0], 2),
        "cores": os.cpu_count(),
        "commit": commit(),
    }
    print(json.dumps(line), flush=True)
