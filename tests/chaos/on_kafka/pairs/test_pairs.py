"""Is an answer ever missed, or taken twice, when workers are killed? A short form of ``make waits-kafka``."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.on_kafka.pairs.proof import Plan, run
from tests.kafka.broker import Broker
from tests.promises import BrokenPromise


async def test_every_run_ends_with_its_answer_while_workers_are_killed(kafka: Broker, tmp_path: Path) -> None:
    lines: list[str] = []
    plan = Plan(
        pairs=400,
        rate=80.0,
        pause_s=(0.2, 1.0),
        seed=3,
        script=("kill_worker", "kill_workers", "kill_worker"),
        broker=kafka,
        directory=tmp_path,
        say=lines.append,
    )
    total = await run(plan)
    if total.wrong:
        raise BrokenPromise("\n".join([*lines, *total.wrong[:20]]))
    assert len(total.judged.resolved_ms) == 400
    assert total.killed >= 3
