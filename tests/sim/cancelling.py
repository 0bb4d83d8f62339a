"""An operator who cancels many runs at once, and now and then stops doing so; and what may come of it.

The model knows which runs are meant the moment a lane records a cancellation: those, and no others, end by it, and none
of them is open once the lane says that it has looked at all.
"""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import TYPE_CHECKING, Any

from millstream.errors import LogUnavailable
from millstream.log.port import Produced
from millstream.model import facts as f
from millstream.model.messages import InboxRecord, group_topic
from millstream.model.run_requests import CancelRuns, StopCancelling
from millstream.wire.messages import encode_inbox

if TYPE_CHECKING:
    from tests.sim.observer import Lane
    from tests.sim.world import World

REASON = "cancellation "
LARGE = 3


class Cancelling:
    """One operator; a third of the worlds has one."""

    def __init__(self, world: World, rng: Random) -> None:
        self._world = world
        self._rng = rng
        self._is_there = rng.random() < 0.35
        self.asked: dict[str, CancelRuns] = {}
        """Cancellations that are surely in an inbox, by id."""
        self.stopped: set[str] = set()
        """Those for which somebody has tried to send a stop."""
        self.meant: dict[tuple[str, int], set[str]] = {}
        """The runs of a cancellation, by its id and the lane."""
        self._ended: set[str] = set()
        self._began_ms: dict[tuple[str, int], int] = {}
        self.over: set[tuple[str, int]] = set()

    async def run(self, length_s: float) -> None:
        """Cancel for so long."""
        rng, world = self._rng, self._world
        ends_s = world.loop.now_s + length_s
        while self._is_there and world.loop.now_s < ends_s:
            await asyncio.sleep(rng.expovariate(5 / length_s))
            await self._ask()
            if rng.random() < 0.15 and self.asked:
                await asyncio.sleep(rng.choice((0.0, 0.01, 0.5)))
                await self._stop(rng.choice(sorted(self.asked)))

    async def _ask(self) -> None:
        rng, world = self._rng, self._world
        id, now_ms = world.clients.new_id(), world.true_ms()
        expression = rng.choice(("", "", f"event.data.n > {LARGE}"))
        from_ms = rng.choice((0, 0, now_ms - 3_000))
        slug = rng.choice(sorted(world.planned))
        message = CancelRuns(id, slug, from_ms, now_ms, expression, "the operator said so", id, 0)
        if await self._sent(message):
            self.asked[id] = message

    async def _stop(self, id: str) -> None:
        self.stopped.add(id)
        await self._sent(StopCancelling(id, self._world.clients.new_id(), 0))

    async def _sent(self, message: CancelRuns | StopCancelling) -> bool:
        """Whether it is surely in an inbox, whichever lane's; now and then twice."""
        world, sent = self._world, False
        lane = self._rng.randrange(world.lanes)
        for _ in range(2 if self._rng.random() < 0.3 else 1):
            writer = world.cluster.client("api").writer(group_topic("sim", "inbox"), lane)
            try:
                await writer.append([Produced(encode_inbox(InboxRecord(-1, 0, message)))])
                sent = True
            except LogUnavailable:
                pass
            await writer.close()
        world.trace("operator: %s to lane %d, answered %s", message, lane, sent)
        return sent

    # --- what the journals say ----------------------------------------------------------------

    def started(self, lane: Lane, fact: f.CancellationStarted) -> None:
        """Which runs are meant, as the lane's rows are before this fact is folded."""
        key = (fact.cancellation, lane.place.lane)
        if key in self.meant:
            self._world.violate("a cancellation begins once on each lane", f"{fact}")
        self.meant[key] = set()
        self._began_ms[key] = lane.at_ms

    def find_meant(self, lane: Lane, fact: f.CancellationStarted) -> None:
        """The runs that are open when the record with its beginning is folded."""
        self.meant[fact.cancellation, lane.place.lane] = {
            id
            for id, run in lane.tables.runs.scan(limit=10_000)
            if run.function == fact.function
            and fact.from_ms <= run.queued_at_ms < fact.before_ms
            and (not fact.expression or self._is_large(lane, run.events))
        }

    def _is_large(self, lane: Lane, events: tuple[str, ...]) -> bool:
        held = lane.tables.events.get(events[0])
        n: Any = json.loads(held.event.data).get("n") if held is not None else None
        return isinstance(n, int) and n > LARGE

    def cancelled(self, lane: Lane, fact: f.RunCancelled) -> None:
        """A run ends; one that a cancellation ends is meant by it."""
        if fact.reason.startswith(REASON):
            id = fact.reason.removeprefix(REASON).partition(":")[0]
            key, row = (id, lane.place.lane), lane.tables.runs.get(fact.run)
            at_once = row is not None and row.queued_at_ms == self._began_ms.get(key)  # Before it, or behind it.
            if fact.run not in self.meant.get(key, ()) and not at_once:
                self._world.violate("a cancellation touches no run outside of its range", f"{fact}")
            self._ended.add(fact.run)

    def is_over(self, lane: Lane, fact: f.CancellationEnded) -> None:
        """The lane has looked at all; ``lane`` has the rows behind the record."""
        key = (fact.cancellation, lane.place.lane)
        self.over.add(key)
        if fact.is_stopped:
            if fact.cancellation not in self.stopped:
                self._world.violate("a cancellation is stopped by somebody", f"{fact}")
            return
        left = [run for run in self.meant.get(key, ()) if lane.tables.runs.get(run) is not None]
        if left:
            self._world.violate("a cancellation ends every run of its range", f"{fact}, open are {left}")

    def check(self) -> None:
        """In the end every lane has recorded each that was asked for, and looked at all its runs."""
        for id in self.asked:
            for lane in range(self._world.lanes):
                if (id, lane) not in self.over:
                    what = "looked at all its runs" if (id, lane) in self.meant else "recorded it"
                    self._world.violate("a cancellation reaches its end", f"{id}: lane {lane} has not {what}")
        for watched in self._world.observer.lanes:
            for key, row in watched.tables.cancellations.scan(limit=1):
                self._world.violate("a cancellation reaches its end", f"{key}: {row}")

    def has_ended(self, run: str) -> bool:
        """Whether a cancellation that meant the run has ended it."""
        return run in self._ended
