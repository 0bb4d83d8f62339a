"""What former owners of a lane still run: the new owner waits for them while they live (lanes.md rule 25).

A lane that was let go in good order says in its last record what was still out: rows of ``holders``. Those hand-outs
are not lost at the take-over. Their holder reports them through the inbox, and says there every few seconds that it
lives; when it says that it runs nothing more, or is silent for ``silence_ms``, what it has not reported is lost in the
usual way. A silence counts from what the lane has read: one that is kept from reading, by appends that take long, reads
what lay in the inbox then before it takes anybody for dead.

When a holder was last heard is known to this process only: a new owner gives everybody the whole time again.
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


class Elsewhere:
    """Sees to the holders of one lane. ``submit`` queues what becomes of their hand-outs.

    ``inbox_end`` asks for the end of the lane's inbox; ``inbox_read`` says up to where it is read and queued.
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
        self._heard_s: dict[str, float] = {}
        self._silent_upto: dict[str, int] = {}  # holder → the end of the inbox when its silence was noticed
        self._covered: dict[tuple[str, str, int], str] = {}

    def load(self) -> None:
        """Look at the rows: the tables were folded by somebody else, or are new."""
        rows = dict(self._durable.holders.scan(limit=HOLDERS_MAX))
        self._silent_upto.clear()
        now_s = self._time()
        self._heard_s = {holder: self._heard_s.get(holder, now_s) for holder in rows}
        self._covered = {(h.run, h.step, h.dispatch): holder for holder, row in rows.items() for h in row.out}

    def runs(self, run: str, step: str, dispatch: int) -> bool:
        """Whether a former owner runs this hand-out, as far as is known."""
        return (run, step, dispatch) in self._covered

    def heard(self, message: StillRunning) -> None:
        """A holder has spoken. Called when the message is queued; what it reported before is queued already."""
        if message.holder not in self._heard_s:
            return  # It was taken for dead before. What it still reports counts as any late report does.
        self._silent_upto.pop(message.holder, None)
        if message.left:
            self._heard_s[message.holder] = self._time()
        else:
            self._lose(message.holder)

    def takes_back(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items without what has become of former owners' hand-outs: for a lane that is let go.

        It takes in nothing more of its inbox, where the reports of those hand-outs stand, before the word that nothing
        is left: the next owner reads both again, and losing a hand-out without its report would run its step twice.
        """
        rows = self._durable.holders.scan(limit=HOLDERS_MAX)
        theirs = {(out.run, out.step, out.dispatch) for _, row in rows for out in row.out}
        for item in items:
            if not isinstance(item, LoseDispatch) or (item.run, item.step, item.dispatch) not in theirs:
                yield item

    def close(self) -> None:
        """Take nobody's end for known any more: what they reported may stand in the inbox, and is not read here."""
        self._heard_s.clear()
        self._silent_upto.clear()

    async def tend(self) -> None:
        """Take a long silence for the end of a holder. Raises LogUnavailable."""
        for holder in tuple(self._heard_s):
            if self._is_silent(holder) and holder not in self._silent_upto:
                self._silent_upto[holder] = await self._inbox_end()
        for holder, upto in tuple(self._silent_upto.items()):
            if self._inbox_read() >= upto and self._is_silent(holder):
                lane = self._durable.place.lane
                say(LOG, "former owner silent", level=logging.WARNING, lane=lane, holder=holder)
                del self._silent_upto[holder]
                self._lose(holder)
                self._submit(StillRunning(holder, 0))

    def _is_silent(self, holder: str) -> bool:
        heard_s = self._heard_s.get(holder)
        return heard_s is not None and self._time() - heard_s >= self._silence_s

    def _lose(self, holder: str) -> None:
        """What it has reported is no longer out, and losing that changes nothing."""
        del self._heard_s[holder]
        for (run, step, dispatch), by in tuple(self._covered.items()):
            if by == holder:
                del self._covered[run, step, dispatch]
                self._submit(LoseDispatch(run, step, dispatch))
