"""``python -m bench``: every script in a short form, then a table. ``make bench`` is this.

    python -m bench [--only runs latency] [--full]

``--full`` runs them with their own defaults: an hour, a million timers, ten minutes of load. Figures of a short form
are for seeing that nothing broke; those to be published come from ``--full`` on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from bench.rig.figures import ROOT

SHORT = {
    "runs": ["--runs", "30000", "--rounds", "1"],
    "runs_http": ["--runs", "20000", "--rounds", "1"],
    "endpoint": ["--runs", "3000", "--alone", "50", "--rounds", "1"],
    "runs_kafka": ["--runs", "30000", "--rounds", "1", "--copies", "1"],
    "latency": ["--runs", "100"],
    "intake": ["--seconds", "4"],
    "timers": ["--n", "30000", "--wakes", "20000"],
    "restart": ["--runs", "20000", "--times", "1"],
    "matching": ["--n", "30000", "--events", "5000", "--unmatched", "1000"],
    "waits": ["--runs", "5000", "--waiting", "10000"],
    "invoking": ["--runs", "100", "--many", "2000"],
    "lanes": ["--runs", "15000"],
    "executors": ["--runs", "5000", "--computing", "100"],
    "skipping": ["--events", "150000"],
    "producer": ["--events", "100000", "--rounds", "1"],
    "kafka_checkpoint": ["--runs", "10000"],
    "kafka_idle": ["--runs", "100"],
    "kafka_restore": ["--runs", "10000", "--times", "1"],
    "kafka_takeover": ["--runs", "5000", "--times", "1"],
    "steady": ["--minutes", "2"],
    "history": ["--runs", "20000", "--rounds", "1"],
}
COLUMNS = ("value", "unit", "p50_ms", "p99_ms", "c", "durability", "cpu_s_per_1000_runs", "others_cores")


def main() -> int:
    """Run them one after another; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SHORT, default=list(SHORT))
    parser.add_argument("--full", action="store_true")
    given = parser.parse_args()
    lines: list[dict[str, Any]] = []
    failed = []
    for name in given.only:
        print(f"# {name}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", f"bench.{name}", *([] if given.full else SHORT[name])]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(json.loads(line))
        if process.returncode:
            failed.append(name)
    _table(lines)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _table(lines: list[dict[str, Any]]) -> None:
    rows = [["what", *COLUMNS], *([str(line.get(key, "")) for key in ("what", *COLUMNS)] for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS) + 1)]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
