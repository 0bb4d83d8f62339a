"""A disk that loses what it said was safe: the journal ends before a record that a store or checkpoint includes.

The world is hostile as ever, then every process dies and the tail of one journal with it. Whoever takes that lane
must refuse; a lane that lives on has lost acknowledged records without a word.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from millstream.errors import AcknowledgedLost
from millstream.model.messages import group_topic
from millstream.state.keyspace import CHECKPOINT_TOPICS, MARKER_KEY
from millstream.state.marker import decode_marker
from tests.sim.machine import GROUP
from tests.sim.storms import Storms
from tests.sim.world import World

SEEDS = range(12)
PATIENCE_S = 120.0


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class LosingWorld(World):
    """After its storms every process dies, and one journal loses its tail."""

    lane = -1
    refused: AcknowledgedLost | None = None

    async def _course(self) -> None:
        for machine in self.machines:
            machine.start()
        await self._until_live()
        self.faults.calm = False
        await asyncio.gather(self.clients.run(self.hostile_s), self.foreign.run(self.hostile_s), Storms(self).run())
        await self._heal()
        await asyncio.sleep(10)  # Stores are flushed, checkpoints made.
        for machine in self.machines:
            if machine.up:
                machine.process.kill("the power is gone")
        if not self._lose():
            return
        for _ in range(int(PATIENCE_S)):
            await asyncio.sleep(1)
            if self.refused is not None or self.violations:
                return
            for machine in self.machines:
                if machine.up and machine.worker is not None and self.lane in machine.worker.lanes:
                    self.violate("a lost tail is refused", f"lane {self.lane} lives on {machine.name}")

    def _lose(self) -> bool:
        """Cut the journal of a lane at the record of its last checkpoint; whether there is one. A store may be older,
        and go on below the cut: the topics say what it cannot know."""
        for lane in range(self.lanes):
            journal = self.cluster.partitions[group_topic(GROUP, "journal"), lane]
            included = self._checkpointed(lane)
            if included is not None and included > journal.start:
                self.lane = lane
                self.trace("journal %d is cut from %d to %d", lane, journal.end, included)
                journal.lose_tail(included)
                return True
        return False

    def _checkpointed(self, lane: int) -> int | None:
        found = [
            record
            for which in CHECKPOINT_TOPICS
            for record in self.cluster.partitions[group_topic(GROUP, which), lane].read(
                self.cluster.partitions[group_topic(GROUP, which), lane].start, 1 << 30, 1 << 40
            )[0]
            if record.key == MARKER_KEY
        ]
        return max((decode_marker(record.value or b"").offset for record in found), default=None)

    def is_meant(self, error: Exception) -> bool:
        if isinstance(error, AcknowledgedLost) and self.lane >= 0 and f"lane {self.lane} " in str(error):
            self.refused = error
            return True
        return False


def test_a_lost_tail_is_refused_and_never_silent() -> None:
    refused = 0
    for seed in SEEDS:
        world = LosingWorld(seed)
        world.run()
        assert not world.violations, world.report()
        if world.lane >= 0:
            assert world.refused is not None, world.report()
            refused += 1
    assert refused >= len(SEEDS) // 3, "worlds in which nothing could be lost show nothing"
