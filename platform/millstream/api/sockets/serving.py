"""An application on a port: listening, with bounds on what its connections hold, and letting go of it."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from millstream.api.probes import MEASURED
from millstream.api.sockets.connections import Connection, Connections, connections_max
from millstream.api.sockets.listening import listen_on, url_of
from millstream.api.sockets.malformed import OurFaults
from millstream.model import limits
from millstream.process_handles import drop_in_forks, forget

SHUTDOWN_S: Final = 5.0
BACKLOG_MIN: Final = 16
BACKLOG_MAX: Final = 1_024


@dataclass(frozen=True, slots=True)
class Served:
    """A door that listens. ``port`` is the real one where 0 was asked for."""

    runner: web.AppRunner
    connections: Connections
    host: str
    port: int
    handles: tuple[int, ...] = ()

    @property
    def url(self) -> str:
        """The address that it listens on."""
        return url_of(self.host, self.port)

    async def close(self) -> None:
        """Stop listening, answer what is under way, end the door."""
        for handle in self.handles:
            forget(handle)
        for site in list(self.runner.sites):
            await site.stop()
        await self.connections.greeted()
        await self.runner.cleanup()
        self.connections.close()


class _Site(web.SockSite):
    """A socket that listens, whose connections are counted."""

    def __init__(self, runner: web.AppRunner, listening: socket.socket, connections: Connections) -> None:
        # So many may be taken in one turn, before any of them can be refused: they live on the reserve for that moment.
        backlog = min(BACKLOG_MAX, max(BACKLOG_MIN, connections.maximum * 3 // 4))
        super().__init__(runner, listening, backlog=backlog)
        self._connections = connections

    async def start(self) -> None:
        """Take connections from now on."""
        await web.BaseSite.start(self)
        loop = asyncio.get_running_loop()
        server = self._runner.server
        assert isinstance(server, web.Server), "the runner was set up"
        log: Any = OurFaults(logging.getLogger("aiohttp.server"), {})

        def connection() -> Connection:
            return Connection(
                self._connections,
                server,
                loop=loop,
                keepalive_timeout=limits.IDLE_MS_MAX / 1000,
                access_log=None,
                logger=log,
                auto_decompress=False,  # ``read_body`` does: the library takes a coding that stops early for whole.
            )

        self._server = await loop.create_server(connection, sock=self._sock, backlog=self._backlog)


async def serve(
    app: web.Application,
    *,
    host: str = "127.0.0.1",
    port: int = 8288,
    listening: socket.socket | None = None,
    most: int = 0,
) -> Served:
    """Listen, or take connections of a socket that listens; ``most`` of them at once, 0: as ``ulimit -n`` allows.

    Raises ConfigError where the port is taken.
    """
    socket_ = listening if listening is not None else listen_on(host, port)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S)
    connections = Connections(most or connections_max(), app.get(MEASURED))
    try:
        await runner.setup()
        await _Site(runner, socket_, connections).start()
    except BaseException:
        await runner.cleanup()
        if listening is None:
            socket_.close()
        raise
    connections.start()
    drop_in_forks(socket_.fileno())
    address = socket_.getsockname()
    return Served(runner, connections, host, address[1], (socket_.fileno(),))
