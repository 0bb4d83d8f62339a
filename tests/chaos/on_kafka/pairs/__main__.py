"""``python -m tests.chaos.on_kafka.pairs --pairs 10000``: runs wait for answers while their workers are killed.

One broker, eight lanes, three workers. Prints a line a kill and the totals. Exit code 1 after any violation; then
the directory with the broker's data and every process's log stays, and its path is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.on_kafka.pairs.proof import Plan, run
from tests.kafka.broker import begin_run

SHOWN_MAX = 30


def main() -> int:
    """Read the flags, run, say what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.on_kafka.pairs", description=__doc__)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=100.0, help="pairs sent a second, at most")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    given = parser.parse_args()
    begin_run()
    directory = Path(tempfile.mkdtemp(prefix="millstream-pairs-"))
    print(f"seed {given.seed}, in {directory}", flush=True)
    begun = time.monotonic()
    plan = Plan(
        pairs=given.pairs,
        rate=given.rate,
        seed=given.seed,
        directory=directory,
        say=lambda line: print(line, flush=True),
    )
    total = asyncio.run(run(plan))
    print(f"{total}, {time.monotonic() - begun:.0f} s in all")
    if not total.wrong:
        shutil.rmtree(directory)
        return 0
    (directory / "violations.txt").write_text("\n".join(total.wrong) + "\n")
    for line in total.wrong[:SHOWN_MAX]:
        print(f"  {line}")
    print(f"everything is kept in {directory}; again: --pairs {given.pairs} --rate {given.rate} --seed {given.seed}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
