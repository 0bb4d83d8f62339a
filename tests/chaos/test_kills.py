"""Does kill -9 lose anything? A short form of ``make chaos``."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.chaos import Plan, run
from tests.promises import BrokenPromise


async def test_nothing_is_lost_or_done_twice_when_the_server_is_killed_five_times(tmp_path: Path) -> None:
    lines: list[str] = []
    plan = Plan(
        kills=5,
        kills_per_world=3,
        between_s=(0.1, 1.0),
        seed=1,
        rate=60.0,
        drain_s=120.0,
        directory=tmp_path,
        say=lines.append,
    )
    total = await run(plan)
    if total.wrong:
        raise BrokenPromise("\n".join([*lines, *total.wrong[:20]]))
    assert total.kills == 5
    assert total.runs > 0
