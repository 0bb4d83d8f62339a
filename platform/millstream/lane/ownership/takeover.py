"""The work that a lane owes at its take-over: messages, records, and hand-outs that no executor has (lanes.md rule 27).

First of all the runs end whose time is over: nothing of them is handed out once more (``core/runs/bounds.py``).
The oldest runs come first, a page a turn of the loop, and each page waits until the lane can accept work: a million
runs that were out when their worker died come back as fast as this worker can take them, while other lanes go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from millstream.core.owed import PAGE_ROWS, owed_by_run, owed_messages
from millstream.core.tables import Tables
from millstream.execute.port import Executor
from millstream.lane.ownership.previous_owners import PreviousOwners
from millstream.model.commands import Command, LoseDispatch
from millstream.model.effects import Effect

RUNS_PER_TURN_MAX = PAGE_ROWS


class OwedWork:
    """Releases what the durable tables say is owed; see the module."""

    def __init__(
        self,
        durable: Tables,
        executor: Executor,
        previous_owners: PreviousOwners,
        submit: Callable[[Command], None],
        wait_to_accept_work: Callable[[], Awaitable[None]],
    ) -> None:
        self._durable = durable
        self._executor = executor
        self._previous_owners = previous_owners
        self._submit = submit
        self._wait_to_accept_work = wait_to_accept_work
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether all owed work is released, or none was started."""
        return self._task is None or self._task.done()

    def start(
        self,
        tasks: asyncio.TaskGroup,
        release: Callable[[Effect], None],
        runs_per_turn: int,
        end_overdue: Callable[[], Awaitable[None]],
    ) -> None:
        """Release the owed work, anew where that was under way: records of another owner were folded meanwhile.

        ``end_overdue`` queues the end of each run whose time is over.
        """
        self.close()
        self._previous_owners.load()
        self._task = tasks.create_task(self._release_all(release, min(runs_per_turn, RUNS_PER_TURN_MAX), end_overdue))

    def close(self) -> None:
        """Stop; the rest is still owed by the state."""
        if self._task is not None:
            self._task.cancel()

    def _abandon_what_is_over(self) -> None:
        """Stop what this process still runs of runs that are over: the effect that said so may have been lost.

        An executor outlives a take-over where the same process fences its lane again.
        """
        for run in {out.run for out in self._executor.dispatches()}:
            if self._durable.runs.get(run) is None:
                self._executor.abandon(run)

    async def _release_all(
        self, release: Callable[[Effect], None], runs_per_turn: int, end_overdue: Callable[[], Awaitable[None]]
    ) -> None:
        await end_overdue()
        self._abandon_what_is_over()
        for n, message in enumerate(owed_messages(self._durable)):
            release(message)
            if n % PAGE_ROWS == PAGE_ROWS - 1:
                await asyncio.sleep(0)
        start: str | None = None
        while page := self._durable.runs.scan(start, limit=runs_per_turn):
            for _, run in page:
                for effect in owed_by_run(self._durable, run):
                    out = effect.run, effect.step, effect.dispatch
                    if not self._executor.holds(*out) and not self._previous_owners.runs(*out):
                        self._submit(LoseDispatch(*out))
            start = page[-1][0] + "\x00"
            await self._wait_to_accept_work()
            await asyncio.sleep(0)
