"""The probes of a process that runs user code, in a thread and a loop of their own.

    the process's loop                        the probes' thread
    a sign of life every second ────────────> /livez    200; 503 once the loop has stood still for ``HANGS_S``
    what it waits for <── asked, answered ──> /readyz   503 while the loop does not answer
                                              /metrics  at any time

A function that computes on the loop blocks everything there: with the probes beside it a supervisor would kill the
worker for a few seconds of that, and the step would run again, and block again. So ``/livez`` says that the process
answers, and stops saying so only when nothing of its lanes has moved for minutes: then a restart is right. (Code that
computes for long belongs into a plain ``def``, which gets a thread, or behind ``--executors``.) Code that keeps the
interpreter's lock without a pause, as some C extensions do, stops this thread, too.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import Final, TypeVar

from aiohttp import web

from millstream.api.answers import answer
from millstream.api.probes import WaitsFor, exposed
from millstream.api.sockets.serving import Served, serve
from millstream.errors import ConfigError
from millstream.telemetry import Telemetry

CONNECTIONS_MAX: Final = 100
SIGN_EVERY_S: Final = 1.0
HANGS_S: Final = 120.0
"""The loop may stand still for so long before ``/livez`` says that the process should be restarted."""
ASKED_S: Final = 2.0
"""The loop has so long to say what it waits for; less than a probe waits."""

T = TypeVar("T")


class ProbesThread:
    """Serves the probes from ``start`` to ``close``; used on the loop that it watches."""

    def __init__(self, telemetry: Telemetry, waits_for: WaitsFor) -> None:
        self.port = 0
        self._telemetry = telemetry
        self._waits_for = waits_for
        self._loop = asyncio.get_running_loop()
        self._alive_at_s = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._theirs: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    async def start(self, host: str, port: int) -> None:
        """Return when it listens. Raises ConfigError where the port is taken."""
        self._show_life()
        listening: asyncio.Future[int] = self._loop.create_future()
        work = self._serve(host, port, listening)
        self._thread = threading.Thread(target=asyncio.run, args=(work,), name="millstream-probes", daemon=True)
        self._thread.start()
        self.port = await listening

    async def close(self) -> None:
        """Answer nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._theirs is not None and self._closing is not None:
            with suppress(RuntimeError):  # It could not listen, and has ended.
                self._theirs.call_soon_threadsafe(self._closing.set)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _show_life(self) -> None:
        self._alive_at_s = time.monotonic()
        self._telemetry.set("millstream_ready", not self._waits_for())
        self._timer = self._loop.call_later(SIGN_EVERY_S, self._show_life)

    # --- in the thread ------------------------------------------------------------------------------

    async def _serve(self, host: str, port: int, listening: asyncio.Future[int]) -> None:
        self._theirs, self._closing = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_get("/livez", self._get_livez)
        app.router.add_get("/readyz", self._get_readyz)
        app.router.add_get("/metrics", self._get_metrics)
        try:
            served: Served = await serve(app, host=host, port=port, most=CONNECTIONS_MAX)
        except ConfigError as error:
            self._loop.call_soon_threadsafe(_fail, listening, error)
            return
        self._loop.call_soon_threadsafe(_answer, listening, served.port)
        await self._closing.wait()
        await served.close()

    @property
    def _still_s(self) -> float:
        """How long the loop has stood still."""
        return max(0.0, time.monotonic() - self._alive_at_s - SIGN_EVERY_S)

    async def _get_livez(self, request: web.Request) -> web.Response:
        still_s = self._still_s
        if still_s >= HANGS_S:
            return answer({"status": "hangs", "loop_blocked_s": round(still_s)}, 503)
        return answer({"status": "ok"})

    async def _get_readyz(self, request: web.Request) -> web.Response:
        said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        try:
            self._loop.call_soon_threadsafe(self._say_what_it_waits_for, said)
            waits_for = await asyncio.wait_for(said, ASKED_S)
        except (TimeoutError, RuntimeError):  # The second: the loop is closed.
            waits_for = f"its event loop, which has been blocked for {self._still_s:.0f} s"
        if waits_for:
            return answer({"status": "not ready", "waits_for": waits_for}, 503)
        return answer({"status": "ok"})

    async def _get_metrics(self, request: web.Request) -> web.Response:
        if self._still_s >= ASKED_S:  # ``/readyz`` would say so.
            self._telemetry.set("millstream_ready", 0)
        return exposed(self._telemetry)

    def _say_what_it_waits_for(self, said: asyncio.Future[str]) -> None:
        """On the process's loop."""
        said.get_loop().call_soon_threadsafe(_answer, said, self._waits_for())


def _answer(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[int], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
