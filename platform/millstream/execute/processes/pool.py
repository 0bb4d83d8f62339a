"""``Pool``: the N child processes of ``--executors N``, kept alive, shared by all lanes of a worker.

    started ──> STARTING ── Hello ──> UP ──────────┐
                   │ Refused                       │ dies: segfault, os._exit, out of memory, kill -9, silence
                   v                               v
                refused: said once           its dispatches are lost (lanes.md rule 24)
                   └──────── again after a backoff <┘

What a lane sees of it is ``children.ChildrenExecutor``. The pool knows processes: it starts them, never by forking one
that has threads; it notices how they end; it says which has the least to do.

*Refused* is when a child cannot load the apps. While no child is up and the last one refused, dispatches are parked:
there is no code. While none is up for any other reason they wait: a child will be there in a moment.
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
from millstream.execute.local.executor import LocalSettings
from millstream.execute.processes.messages import (
    Closed,
    Done,
    End,
    Environ,
    FromChild,
    GivenBack,
    Hello,
    Left,
    Line,
    Ping,
    Pong,
    Refused,
    Setup,
    Wanted,
)
from millstream.telemetry import Telemetry, say

LOG: Final = logging.getLogger("millstream.executors")
EXECUTORS_MAX: Final = 256
TICK_S: Final = 0.5
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 30.0
STEADY_S: Final = 10.0
"""A child that was up for so long was fine: the backoff begins anew."""
START_MAX_S: Final = 120.0
END_MAX_S: Final = 5.0
SILENCE_EXTRA_S: Final = 10.0
"""A child is killed when it is silent for this, and for the step timeouts of all it may be busy with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """``targets`` are the apps as ``module:app``; ``program`` the module that a child runs; ``local`` how bodies live
    in each child."""

    executors: int
    targets: tuple[str, ...]
    program: str = "millstream.cli.executor"
    local: LocalSettings = field(default_factory=LocalSettings)

    def __post_init__(self) -> None:
        if not 1 <= self.executors <= EXECUTORS_MAX:
            raise ConfigError(f"executors was refused: expected 1 to {EXECUTORS_MAX}, got {self.executors}.")
        if not self.targets:
            raise ConfigError(
                "executors need apps: expected at least one module:app, got none. Name one, or leave it out."
            )


class Face(Protocol):
    """A lane's executor, as the pool sees it."""

    def heard(self, child: ChildProcess, message: Done | GivenBack | Wanted | Left | Closed) -> None:
        """A child says something about a run of this lane."""
        ...

    def lost(self, child: ChildProcess) -> None:
        """A child has died."""
        ...

    def changed(self) -> None:
        """A child came up, or there is none any more."""
        ...

    def time_of(self, child: ChildProcess) -> int:
        """Milliseconds that what is under way in a child may take, one attempt after another."""
        ...


class ChildProcess:
    """One place in the pool, and the process that holds it now."""

    def __init__(self, number: int, pool: Pool) -> None:
        self.number = number
        self.up = False
        self.functions: Mapping[str, int] = {}
        self.dispatches = 0
        """How many are under way in it."""
        self.runs = 0
        """How many have a body in it."""
        self.refused = ""
        self._pool = pool
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Line | None = None
        self._alive = -1
        self._again: asyncio.TimerHandle | None = None
        self._failures = 0
        self._up_since_s = 0.0
        self._asked = self._answered = 0
        self._asked_s = 0.0
        self._gone_ticks = 0

    @property
    def pid(self) -> int:
        """The process; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def congested(self) -> bool:
        """Whether it takes less than it is sent."""
        return self._line is not None and self._line.congested

    def send(self, message: object) -> None:
        """Send, if it lives."""
        if self._line is not None:
            self._line.send(message)

    async def start(self) -> None:
        """Start a process; its Hello or its end is heard later."""
        self._again = None
        ours, theirs = socket.socketpair()
        reads, self._alive = os.pipe()  # Nothing is ever written: it ends when this process does.
        # -P: a file of the user's in the working directory must not shadow Python's own; Setup brings the real path.
        line = [sys.executable, "-P", "-m", self._pool.settings.program, str(theirs.fileno()), str(reads)]
        try:
            # Its own session: a Ctrl-C in the terminal reaches the worker only.
            self._process = subprocess.Popen(  # noqa: ASYNC220 - some milliseconds, and the kernel must see this thread
                line, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), reads), start_new_session=True
            )
        except OSError:
            ours.close()
            self._let_go()
            raise
        finally:
            theirs.close()
            os.close(reads)
        self._asked = self._answered = self._gone_ticks = 0
        self._asked_s = time.monotonic()
        talk = self._line = Line(FromChild, self._heard, lambda: self._ended(talk))
        settings = self._pool.settings
        level = logging.getLogger().getEffectiveLevel()
        talk.send(Setup(tuple(sys.path), settings.targets, settings.local, level))
        await asyncio.get_running_loop().create_unix_connection(lambda: talk, sock=ours)

    def tick(self) -> None:
        """Look whether it lives and answers; see the module."""
        process = self._process
        if process is None:
            return
        if process.poll() is not None:
            # Its end of the line may be open still, in a process that a step started.
            self._gone_ticks += 1
            if self._gone_ticks > 1 and self._line is not None:
                self._line.abort()
            return
        now_s = time.monotonic()
        if self.up and self._asked == self._answered:
            self._asked += 1
            self._asked_s = now_s
            self.send(Ping(self._asked))
            return
        silent_s = now_s - self._asked_s
        if silent_s <= SILENCE_EXTRA_S:
            return
        # One turn of its loop may run an attempt of each dispatch that is under way in it.
        if silent_s - SILENCE_EXTRA_S > (self._pool.time_of(self) / 1_000 if self.up else START_MAX_S):
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
        if self._again is not None:
            self._again.cancel()
        process, self.up = self._process, False
        self.send(End())
        if process is not None:
            await asyncio.to_thread(_wait_or_kill, process)
        if self._line is not None:
            self._line.abort()
        self._let_go()

    def _heard(self, message: FromChild) -> None:
        match message:
            case Hello(functions=functions):
                self.up, self.functions, self.refused = True, functions, ""
                self._up_since_s = time.monotonic()
                self.send(Environ(dict(self._pool.environ)))
                say(LOG, "executor up", executor=self.number, pid=self.pid, functions=len(functions))
                self._pool.changed()
            case Refused(message=why):
                if why != self.refused:
                    say(LOG, "executor refused", level=logging.ERROR, executor=self.number, why=why)
                self.refused = why
            case Pong(number=number):
                self._answered = number
            case _:
                self._pool.heard(self, message)

    def _ended(self, line: Line) -> None:
        """The line has ended: so does the process, if it has not yet."""
        process = self._process
        if self._line is not line or process is None or self._pool.closing:
            return
        self._line = None
        process.kill()
        process.wait()  # It has been killed: this does not take long.
        was_up, self.up = self.up, False
        self._let_go()
        if was_up and time.monotonic() - self._up_since_s >= STEADY_S:
            self._failures = 0
        delay_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2**self._failures)
        self._failures += 1
        if not self.refused:
            how = _how_ended(process.returncode)
            lost = self.dispatches
            say(LOG, "executor died", level=logging.WARNING, executor=self.number, pid=process.pid, how=how, lost=lost,
                again_in_s=delay_s)  # fmt: skip
        self._again = asyncio.get_running_loop().call_later(delay_s, self._pool.start_again, self)
        self._pool.lost(self)

    def _let_go(self) -> None:
        self._process = None
        self._line = None
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1


class Pool:
    """The children of one worker, from ``start`` to ``close``."""

    def __init__(self, settings: PoolSettings, telemetry: Telemetry | None = None) -> None:
        self.settings = settings
        self.environ: dict[str, str] = {}
        self.closing = False
        self.children: Sequence[ChildProcess] = [ChildProcess(n, self) for n in range(settings.executors)]
        self._telemetry = telemetry
        self._faces: dict[int, Face] = {}
        self._last = 0
        self._starting: set[asyncio.Task[None]] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()

    async def start(self) -> None:
        """Start all children; return when each has loaded the apps. Raises OperatorError where one cannot."""
        try:
            for child in self.children:
                await child.start()
            self._ticking = asyncio.get_running_loop().create_task(self._tick(), name="executors")
            async with asyncio.timeout(START_MAX_S):
                while not all(child.up for child in self.children):
                    self._moved.clear()
                    await self._moved.wait()
                    self._raise_refused()
        except BaseException as error:
            await self.close()
            if isinstance(error, TimeoutError):
                raise OperatorError(
                    f"the executor processes did not start within {START_MAX_S:.0f} s: expected them to load "
                    f"{', '.join(self.settings.targets)}. See what importing it waits for."
                ) from error
            raise

    async def close(self) -> None:
        """End all children. The faces have been closed before."""
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

    # --- faces ------------------------------------------------------------------------------------

    def join(self, face: Face) -> int:
        """A lane's executor begins; its number."""
        self._last += 1
        self._faces[self._last] = face
        return self._last

    def leave(self, number: int) -> None:
        """It has ended."""
        self._faces.pop(number, None)

    def time_of(self, child: ChildProcess) -> int:
        """Milliseconds that what is under way in a child may take, one attempt after another."""
        return sum(face.time_of(child) for face in self._faces.values())

    # --- what children tell -----------------------------------------------------------------------

    def heard(self, child: ChildProcess, message: Done | GivenBack | Wanted | Left | Closed) -> None:
        """Something about a run."""
        face = self._faces.get(message.lane)
        if face is not None:
            face.heard(child, message)

    def lost(self, child: ChildProcess) -> None:
        """A child has died."""
        if self._telemetry is not None and not child.refused:
            self._telemetry.count("millstream_executor_deaths_total")
        for face in tuple(self._faces.values()):
            face.lost(child)
        child.dispatches = child.runs = 0
        self.changed()

    def changed(self) -> None:
        """A child came up or died."""
        self._moved.set()
        if self._telemetry is not None:
            self._telemetry.set("millstream_executors", len(self.up))
        for face in tuple(self._faces.values()):
            face.changed()

    def start_again(self, child: ChildProcess) -> None:
        """The time has come to start a child anew."""
        if self.closing:
            return
        task = asyncio.get_running_loop().create_task(self._start_again(child))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start_again(self, child: ChildProcess) -> None:
        try:
            await child.start()
        except OSError as error:  # No process, no descriptor left: perhaps later.
            say(LOG, "executor not started", level=logging.ERROR, executor=child.number, why=str(error))
            asyncio.get_running_loop().call_later(BACKOFF_MAX_S, self.start_again, child)

    def _raise_refused(self) -> None:
        for child in self.children:
            if child.refused:
                raise OperatorError(f"an executor process could not load the apps: {child.refused}")
            if not child.up and not child.pid:
                raise OperatorError(
                    "an executor process died while it started: expected it to load "
                    f"{', '.join(self.settings.targets)}. Its last words are above; see what importing it does."
                )

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
