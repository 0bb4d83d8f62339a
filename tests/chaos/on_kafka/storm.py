"""What is done to a fleet while it works, one thing after another: chance says what, and how long the pause is.

    kill     a worker, an api or the history by SIGKILL; sometimes its disk is lost too; sometimes all workers at once
    zombie   a worker is halted for longer than its session, and goes on
    leave    a worker is asked to go (SIGTERM) and must go in order; sometimes two, so that one is left
    broker   a broker is killed or halted, and comes back

At most one broker is hurt at a time, since two of three would rightly stop everything; and never all workers for long.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from millstream.cli.support.exits import UNREACHABLE
from tests.chaos.halts import Halts
from tests.chaos.on_kafka.fleet import SESSION_S, Fleet, Member

REVIVE_TRIES_MAX = 20
ALL: Final[Mapping[str, int]] = {
    "kill_worker": 30,
    "kill_workers": 4,
    "zombie": 18,
    "leave": 14,
    "scale": 6,
    "kill_broker": 14,
    "halt_broker": 6,
    "kill_api": 7,
    "kill_history": 5,
}
"""What may be done, and how often beside the others."""
KILLS: Final[Mapping[str, int]] = {"kill_worker": 9, "kill_workers": 1}
"""Nothing but kill -9 of workers."""


@dataclass
class Storm:
    """Hurts a fleet until ``stop``. ``did`` counts what was done; ``wrong`` is what must not happen meanwhile.

    ``script`` names what is done, in order, and then it is over; empty: whatever chance says, by ``weights``.
    """

    fleet: Fleet
    dice: random.Random
    pause_s: tuple[float, float]
    say: Callable[[str], None]
    script: tuple[str, ...] = ()
    weights: Mapping[str, int] = field(default_factory=lambda: ALL)
    did: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    halts: Halts = field(default_factory=Halts)
    _stopping: bool = False

    async def run(self) -> None:
        """Until ``stop``; then everything that was taken away is back."""
        begun = time.monotonic()
        left = list(self.script)
        while not self._stopping and (left or not self.script):
            await asyncio.sleep(self.dice.uniform(*self.pause_s))
            if self._stopping:
                break
            self.restore()
            name = left.pop(0) if left else self.dice.choices([*self.weights], [*self.weights.values()])[0]
            act: Callable[[], Awaitable[str]] = getattr(self, f"_{name}")
            at_s = time.monotonic() - begun
            told = await act()
            self.did[name] += 1
            self.say(f"  {at_s:7.1f} to {time.monotonic() - begun:7.1f} s {name:13} {told}")

    def stop(self) -> None:
        """Do nothing new."""
        self._stopping = True

    def restore(self) -> None:
        """Start again what has ended by itself, and say so."""
        for member in self.fleet.members:
            if member.process is not None and not member.up:
                if member.process.poll() != UNREACHABLE:  # Started while brokers were away: its supervisor's business.
                    self.wrong.append(f"{member.name} ended by itself with {member.process.poll()}: see {member.log}")
                member.start(self.fleet.environment)

    def _worker(self) -> Member:
        return self.dice.choice([worker for worker in self.fleet.workers if worker.up])

    async def _kill_worker(self) -> str:
        worker = self._worker()
        worker.kill()
        lost = self.dice.random() < 0.3
        if lost:
            self.fleet.forget_disk(worker)
        down_s = self.dice.choice((0.1, 2.0, SESSION_S + 3))
        await asyncio.sleep(down_s)
        worker.start(self.fleet.environment)
        return f"{worker.name}{', its disk is lost' if lost else ''}, down for {down_s:.1f} s"

    async def _kill_workers(self) -> str:
        dying = self.dice.choice((self.fleet.workers, self.fleet.workers[1:]))
        for worker in dying:
            worker.kill()
        await asyncio.sleep(self.dice.choice((0.1, 2.0)))
        for worker in dying:
            worker.start(self.fleet.environment)
        return " and ".join(worker.name for worker in dying)

    async def _zombie(self) -> str:
        worker = self._worker()
        assert worker.process is not None
        for_s = SESSION_S + self.dice.uniform(1.0, 8.0)
        await worker.halt(for_s)
        self.halts.note(worker.process.pid, [worker.halts[-1][1]])
        return f"{worker.name} halted for {for_s:.1f} s"

    async def _leave(self) -> str:
        worker = self._worker()
        return await self._gone_for(worker, self.dice.uniform(0.5, 6.0))

    async def _scale(self) -> str:
        leaving = self.dice.sample([w for w in self.fleet.workers if w.up], len(self.fleet.workers) - 1)
        told = await asyncio.gather(*(self._gone_for(worker, self.dice.uniform(5.0, 12.0)) for worker in leaving))
        return f"to one: {'; '.join(told)}"

    async def _gone_for(self, worker: Member, for_s: float) -> str:
        async with aiohttp.ClientSession() as session:
            await worker.ready(session, "/livez")  # Before that it is Python that is asked, which just ends.
        begun = time.monotonic()
        problem = await worker.leave()
        took_s = time.monotonic() - begun
        if problem:
            self.wrong.append(problem)
        await asyncio.sleep(for_s)
        worker.start(self.fleet.environment)
        return f"{worker.name} left in {took_s:.1f} s, back after {for_s:.1f} s"

    async def _kill_broker(self) -> str:
        node, for_s = self.dice.randint(1, 3), self.dice.uniform(1.0, 15.0)
        await asyncio.to_thread(self.fleet.broker.kill, node)
        await asyncio.sleep(for_s)
        await self._revive(node)
        await asyncio.sleep(5.0)  # It has to catch up before another may be hurt.
        return f"broker {node}, down for {for_s:.1f} s"

    async def _revive(self, node: int) -> None:
        """Start a broker again. A slow machine may take longer over its log than the script waits: that is no fault."""
        for _ in range(REVIVE_TRIES_MAX):
            try:
                await asyncio.to_thread(self.fleet.broker.revive, node)
                return
            except AssertionError as error:
                if "runs already" in str(error) or "is up" in str(error):
                    return
                await asyncio.sleep(10.0)
        self.wrong.append(f"broker {node} never came back")

    async def _halt_broker(self) -> str:
        node, for_s = self.dice.randint(1, 3), self.dice.uniform(1.0, 12.0)
        await asyncio.to_thread(self.fleet.broker.pause, node)
        try:
            await asyncio.sleep(for_s)
        finally:
            await asyncio.to_thread(self.fleet.broker.resume, node)
        await asyncio.sleep(5.0)
        return f"broker {node}, for {for_s:.1f} s"

    async def _kill_api(self) -> str:
        api = self.dice.choice(self.fleet.apis)
        return await self._killed(api, self.dice.uniform(0.1, 3.0))

    async def _kill_history(self) -> str:
        return await self._killed(self.fleet.history, self.dice.uniform(0.1, 3.0))

    async def _killed(self, member: Member, for_s: float) -> str:
        member.kill()
        lost = self.dice.random() < 0.3
        if lost:
            self.fleet.forget_disk(member)
        await asyncio.sleep(for_s)
        member.start(self.fleet.environment)
        async with aiohttp.ClientSession() as session:
            await member.ready(session)
        return f"{member.name}{', its disk is lost' if lost else ''}"
