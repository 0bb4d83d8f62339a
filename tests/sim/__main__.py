"""``python -m tests.sim 0-999 [--jobs 2]``: simulate a range of seeds; one seed alone tells everything it does.

The last line says how many seeds ran, how fast, and which of them broke a promise; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import time
from collections import Counter

from tests.sim.world import simulate

SHOWN_MAX = 5


def main(words: list[str]) -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Simulate millstream in a hostile world.")
    parser.add_argument("seeds", help="a range such as 0-999, or one seed, which is told in full")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    told = parser.parse_args(words)
    first, _, last = told.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    logging.disable(logging.CRITICAL)  # What workers log in a storm is what they should.
    if len(seeds) == 1:
        return _one(seeds[0])
    begun = time.monotonic()
    facts: Counter[str] = Counter()
    failed: list[int] = []
    with multiprocessing.Pool(told.jobs) as pool:
        for seed, report, counts in pool.imap_unordered(run_seed, seeds, chunksize=8):
            facts += counts
            if report:
                failed.append(seed)
                if len(failed) <= SHOWN_MAX:
                    print(report, flush=True)
    took_s = time.monotonic() - begun
    print(f"facts: {dict(facts.most_common())}")
    print(f"{len(seeds)} seeds, {len(seeds) / took_s:.1f} a second, {len(failed)} failed: {sorted(failed)}")
    return 1 if failed else 0


def run_seed(seed: int) -> tuple[int, str, Counter[str]]:
    """One seed: what is to be said about it (nothing, when all is well), and how many facts of each kind it had."""
    try:
        world = simulate(seed)
    except Exception as error:
        return seed, f"seed {seed}: the simulation itself failed: {type(error).__name__}: {error}", Counter()
    return seed, world.report() if world.violations else "", world.observer.counts


def _one(seed: int) -> int:
    world = simulate(seed, verbose=True)
    if world.violations:
        print(world.report(lines=0))
        return 1
    print(f"seed {seed}: every promise was kept")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
