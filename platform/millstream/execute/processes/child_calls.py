"""``ChildCalls``: the child's side of ``calls.py``: makes calls of apps over connections of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from millstream.execute.endpoint.carrying import CarrierHere
from millstream.execute.endpoint.endpoints import Endpoint, Endpoints, EndpointSettings
from millstream.execute.endpoint.http import Broken, NotSent
from millstream.execute.endpoint.replies import failed_here
from millstream.execute.processes.messages import CallMade, Connection, MakeCall
from millstream.model.function import AppSpec

LOG: Final = logging.getLogger("millstream.executor")


class ChildCalls:
    """The calls that are under way in this child. Made while a loop runs."""

    def __init__(self, connection: Connection, settings: EndpointSettings) -> None:
        self._connection = connection
        self._endpoints = Endpoints(settings)
        self._carrier = CarrierHere(self._endpoints, lambda: time.time_ns() // 1_000_000)
        self._apps: dict[str, Endpoint] = {}
        self._calls: dict[tuple[int, int], asyncio.Task[None]] = {}

    def begin(self, message: MakeCall) -> None:
        """Make a call, and send how it went."""
        key = message.lane, message.number
        self._calls[key] = making = asyncio.get_running_loop().create_task(self._make(message))
        making.add_done_callback(lambda _: self._calls.pop(key))

    def drop(self, lane: int, number: int) -> None:
        """Nobody waits for this call any more."""
        making = self._calls.get((lane, number))
        if making is not None:
            making.cancel()

    async def _make(self, message: MakeCall) -> None:
        answered, broken = None, ""
        try:
            answered = await self._carrier.carry_out(message.work, self._endpoint(message.work.app, message.work.url))
        except NotSent:
            pass  # The worker tries it, and so knows why.
        except Broken as error:
            broken = str(error) or "it broke"
        except Exception as error:  # Ours: without an answer the run would hang.
            LOG.exception("a call could not be carried out")
            answered = failed_here(error)
        self._connection.send(CallMade(message.lane, message.number, answered, broken))

    def _endpoint(self, app: str, url: str) -> Endpoint:
        """The connections to an app, new ones where it has moved; whether it is up, the worker knows."""
        endpoint = self._apps.get(app)
        if endpoint is None or endpoint.url != url:
            endpoint = self._apps[app] = Endpoint(AppSpec(app, (), url), self._endpoints)
        return endpoint
