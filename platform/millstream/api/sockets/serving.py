"""An application on a port: listening, and letting go of it."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from millstream.api.sockets.listening import port_taken
from millstream.api.sockets.malformed import OurFaults, answering_json
from millstream.process_handles import drop_in_forks, forget

SHUTDOWN_S: Final = 5.0
BACKLOG: Final = 1_024


@dataclass(frozen=True, slots=True)
class Served:
    """A door that listens. ``port`` is the real one where 0 was asked for."""

    runner: web.AppRunner
    host: str
    port: int
    handles: tuple[int, ...] = ()

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://{self.host}:{self.port}"

    async def close(self) -> None:
        """Stop listening, answer what is under way, end the door."""
        for handle in self.handles:
            forget(handle)
        await self.runner.cleanup()


async def serve(
    app: web.Application, *, host: str = "127.0.0.1", port: int = 8288, listening: socket.socket | None = None
) -> Served:
    """Listen, or take connections of a socket that listens. Raises OSError where the port is taken."""
    log = OurFaults(logging.getLogger("aiohttp.server"), {})
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=SHUTDOWN_S,
        logger=log,
        auto_decompress=False,  # ``read_body`` does it: the library takes a coding that stops early for a whole one.
    )
    await runner.setup()
    assert isinstance(runner.server, web.Server), "it was set up"
    answering_json(runner.server)
    try:
        site: web.SockSite | web.TCPSite
        if listening is not None:
            site = web.SockSite(runner, listening, backlog=BACKLOG)
        else:
            site = web.TCPSite(runner, host, port, backlog=BACKLOG)
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    handles = _listening(site)
    for handle in handles:
        drop_in_forks(handle)
    return Served(runner, host, runner.addresses[0][1], handles)


def _listening(site: web.SockSite | web.TCPSite) -> tuple[int, ...]:
    server: Any = site._server  # The library has no public way to it.
    return tuple(one.fileno() for one in server.sockets)


async def serve_on(app: web.Application, host: str, port: int) -> Served:
    """``serve`` for a process that is nothing but a server: a port that is taken is the operator's to mend."""
    try:
        return await serve(app, host=host, port=port)
    except (OSError, UnicodeError, TypeError) as error:  # The last two: no name of a host can be written so.
        raise port_taken(host, port, error) from error
