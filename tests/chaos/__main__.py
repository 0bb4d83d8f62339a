"""``python -m tests.chaos --kills 50``: kill a loaded server, again and again, and compare ledgers.

Prints a line a kill and the totals. Exit code 1 after any violation; then the directory with the data, the ledger,
the server's log and the violations stays, and its path is printed. The seed decides the posts, the instants and what
is deleted; what the machine does in between it cannot decide.
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

from tests.chaos.chaos import Plan, run

SHOWN_MAX = 20


def main() -> int:
    """Read the flags, run, say what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--kills-per-world", type=int, default=10, help="kills of one data directory")
    parser.add_argument("--seconds-between", default="0.1-2.5", help="how long a serving server lives: a-b")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--rate", type=float, default=120.0, help="events posted a second")
    given = parser.parse_args()
    low, _, high = given.seconds_between.partition("-")
    directory = Path(tempfile.mkdtemp(prefix="millstream-chaos-"))
    plan = Plan(
        kills=given.kills,
        kills_per_world=given.kills_per_world,
        between_s=(float(low), float(high or low)),
        seed=given.seed,
        rate=given.rate,
        directory=directory,
        say=lambda line: print(line, flush=True),
    )
    print(f"seed {given.seed}", flush=True)
    begun = time.monotonic()
    total = asyncio.run(run(plan))
    print(f"{total}, {time.monotonic() - begun:.0f} s")
    if not total.wrong:
        shutil.rmtree(directory)
        return 0
    (directory / "violations.txt").write_text("\n".join(total.wrong) + "\n")
    for line in total.wrong[:SHOWN_MAX]:
        print(f"  {line}")
    again = f"python -m tests.chaos --kills {given.kills} --kills-per-world {given.kills_per_world}"
    print(f"everything is kept in {directory}; again: {again} --seconds-between {low}-{high} --seed {given.seed}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
