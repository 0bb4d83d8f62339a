"""A draining lane: its worker has released it and reports the hand-outs it still runs to the lane's inbox (lanes.md
rule 25).

    lane ──LaneReleased(out)──> released      executor ──Report, ParkDispatch──┐
                                                 (every few seconds) StillRunning ─┴─> <group>.inbox[lane] ─> new owner

One writer sends in order, so all reports are in the inbox before the final StillRunning that says nothing is left. Each
message is sent until it is there; the dispatch number identifies repetitions. The next heartbeat notices a hand-out
that the executor has lost without a report, and reports it lost: the others may run for hours. If the process dies, its
messages stop and the new owner hands out again. Where it is unknown whether LaneReleased counts, everything is given
back at once; a new owner that has read that record then need not wait for a silence.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import Final

from millstream.errors import Busy, LogUnavailable
from millstream.execute.port import Executor
from millstream.lane.ownership.ends_elsewhere import EndsElsewhere
from millstream.lane.port import Surroundings
from millstream.log.port import Log, Produced, Writer
from millstream.model.commands import Command, HandOut, LoseDispatch, ParkDispatch, Report, StillRunning
from millstream.model.messages import InboxRecord, Message, group_topic
from millstream.model.place import Place
from millstream.telemetry import say
from millstream.wire.messages import encode_inbox

LOG: Final = logging.getLogger("millstream.lane")
RETRY_S: Final = 0.2
SENT_AT_ONCE_MAX: Final = 500
FROM_WORKER: Final = -1


@dataclass(frozen=True, slots=True)
class Released:
    """How a lane was released: the name its former worker reports under (``holder``), and the hand-outs still out.

    ``at`` is where that lies in the journal: behind it is what the next owners record.
    """

    holder: str
    out: tuple[HandOut, ...]
    at: int


class DrainingLane:
    """The executor of a released lane, until all its hand-outs are reported. ``submit`` takes the reports."""

    def __init__(
        self, log: Log, place: Place, released: Released, executor: Executor, surroundings: Surroundings
    ) -> None:
        self.place = place
        self._log = log
        self._released = released
        self._executor = executor
        self._surroundings = surroundings
        self._topic = group_topic(place.group, "inbox")
        self._writer: Writer | None = None
        self._waiting: deque[Message] = deque()
        self._unreported = set(released.out)
        self._wake = asyncio.Event()
        self._giving_back = False
        self._ends = EndsElsewhere(log, place, released.at, self._executed, self._on_end)

    def submit(self, command: Command) -> None:
        """Queue a report of the executor."""
        if isinstance(command, Report | ParkDispatch | LoseDispatch):
            self._unreported.discard(HandOut(command.run, command.step, command.dispatch))
            self._waiting.append(command)
            self._wake.set()

    def give_back(self) -> None:
        """Stop the running hand-outs, and give them back."""
        self._giving_back = True
        self._wake.set()

    async def run(self, heartbeat_ms: int) -> None:
        """Return once every hand-out is reported or given back, and the inbox says so."""
        lane, holder = self.place.lane, self._released.holder
        say(LOG, "lane let go", lane=lane, holder=holder, running=len(self._released.out))
        following = asyncio.create_task(self._ends.follow(self._surroundings), name=f"ends of former lane {lane}")
        try:
            while self._executor.executing and not self._giving_back:
                self._wake.clear()  # Before the sends: what happens while they wait for the log must be seen.
                await self._send()
                alarm = self._surroundings.call_later(heartbeat_ms / 1000, self._heartbeat)
                await self._wake.wait()
                alarm.cancel()
            await self._executor.close(0)
            self._waiting.append(StillRunning(holder, 0))
            await self._send()
            say(LOG, "former lane reported", lane=lane, holder=holder)
        finally:
            following.cancel()
            await self._executor.close(0)
            await asyncio.gather(following, return_exceptions=True)
            if self._writer is not None:
                await self._writer.close()

    def _executed(self) -> set[str]:
        return {out.run for out in self._unreported}

    def _on_end(self, run: str) -> None:
        """The run is over: stop what executes for it. Should that not count, its lost hand-outs go out again."""
        say(LOG, "run ended elsewhere", lane=self.place.lane, run=run)
        self._executor.abandon(run)
        for out in [out for out in self._unreported if out.run == run]:
            self.submit(LoseDispatch(out.run, out.step, out.dispatch))

    def _heartbeat(self) -> None:
        self._report_lost()
        left = self._executor.executing
        if left:
            self._waiting.append(StillRunning(self._released.holder, left))
        self._wake.set()

    def _report_lost(self) -> None:
        """Report hand-outs lost that are neither reported nor under way here: the new owner trusts that we run them."""
        for out in tuple(self._unreported):
            if not self._executor.holds(out.run, out.step, out.dispatch):
                say(LOG, "hand-out lost", level=logging.WARNING, lane=self.place.lane, run=out.run, step=out.step)
                self.submit(LoseDispatch(out.run, out.step, out.dispatch))

    async def _send(self) -> None:
        while self._waiting:
            some = [self._waiting[n] for n in range(min(len(self._waiting), SENT_AT_ONCE_MAX))]
            records = [Produced(encode_inbox(InboxRecord(FROM_WORKER, 0, message))) for message in some]
            if self._writer is None:
                self._writer = self._log.writer(self._topic, self.place.lane)
            try:
                await self._writer.append(records)
            except (LogUnavailable, Busy) as error:
                say(LOG, "report not sent yet", level=logging.WARNING, lane=self.place.lane, why=str(error))
                broken, self._writer = self._writer, None
                await broken.close()
                await self._surroundings.sleep(RETRY_S)
                continue
            for _ in some:
                self._waiting.popleft()
