"""Previous owners: workers that released this lane and still run hand-outs of it (lanes.md rule 25).

The last record of a lane that is released in good order names the hand-outs still out: rows of ``holders``. The
take-over does not lose them. Their holder reports them through the inbox, and sends StillRunning there every few
seconds. Once it says that it runs nothing more, or is silent for ``silence_ms``, its unreported hand-outs are lost in
the usual way. A silence is judged by what the lane has read: a lane that long appends keep from reading first reads
what the inbox held when the silence was noticed.

The time of a holder's last message is known to this process only: a new owner gives each holder the full time again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

from millstream.core.tables import Tables
from millstream.lane.input.sources import Item
from millstream.model.commands import Command, LoseDispatch, StillRunning
from millstream.telemetry import say

LOG: Final = logging.getLogger("millstream.lane")
HOLDERS_MAX: Final = 10_000


class PreviousOwners:
    """The holders of one lane, and the hand-outs they run. ``submit`` queues the loss of a hand-out.

    ``inbox_end`` asks for the end offset of the lane's inbox; ``inbox_read`` is the offset up to which it is queued.
    """

    def __init__(
        self,
        durable: Tables,
        submit: Callable[[Command], None],
        silence_ms: int,
        inbox_end: Callable[[], Awaitable[int]],
        inbox_read: Callable[[], int],
    ) -> None:
        self._durable = durable
        self._submit = submit
        self._silence_s = silence_ms / 1000
        self._inbox_end = inbox_end
        self._inbox_read = inbox_read
        self._time = asyncio.get_running_loop().time
        self._last_alive_s: dict[str, float] = {}
        self._inbox_end_at_silence: dict[str, int] = {}  # holder → the end of the inbox when its silence was noticed
        self._holders: dict[tuple[str, str, int], str] = {}

    def load(self) -> None:
        """Read the holders' rows: the tables are new, or records of another owner were folded."""
        rows = dict(self._durable.holders.scan(limit=HOLDERS_MAX))
        self._inbox_end_at_silence.clear()
        now_s = self._time()
        self._last_alive_s = {holder: self._last_alive_s.get(holder, now_s) for holder in rows}
        self._holders = {(h.run, h.step, h.dispatch): holder for holder, row in rows.items() for h in row.out}

    def runs(self, run: str, step: str, dispatch: int) -> bool:
        """Whether a previous owner runs this hand-out, as far as is known."""
        return (run, step, dispatch) in self._holders

    def on_still_running(self, message: StillRunning) -> None:
        """A holder says how many hand-outs it still runs. Called as the message is queued, after its reports."""
        if message.holder not in self._last_alive_s:
            return  # It is dead by an earlier decision; its reports count as late reports do.
        self._inbox_end_at_silence.pop(message.holder, None)
        if message.left:
            self._last_alive_s[message.holder] = self._time()
        else:
            self._lose_holder(message.holder)

    def without_lost_dispatches(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items without LoseDispatch for holders' hand-outs: for a lane that is being released.

        The lane reads no more of its inbox, where the reports of those hand-outs stand before the final StillRunning.
        The next owner reads both again; a hand-out lost without its report would run its step twice.
        """
        rows = self._durable.holders.scan(limit=HOLDERS_MAX)
        theirs = {(out.run, out.step, out.dispatch) for _, row in rows for out in row.out}
        for item in items:
            if not isinstance(item, LoseDispatch) or (item.run, item.step, item.dispatch) not in theirs:
                yield item

    def close(self) -> None:
        """Stop declaring holders dead: their reports may stand in the inbox, which is no longer read here."""
        self._last_alive_s.clear()
        self._inbox_end_at_silence.clear()

    async def tend(self) -> None:
        """Lose the hand-outs of holders that were silent for too long. Raises LogUnavailable."""
        for holder in tuple(self._last_alive_s):
            if self._is_silent(holder) and holder not in self._inbox_end_at_silence:
                self._inbox_end_at_silence[holder] = await self._inbox_end()
        for holder, upto in tuple(self._inbox_end_at_silence.items()):
            if self._inbox_read() >= upto and self._is_silent(holder):
                lane = self._durable.place.lane
                say(LOG, "former owner silent", level=logging.WARNING, lane=lane, holder=holder)
                del self._inbox_end_at_silence[holder]
                self._lose_holder(holder)
                self._submit(StillRunning(holder, 0))

    def _is_silent(self, holder: str) -> bool:
        last_alive_s = self._last_alive_s.get(holder)
        return last_alive_s is not None and self._time() - last_alive_s >= self._silence_s

    def _lose_holder(self, holder: str) -> None:
        """Lose all its hand-outs; for those already reported that changes nothing."""
        del self._last_alive_s[holder]
        for (run, step, dispatch), by in tuple(self._holders.items()):
            if by == holder:
                del self._holders[run, step, dispatch]
                self._submit(LoseDispatch(run, step, dispatch))
