"""``millstream server``: a worker of a group on Kafka without code of its own, and an api beside it.

One process and one command for a team whose functions are all elsewhere. The two are the roles that they are alone: the
api asks lanes through the topics, so it serves those of other processes as well, and several servers make a fleet.
"""

from __future__ import annotations

from dataclasses import replace

from millstream.roles.api import ApiRole, ApiSettings
from millstream.roles.worker import WorkerRole, WorkerSettings


class ServerRole:
    """A running server; ``start`` and ``stop`` its roles in order."""

    def __init__(self, worker: WorkerSettings, api: ApiSettings | None) -> None:
        self.worker = WorkerRole((), worker)
        calls = self.worker.endpoints.state_of
        self.api = ApiRole(replace(api, is_alone=False, calls=calls)) if api is not None else None

    async def start(self) -> None:
        """Return when the worker has joined its group, and events are taken. Raises OperatorError."""
        await self.worker.start()
        if self.api is not None:
            await self.api.start()

    async def wait(self) -> None:
        """Return when stopped; raise what stopped a lane."""
        await self.worker.wait()

    async def stop(self, grace_s: float) -> None:
        """Take no more requests, then leave the group, and live on until what runs is reported."""
        if self.api is not None:
            await self.api.stop(grace_s)
        await self.worker.stop(grace_s)
