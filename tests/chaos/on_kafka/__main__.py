"""``python -m tests.chaos.on_kafka --minutes 20``: three brokers and a fleet under fire, then compare.

Prints a line for each thing done and the totals. Exit code 1 after any violation; then the directory with the brokers'
data, the ledgers and every process's log stays, and its path is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.on_kafka.chaos import Plan, run
from tests.kafka.broker import begin_run

SHOWN_MAX = 30


def main() -> int:
    """Read the flags, run, say what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.on_kafka", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--volume", type=int, default=1_000_000, help="events straight to the topic, at most")
    parser.add_argument("--volume-rate", type=float, default=1_500.0, help="of them a second, at most")
    parser.add_argument("--rate", type=float, default=40.0, help="events posted a second")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=3)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    given = parser.parse_args()
    begin_run()
    directory = Path(tempfile.mkdtemp(prefix="millstream-chaos-"))
    plan = Plan(
        seconds=given.minutes * 60,
        brokers=given.brokers,
        volume=given.volume,
        volume_rate=given.volume_rate,
        rate=given.rate,
        seed=given.seed,
        directory=directory,
        say=lambda line: print(line, flush=True),
    )
    print(f"seed {given.seed}, in {directory}", flush=True)
    total = asyncio.run(run(plan))
    print(total)
    if not total.wrong:
        shutil.rmtree(directory)
        return 0
    (directory / "violations.txt").write_text("\n".join(total.wrong) + "\n")
    for line in total.wrong[:SHOWN_MAX]:
        print(f"  {line}")
    print(f"everything is kept in {directory}; again: --seed {given.seed}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
