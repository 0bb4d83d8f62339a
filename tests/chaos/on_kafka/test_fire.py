"""Does a fleet on three brokers lose anything or do it twice? A short form of ``make chaos-kafka``."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.on_kafka.chaos import Plan, run
from tests.promises import BrokenPromise


async def test_nothing_is_lost_or_done_twice_when_workers_and_a_broker_are_hurt(tmp_path: Path) -> None:
    lines: list[str] = []
    plan = Plan(
        seconds=900,
        volume=20_000,
        volume_rate=200,
        rate=20,
        pause_s=(0.5, 2.0),
        seed=1,
        script=("kill_worker", "zombie", "leave", "kill_broker"),
        directory=tmp_path,
        say=lines.append,
    )
    total = await run(plan)
    if total.wrong:
        raise BrokenPromise("\n".join([*lines, *total.wrong[:20]]))
    assert sum(total.acts.values()) == 4
    assert total.runs > 100
