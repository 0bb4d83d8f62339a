"""``CarrierInChildren``: the calls of apps over HTTP, made by the children of a ``Pool``.

    EndpointExecutor ── Work ──> MakeCall ──> the child with the least to do ── HTTP ──> the app
    EndpointExecutor <── Answered ── CallMade <── child

One for all lanes of a worker. A child holds nothing of a run: with each call goes what is recorded of it. Slots, parked
dispatches and what is known of an app stay with the worker, so that the limit of calls to one app is the worker's,
however many children make them.

The calls of a child that dies are lost (lanes.md rule 24), and no trouble of their apps.

Where no child is up, or a child gets no connection to the app, the worker makes the call itself: it must know why.
"""

from __future__ import annotations

import asyncio
import time

from millstream.execute.endpoint.carrying import Carrier, CarrierDied, CarrierHere, Work
from millstream.execute.endpoint.endpoints import Endpoint, Endpoints
from millstream.execute.endpoint.http import Broken
from millstream.execute.endpoint.replies import Answered
from millstream.execute.processes.messages import CallMade, DropCall, ForLane, MakeCall
from millstream.execute.processes.pool import ChildProcess, Pool


class CarrierInChildren:
    """Carries out work in the children of ``pool``; ``here`` does it in this process."""

    def __init__(self, pool: Pool, here: Carrier) -> None:
        self._pool = pool
        self._here = here
        self._calls: dict[int, tuple[ChildProcess, asyncio.Future[CallMade]]] = {}
        self._last = 0
        self._number = pool.join(self)

    async def carry_out(self, work: Work, endpoint: Endpoint) -> Answered:
        """See ``Carrier``."""
        up = self._pool.up
        if not up:
            return await self._here.carry_out(work, endpoint)
        child = min(up, key=lambda child: (child.congested, child.dispatches))
        made = await self._made(child, work)
        if made.broken:
            raise Broken(made.broken)
        return made.answered if made.answered is not None else await self._here.carry_out(work, endpoint)

    async def _made(self, child: ChildProcess, work: Work) -> CallMade:
        self._last += 1
        number = self._last
        making: asyncio.Future[CallMade] = asyncio.get_running_loop().create_future()
        self._calls[number] = (child, making)
        child.dispatches += 1
        child.send(MakeCall(self._number, number, work))
        try:
            return await making
        except asyncio.CancelledError:
            child.send(DropCall(self._number, number))
            raise
        finally:
            if self._calls.pop(number, None) is not None:
                child.dispatches -= 1

    # --- what the pool calls (``pool.PoolClient``) ----------------------------------------------------------

    def on_message(self, child: ChildProcess, message: ForLane) -> None:
        """A child has made a call."""
        if isinstance(message, CallMade):
            call = self._calls.get(message.number)
            if call is not None and not call[1].done():
                call[1].set_result(message)

    def on_death(self, child: ChildProcess) -> None:
        """A child has died: its calls are lost."""
        for number, (maker, making) in tuple(self._calls.items()):
            if maker is child:
                del self._calls[number]  # The pool counts no dispatch of it any more.
                if not making.done():
                    making.set_exception(CarrierDied(f"executor {child.number} has died"))

    def on_change(self) -> None:
        """Nothing waits for a child here."""

    def step_time_ms(self, child: ChildProcess) -> int:
        """None: a call keeps no loop from turning."""
        return 0


def carrier_of(pool: Pool, endpoints: Endpoints) -> CarrierInChildren:
    """What makes the calls of a worker with this pool (``WorkerParts.carrier``)."""
    return CarrierInChildren(pool, CarrierHere(endpoints, lambda: time.time_ns() // 1_000_000))
