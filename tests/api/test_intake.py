"""What becomes of posts when the log refuses, does not tell, or is slow."""

from __future__ import annotations

import asyncio
from pathlib import Path

from millstream.log.memory.faults import ACKNOWLEDGED, REFUSED, UNKNOWN_WRITTEN, Fate, Verdict
from millstream.log.memory.log import MemoryCluster
from tests.api.door import open_world

POST = [{"name": "a", "id": "mine"}]


class Scripted:
    """Faults for the events topic: the verdicts in order, then none; counts the appends."""

    def __init__(self, *verdicts: Verdict) -> None:
        self.verdicts = list(verdicts)
        self.appends = 0

    def on_append(self, client: str, topic: str, partition: int) -> Verdict:
        """The next verdict."""
        if topic != "events":
            return ACKNOWLEDGED
        self.appends += 1
        return self.verdicts.pop(0) if self.verdicts else ACKNOWLEDGED

    def on_transaction(self, client: str, name: str) -> Verdict:
        """Nothing goes wrong here."""
        return ACKNOWLEDGED

    def survives_crash(self, client: str, topic: str, partition: int, records: int) -> int:
        """No client crashes here."""
        return 0


async def test_events_the_log_refuses_are_answered_503_and_the_next_post_is_taken(tmp_path: Path) -> None:
    log = MemoryCluster(faults=Scripted(REFUSED)).client("door")
    async with open_world(tmp_path, log) as world:
        status, answer, response = await world.call("POST", "/e/K", json=POST)
        assert (status, answer["ids"], response.headers["Retry-After"]) == (503, [""], "1")
        assert await world.stored() == []
        assert (await world.call("POST", "/e/K", json=POST))[0] == 200
        assert len(await world.stored()) == 1


async def test_an_unknown_outcome_is_no_acknowledgement_and_the_writer_is_replaced(tmp_path: Path) -> None:
    log = MemoryCluster(faults=Scripted(UNKNOWN_WRITTEN)).client("door")
    async with open_world(tmp_path, log) as world:
        assert (await world.call("POST", "/e/K", json=POST))[0] == 503
        assert (await world.call("POST", "/e/K", json=POST))[0] == 200
        # Stored twice with one sender's id: the lane starts nothing the second time.
        assert [event.id for event in await world.stored()] == ["mine", "mine"]


async def test_an_acknowledgement_without_an_offset_is_one(tmp_path: Path) -> None:
    log = MemoryCluster(faults=Scripted(Verdict(fate=Fate.WITHOUT_OFFSET))).client("door")
    async with open_world(tmp_path, log) as world:
        assert (await world.call("POST", "/e/K", json=POST))[0] == 200


async def test_posts_that_arrive_while_appends_are_under_way_share_the_next_one(tmp_path: Path) -> None:
    slow = Scripted(*[Verdict(written_after_s=0.2, answered_after_s=0.2)] * 2)
    log = MemoryCluster(faults=slow).client("door")
    async with open_world(tmp_path, log) as world:
        answers = await asyncio.gather(*(world.call("POST", "/e/K", json=[{"name": "a"}]) for _ in range(40)))
        assert {status for status, _, _ in answers} == {200}
        assert len({answer["ids"][0] for _, answer, _ in answers}) == 40
        assert len(await world.stored()) == 40
        assert slow.appends <= 10
