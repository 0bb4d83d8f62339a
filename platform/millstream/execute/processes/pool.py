"""``Pool``: the N child processes of ``--executors N``, kept alive, shared by all lanes of a worker.

    started ──> STARTING ── Hello ──> UP ──────────┐
                   │ Refused                       │ dies: segfault, os._exit, out of memory, kill -9, silence
                   v                               v
                refused: logged once           its dispatches are lost (lanes.md rule 24)
                   └──────── again after a backoff <┘

A lane uses it through ``children.ChildrenExecutor``, and for apps over HTTP ``calls.CarrierInChildren``. The pool
knows processes: it starts them, never by forking one that has threads; it notices how they end; it says which has the
least to do.

*Refused* is a child that cannot load the apps. While no child is up and the last one refused, dispatches are parked:
there is no code. While none is up for any other reason they wait: a child will be up in a moment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from millstream.errors import ConfigError, OperatorError
from millstream.execute.endpoint.endpoints import EndpointSettings
from millstream.execute.local.executor import LocalSettings
from millstream.execute.processes.messages import (
    CallSettings,
    Connection,
    End,
    Environ,
    ForLane,
    FromChild,
    Hello,
    Ping,
    Pong,
    Refused,
    Setup,
)
from millstream.model.backoff import doubling_s
from millstream.telemetry import Telemetry, say

LOG: Final = logging.getLogger("millstream.executors")
EXECUTORS_MAX: Final = 256
TICK_S: Final = 0.5
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 30.0
STEADY_S: Final = 10.0
"""After a child was up for this long, the backoff begins anew."""
START_MAX_S: Final = 120.0
END_MAX_S: Final = 5.0
SILENCE_EXTRA_S: Final = 10.0
"""A child is killed when it is silent for longer than this and the step timeouts of all its dispatches together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """``targets`` are the apps as ``module:app``; ``program`` the module that a child runs; ``local`` how bodies live
    in each child; ``endpoints`` how apps over HTTP are called."""

    executors: int
    targets: tuple[str, ...] = ()
    program: str = "millstream.cli.processes.executor"
    local: LocalSettings = field(default_factory=LocalSettings)
    endpoints: EndpointSettings = field(default_factory=EndpointSettings)

    def __post_init__(self) -> None:
        if not 1 <= self.executors <= EXECUTORS_MAX:
            raise ConfigError(f"executors was refused: expected 1 to {EXECUTORS_MAX}, got {self.executors}.")


class PoolClient(Protocol):
    """A lane's executor, as the pool sees it."""

    def on_message(self, child: ChildProcess, message: ForLane) -> None:
        """A child has sent this about a run of this lane."""
        ...

    def on_death(self, child: ChildProcess) -> None:
        """A child has died."""
        ...

    def on_change(self) -> None:
        """A child came up, or the last one is down."""
        ...

    def step_time_ms(self, child: ChildProcess) -> int:
        """The time that the dispatches under way in a child may take, one attempt after another."""
        ...


class ChildProcess:
    """One place in the pool, and the process that holds it now."""

    def __init__(self, number: int, pool: Pool) -> None:
        self.number = number
        self.up = False
        self.functions: Mapping[str, int] = {}
        self.dispatches = 0
        """The number that is under way in it."""
        self.runs = 0
        """The number that has a body in it."""
        self.refused = ""
        self._pool = pool
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._alive = -1
        self._restart: asyncio.TimerHandle | None = None
        self._failures = 0
        self._up_since_s = 0.0
        self._ping = self._pong = 0
        self._pinged_s = 0.0
        self._gone_ticks = 0

    @property
    def pid(self) -> int:
        """The process; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def congested(self) -> bool:
        """Whether it takes less than it is sent."""
        return self._connection is not None and self._connection.congested

    def send(self, message: object) -> None:
        """Send, if it lives."""
        if self._connection is not None:
            self._connection.send(message)

    async def start(self) -> None:
        """Start a process; its Hello or its end comes later."""
        self._restart = None
        ours, theirs = socket.socketpair()
        reads, self._alive = os.pipe()  # Nothing is ever written: it ends when this process does.
        # -P: a file of the user's in the working directory must not shadow Python's own; Setup brings the real path.
        command = [sys.executable, "-P", "-m", self._pool.settings.program, str(theirs.fileno()), str(reads)]
        try:
            # Its own session: a Ctrl-C in the terminal reaches the worker only.
            self._process = subprocess.Popen(  # noqa: ASYNC220 - some milliseconds, and the kernel must see this thread
                command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), reads), start_new_session=True
            )
        except OSError:
            ours.close()
            self._release_process()
            raise
        finally:
            theirs.close()
            os.close(reads)
        self._ping = self._pong = self._gone_ticks = 0
        self._pinged_s = time.monotonic()
        connection = self._connection = Connection(FromChild, self._on_message, lambda: self._on_end(connection))
        settings = self._pool.settings
        level = logging.getLogger().getEffectiveLevel()
        connection.send(Setup(self._pool.path, settings.targets, settings.local, level, self._pool.call_settings))
        await asyncio.get_running_loop().create_unix_connection(lambda: connection, sock=ours)

    def tick(self) -> None:
        """Check that it lives and answers; see the module."""
        process = self._process
        if process is None:
            return
        if process.poll() is not None:
            # Its end of the connection may be open still, in a process that a step started.
            self._gone_ticks += 1
            if self._gone_ticks > 1 and self._connection is not None:
                self._connection.abort()
            return
        now_s = time.monotonic()
        if self.up and self._ping == self._pong:
            self._ping += 1
            self._pinged_s = now_s
            self.send(Ping(self._ping))
            return
        silent_s = now_s - self._pinged_s
        if silent_s <= SILENCE_EXTRA_S:
            return
        # One turn of its loop may run an attempt of each dispatch that is under way in it.
        if silent_s - SILENCE_EXTRA_S > (self._pool.step_time_ms(self) / 1_000 if self.up else START_MAX_S):
            say(
                LOG,
                "executor silent",
                level=logging.ERROR,
                executor=self.number,
                pid=self.pid,
                silent_s=round(silent_s),
            )
            self.kill()

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            self._process.kill()

    async def close(self) -> None:
        """Let it end in good order, within ``END_MAX_S``; then end it."""
        if self._restart is not None:
            self._restart.cancel()
        process, self.up = self._process, False
        self.send(End())
        if process is not None:
            await asyncio.to_thread(_wait_or_kill, process)
        if self._connection is not None:
            self._connection.abort()
        self._release_process()

    def _on_message(self, message: FromChild) -> None:
        match message:
            case Hello(functions=functions):
                self.up, self.functions, self.refused = True, functions, ""
                self._up_since_s = time.monotonic()
                self._pool.loads += 1
                self.send(Environ(dict(self._pool.environ)))
                say(LOG, "executor up", executor=self.number, pid=self.pid, functions=len(functions))
                self._pool.on_change()
            case Refused(message=why):
                if why != self.refused:
                    say(LOG, "executor refused", level=logging.ERROR, executor=self.number, why=why)
                self.refused = why
            case Pong(number=number):
                self._pong = number
            case _:
                self._pool.on_message(self, message)

    def _on_end(self, connection: Connection) -> None:
        """The connection has ended: end the process, if it has not ended yet."""
        process = self._process
        if self._connection is not connection or process is None or self._pool.closing:
            return
        self._connection = None
        process.kill()
        process.wait()  # It has been killed: this does not take long.
        was_up, self.up = self.up, False
        self._release_process()
        if was_up and time.monotonic() - self._up_since_s >= STEADY_S:
            self._failures = 0
        delay_s = doubling_s(BACKOFF_FIRST_S, self._failures, BACKOFF_MAX_S)
        self._failures += 1
        if not self.refused:
            how = _how_ended(process.returncode)
            lost = self.dispatches
            say(LOG, "executor died", level=logging.WARNING, executor=self.number, pid=process.pid, how=how, lost=lost,
                again_in_s=delay_s)  # fmt: skip
        self._restart = asyncio.get_running_loop().call_later(delay_s, self._pool.restart, self)
        self._pool.on_death(self)

    def _release_process(self) -> None:
        self._process = None
        self._connection = None
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1


class Pool:
    """The children of one worker, from ``start`` to ``close``."""

    def __init__(self, settings: PoolSettings, telemetry: Telemetry | None = None) -> None:
        self.settings = settings
        self.environ: dict[str, str] = {}
        self.path = tuple(os.path.abspath(entry) for entry in sys.path)
        """Where children import from, whatever becomes of the working directory."""
        self.call_settings = CallSettings.of(settings.endpoints)
        self.closing = False
        self.loads = 0
        """How often a child has loaded the apps."""
        self.children: Sequence[ChildProcess] = [ChildProcess(n, self) for n in range(settings.executors)]
        self._telemetry = telemetry
        self._clients: dict[int, PoolClient] = {}
        self._last = 0
        self._starting: set[asyncio.Task[None]] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Start all children; return when each has loaded the apps. Raises OperatorError where one cannot."""
        try:
            for child in self.children:
                await child.start()
            self._ticking = asyncio.get_running_loop().create_task(self._tick(), name="executors")
            async with asyncio.timeout(START_MAX_S):
                while not all(child.up for child in self.children):
                    self._changed.clear()
                    await self._changed.wait()
                    self._raise_refused()
        except BaseException as error:
            await self.close()
            if isinstance(error, TimeoutError):
                raise OperatorError(
                    f"the executor processes did not start within {START_MAX_S:.0f} s: expected them to load "
                    f"{self._loaded}. See what importing it waits for."
                ) from error
            raise

    async def close(self) -> None:
        """End all children. The lanes' executors have been closed before."""
        self.closing = True
        if self._ticking is not None:
            self._ticking.cancel()
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*(child.close() for child in self.children))

    @property
    def up(self) -> Sequence[ChildProcess]:
        """The children that take dispatches."""
        return [child for child in self.children if child.up]

    @property
    def broken(self) -> bool:
        """Whether no child is up because the apps cannot be loaded."""
        return any(child.refused for child in self.children) and not any(child.up for child in self.children)

    def knows(self, function: str) -> bool:
        """Whether a child has, or had, code for this function."""
        return not self.broken and any(function in child.functions for child in self.children)

    @property
    def full(self) -> bool:
        """Whether no child should be given more runs."""
        bodies_max = self.settings.local.live_bodies_max
        roomy = any(c.up and not c.congested and c.runs < bodies_max for c in self.children)
        return not (roomy or self.broken)

    def least_busy(self, function: str) -> ChildProcess | None:
        """The child for a new run; None: none is up, or none has the code."""
        able = [child for child in self.children if child.up and function in child.functions]
        return min(able, key=lambda child: (child.congested, child.dispatches, child.runs), default=None)

    def put_environ(self, values: Mapping[str, str]) -> None:
        """Set environment variables in all children, now and after restarts."""
        self.environ.update(values)
        for child in self.up:
            child.send(Environ(dict(values)))

    # --- clients ------------------------------------------------------------------------------------

    def join(self, client: PoolClient) -> int:
        """Register a lane's executor; its number."""
        self._last += 1
        self._clients[self._last] = client
        return self._last

    def leave(self, number: int) -> None:
        """Unregister it."""
        self._clients.pop(number, None)

    def step_time_ms(self, child: ChildProcess) -> int:
        """The time that the dispatches under way in a child may take, one attempt after another."""
        return sum(client.step_time_ms(child) for client in self._clients.values())

    # --- what happens to children -----------------------------------------------------------------------

    def on_message(self, child: ChildProcess, message: ForLane) -> None:
        """A child has sent this about a run: pass it to the lane's executor."""
        client = self._clients.get(message.lane)
        if client is not None:
            client.on_message(child, message)

    def on_death(self, child: ChildProcess) -> None:
        """A child has died."""
        if self._telemetry is not None and not child.refused:
            self._telemetry.count("millstream_executor_deaths_total")
        for client in tuple(self._clients.values()):
            client.on_death(child)
        child.dispatches = child.runs = 0
        self.on_change()

    def on_change(self) -> None:
        """A child came up or died."""
        self._changed.set()
        if self._telemetry is not None:
            self._telemetry.set("millstream_executors", len(self.up))
        for client in tuple(self._clients.values()):
            client.on_change()

    def restart(self, child: ChildProcess) -> None:
        """Start a child anew, after its backoff."""
        if self.closing:
            return
        task = asyncio.get_running_loop().create_task(self._start_anew(child))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start_anew(self, child: ChildProcess) -> None:
        try:
            await child.start()
        except OSError as error:  # No process, no descriptor left: perhaps later.
            say(LOG, "executor not started", level=logging.ERROR, executor=child.number, why=str(error))
            asyncio.get_running_loop().call_later(BACKOFF_MAX_S, self.restart, child)

    def _raise_refused(self) -> None:
        for child in self.children:
            if child.refused:
                raise OperatorError(f"an executor process could not load the apps: {child.refused}")
            if not child.up and not child.pid:
                raise OperatorError(
                    f"an executor process died while it started: expected it to load {self._loaded}. Its last words "
                    "are above; see what importing it does."
                )

    @property
    def _loaded(self) -> str:
        return ", ".join(self.settings.targets) or "no functions"

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for child in self.children:
                child.tick()


def _how_ended(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


def _wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(END_MAX_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
