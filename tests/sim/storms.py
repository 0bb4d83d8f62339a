"""What befalls a world while it is hostile: deeds of chance, each as often as the weather has it.

Add a deed: a method and one line in ``run``; its rate is a field of ``Weather``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.sim.world import World


class Storms:
    """One for a world; ``run`` ends with its hostile time."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def run(self) -> None:
        world = self._world
        chaos, weather, ends_s = world.chaos, world.weather, world.loop.now_s + world.hostile_s
        deeds: list[tuple[float, Callable[[], Any]]] = [
            (weather.crashes, self._crash),
            (weather.steals if len(world.machines) > 1 else 0.0, self._steal),
            (weather.moves, self._move),
            (weather.jumps, self._jump),
            (weather.outages, self._outage),
            (6.0, self._keep_old),
            (6.0, self._compact),
            (2.0 if world.later else 0.0, self._deploy),
            (1.0, self._stop),
            (weather.freezes, self._freeze),
            (weather.broken, self._break_producer),
            (weather.deleted, self._delete),
            (weather.edits, self._edit),
        ]
        rates = [rate for rate, _ in deeds]
        disks = world.loop.create_task(self._disks())
        while world.loop.now_s < ends_s:
            await asyncio.sleep(chaos.expovariate(sum(rates) / 60))
            if world.loop.now_s >= ends_s:
                break
            deed = chaos.choices([deed for _, deed in deeds], rates)[0]
            await deed()
        disks.cancel()
        world.faults.full.clear()

    async def _disks(self) -> None:
        """What befalls disks, by a chance of its own: the other deeds of a seed stay where they were."""
        world = self._world
        rates, rng = (world.weather.full, world.weather.flips), Random(f"{world.seed}/deeds of disks")
        while any(rates):
            await asyncio.sleep(rng.expovariate(sum(rates) / 60))
            machine = rng.choice(world.machines)
            if rng.choices((True, False), rates)[0]:
                world.trace("%s: its disk is full", machine.name)
                world.faults.full.add(machine.name)
                await asyncio.sleep(rng.random() * 4)
                world.faults.full.discard(machine.name)
            elif machine.disks:
                lane = rng.choice(sorted(machine.disks))
                keys = machine.disks[lane].keys()
                flipped = rng.sample(keys, min(len(keys), rng.choice((1, 1, 3, 30))))
                world.trace("%s: bits of %d rows of lane %d flip", machine.name, len(flipped), lane)
                machine.disks[lane].damaged.update(flipped)

    async def _crash(self) -> None:
        machine = self._world.chaos.choice(self._world.machines)
        machine.process.kill("killed")

    async def _steal(self) -> None:
        lane, to = self._world.chaos.randrange(self._world.lanes), self._world.chaos.choice(self._world.machine_names)
        self._world.trace("lane %d is stolen for %s", lane, to)
        await self._world.cluster.steal(lane, to)

    async def _move(self) -> None:
        spread = self._world.spread()
        self._world.trace("lanes move: %s", spread)
        await self._world.cluster.assign(spread)

    async def _jump(self) -> None:
        machine = self._world.chaos.choice(self._world.machines)
        machine.surroundings.off_ms = self._world.chaos.choice(
            [0, 0, -500, 700, -5_000, 4_000, -45_000, 45_000, 100_000]
        )
        self._world.trace("%s: clock is off by %d ms", machine.name, machine.surroundings.off_ms)

    async def _outage(self) -> None:
        self._world.faults.outage = True
        self._world.trace("the log refuses everything")
        await asyncio.sleep(self._world.chaos.random() * 3)
        self._world.faults.outage = False

    async def _keep_old(self) -> None:
        self._world.chaos.choice(self._world.machines).keep_old()

    async def _compact(self) -> None:
        self._world.cluster.retain()

    async def _stop(self) -> None:
        world = self._world
        machine, grace_s = world.chaos.choice(world.machines), world.chaos.choice([0.5, 0.5, 4.0])
        worker, process = machine.worker, machine.process
        if worker is not None and machine.up:
            world.trace("%s: stops gracefully", process.name)
            stop = world.loop.create_task(worker.stop(grace_s), context=process.context.copy())
            await asyncio.wait([stop, machine.died], return_when="FIRST_COMPLETED", timeout=10)
            process.kill("stopped")

    async def _freeze(self) -> None:
        """A process stands still, longer than the group waits for it, and goes on as if nothing had been: a zombie."""
        world, chaos = self._world, self._world.chaos
        machine = chaos.choice(world.machines)
        process, others = machine.process, [one for one in world.machines if one is not machine]
        if not machine.up or machine.worker is None:
            return
        world.trace("%s: stands still", process.name)
        process.freeze()
        await asyncio.sleep(chaos.random() * 2)
        for lane in sorted(machine.lanes_held) if others else ():
            if chaos.random() < 0.8:
                other = chaos.choice(others)
                world.trace("lane %d goes from %s, not heard of, to %s", lane, machine.name, other.name)
                await world.cluster.steal(lane, other.name)
        await asyncio.sleep(chaos.random() ** 2 * 6)
        world.trace("%s: goes on", process.name)
        process.thaw(world.loop)

    async def _break_producer(self) -> None:
        """The one producer of a process's lanes fails: of nothing that is under way does it learn the outcome."""
        world, chaos = self._world, self._world.chaos
        machine = chaos.choice(world.machines)
        if machine.up and machine.worker is not None:
            world.trace("%s: its producer breaks", machine.process.name)
            machine.client.break_producer(lambda: chaos.random() < 0.5)

    async def _delete(self) -> None:
        """The owner of the events topic deletes records, read or not (``delete_records``, or a short retention)."""
        world, chaos = self._world, self._world.chaos
        partition = world.cluster.partitions["events", chaos.randrange(world.lanes)]
        if chaos.random() < 0.5:  # Often nobody has read the latest.
            chaos.choice(world.machines).process.kill("killed before records are deleted")
            await asyncio.sleep(chaos.random() * 4)
        before = partition.end if chaos.random() < 0.5 else chaos.randint(partition.start, partition.end)
        world.trace("events/%d is deleted below %d of %d", partition.number, before, partition.end)
        partition.trim(before)

    async def _edit(self) -> None:
        """A machine is given code that no longer asks for what is recorded, or its right code back."""
        machine = self._world.chaos.choice(self._world.machines)
        machine.edited = not machine.edited
        machine.process.kill(f"restarted with {'edited' if machine.edited else 'its right'} code")

    async def _deploy(self) -> None:
        """A newer version of the code, on processes from now on; the first of them registers the app."""
        if self._world.later:
            self._world.trace("app two is deployed")
            self._world.apps_deployed = self._world.apps_deployed + self._world.later
            self._world.later = []
            self._world.chaos.choice(self._world.machines).process.kill("restarted with app two")
