"""``Child``: the child's side of ``--executors N``: ordinary ``LocalExecutor``s, one for each lane, and a connection.

    connection ── Begin ──> rows of the run (``RunCache``) ──> LocalExecutor.start ──> body
    connection <── Reported, Parked, BodyGone ── LocalExecutor
    connection ── MakeCall ──> ChildCalls ── CallMade ──> connection     apps over HTTP (``child_calls.py``)

Code is executed just as in the worker's own process. New here is how a child dies: with the worker, at once, whatever
the user's code is doing (a thread waits for the end of a pipe that only the worker holds; on Linux the kernel is asked,
too), and when the code of a step blocks the loop for longer than the step's time limit.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Final

import msgspec

from millstream.errors import MillstreamError
from millstream.execute.local.blocking import LoopWatch, executing
from millstream.execute.local.executor import LocalExecutor, LocalSettings
from millstream.execute.port import RunView
from millstream.execute.processes.child_calls import ChildCalls
from millstream.execute.processes.messages import (
    Begin,
    BodyGone,
    CallSettings,
    Close,
    Closed,
    Connection,
    Drain,
    Drop,
    DropCall,
    End,
    Environ,
    Hello,
    MakeCall,
    NeedsView,
    Parked,
    Ping,
    Pong,
    Refused,
    Reported,
    Setup,
    ToChild,
)
from millstream.model.commands import LoseDispatch, ParkDispatch, Report, Unpark
from millstream.model.effects import CodeWanted
from millstream.model.rows import StepRow
from millstream.sdk.app import App
from millstream.telemetry import say

LOG: Final = logging.getLogger("millstream.executor")
PARENT_GONE: Final = 70
"""Exit codes: the worker has died; a step blocked the loop for too long."""
BLOCKED: Final = 71
_PR_SET_PDEATHSIG: Final = 1


class RunCache:
    """The source of one lane's executor here: the rows of its runs that the worker has sent (``port.RunSource``)."""

    def __init__(self, lane: int, connection: Connection) -> None:
        self._lane = lane
        self._connection = connection
        self._rows: dict[str, dict[str, StepRow]] = {}
        self._view: RunView | None = None

    def take(self, begin: Begin) -> None:
        """Keep what comes with a dispatch; a full view until ``forget_view``, when the new body has what it needs."""
        if begin.view is not None:
            self._view = begin.view
            self._rows[begin.effect.run] = {row.step: row for row in begin.view.steps}
        elif begin.rows:
            self._rows[begin.effect.run].update((row.step, row) for row in begin.rows)

    def forget_view(self) -> None:
        """The dispatch has begun."""
        self._view = None

    def drop(self, run: str) -> None:
        """No body of this run lives here any more."""
        self._rows.pop(run, None)

    def view(self, run: str) -> RunView | None:
        """The run as sent with the dispatch that begins now."""
        view = self._view
        return view if view is not None and view.run.run == run else None

    def step(self, run: str, step: str) -> StepRow | None:
        """One step as last sent."""
        rows = self._rows.get(run)
        return rows.get(step) if rows is not None else None

    def parked_of(self, function: str, behind: tuple[str, str], limit: int) -> Sequence[CodeWanted]:
        """None: what is parked, the worker knows."""
        return ()

    def report(self, report: Report) -> None:
        """Send a report."""
        self._connection.send(Reported(self._lane, report))

    def park(self, park: ParkDispatch) -> None:
        """Give a dispatch back."""
        self._connection.send(Parked(self._lane, park))

    def lose(self, lost: LoseDispatch) -> None:
        """Nothing is lost within one process."""
        raise AssertionError(f"only a pool of processes loses dispatches, got {lost!r}")

    def unpark(self, unpark: Unpark) -> None:
        """What was given back, the worker takes up again."""
        raise AssertionError(f"only a pool of processes takes dispatches up again, got {unpark!r}")

    def now_ms(self) -> int:
        """This machine's clock, which is the worker's."""
        return time.time_ns() // 1_000_000


class LaneExecutor:
    """One lane's executor in this child."""

    def __init__(self, number: int, child: Child) -> None:
        self.number = number
        self.source = RunCache(number, child.connection)
        self._connection = child.connection
        self.executor = LocalExecutor(child.apps, self.source, child.settings, self._body_gone)

    def begin(self, begin: Begin) -> None:
        """Carry out a dispatch."""
        run = begin.effect.run
        if begin.view is None and not self.executor.lives(run):
            self._connection.send(NeedsView(self.number, begin.effect))
            return
        self.source.take(begin)
        self.executor.start(begin.effect)
        self.source.forget_view()
        if not self.executor.lives(run):
            self._body_gone(run)

    def drop(self, run: str) -> None:
        """The run is over."""
        self.executor.abandon(run)
        self.source.drop(run)

    async def close(self, grace_s: float) -> None:
        """End, and send Closed."""
        await self.executor.close(grace_s)
        self._connection.send(Closed(self.number))

    def _body_gone(self, run: str) -> None:
        self.source.drop(run)
        self.executor.forget_changed(run)  # The worker remembers those.
        self._connection.send(BodyGone(self.number, run))


class ChildConnection(Connection):
    """A connection that reads nothing while the worker takes less than it is sent: so the worker's end congests."""

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        super().resume_writing()


class Child:
    """Answers the worker's messages, from the first Begin on."""

    def __init__(self, apps: Sequence[App], settings: LocalSettings, calls: CallSettings) -> None:
        self.apps = apps
        self.settings = settings
        self.connection: Connection = ChildConnection(ToChild, self._take, _parent_gone)
        self._calls = ChildCalls(self.connection, calls.settings)
        self.ended = asyncio.Event()
        self._lanes: dict[int, LaneExecutor] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def serve(self, sock: socket.socket) -> None:
        """Until the worker says End."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self.connection, sock=sock)
        functions = {slug: f.spec.step_timeout_ms for app in self.apps for slug, f in app.functions.items()}
        self.connection.send(Hello(functions))
        # Here a blocked loop holds up only the steps beside it: nothing to warn of.
        watch = LoopWatch(level=logging.DEBUG, while_blocked=Watchdog().check)
        watch.start()
        await self.ended.wait()
        watch.stop()
        self.connection.close()

    def _take(self, message: ToChild) -> None:
        match message:
            case Begin(lane=number):
                self._lane(number).begin(message)
            case Drop(lane=number, run=run):
                lane = self._lanes.get(number)
                if lane is not None:
                    lane.drop(run)
            case Drain(lane=number):
                lane = self._lanes.get(number)
                if lane is not None:
                    lane.executor.drain()
            case Close(lane=number, grace_s=grace_s):
                closing = asyncio.get_running_loop().create_task(self._close(number, grace_s))
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
            case MakeCall():
                self._calls.begin(message)
            case DropCall(lane=number, number=call):
                self._calls.drop(number, call)
            case Environ(values=values):
                os.environ.update(values)
            case Ping(number=number):
                self.connection.send(Pong(number))
            case End():
                self.ended.set()
            case Setup():
                raise AssertionError("Setup comes once, before anything else")

    def _lane(self, number: int) -> LaneExecutor:
        lane = self._lanes.get(number)
        if lane is None:
            lane = self._lanes[number] = LaneExecutor(number, self)
        return lane

    async def _close(self, number: int, grace_s: float) -> None:
        await self._lane(number).close(grace_s)
        del self._lanes[number]  # Its number does not come back.


def _parent_gone() -> None:
    os._exit(PARENT_GONE)  # At once: another worker may run the same steps soon.


class Watchdog:
    """Ends this process when one attempt has blocked the loop for longer than its function's step_timeout.

    Nothing less would stop the attempt. Several attempts that block one after another are each given their time.
    """

    def __init__(self) -> None:
        self._blocking: tuple[object, object] = (None, None)
        self._since_s = 0.0

    def check(self, frame: FrameType | None) -> None:
        """Called by a thread, again and again, while the loop is blocked."""
        body, op = executing(frame)
        now_s = time.monotonic()
        if (body, op) != self._blocking:
            self._blocking, self._since_s = (body, op), now_s
        blocked_s = now_s - self._since_s
        if body is None or blocked_s * 1_000 <= body.function.spec.step_timeout_ms:
            return
        say(
            LOG,
            "executor ended itself",
            level=logging.ERROR,
            why="an attempt blocked it for longer than the function's step_timeout; what else it ran is run again",
            function=body.function.spec.slug,
            run=body.run_id,
            step=op.step if op is not None else "(between steps)",
            blocked_s=round(blocked_s, 1),
        )
        os._exit(BLOCKED)


def die_with_parent(alive: int) -> None:
    """End this process as soon as the pipe ends: only the worker holds its other end."""

    def wait() -> None:
        with suppress(OSError):
            os.read(alive, 1)
        _parent_gone()

    threading.Thread(target=wait, name="millstream-alive", daemon=True).start()
    die_with_parent_process()
    # The worker decides when a child ends. Functions and not SIG_IGN: processes that steps start must not inherit it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)


def die_with_parent_process() -> None:
    """Have the kernel end this process with its parent, where it can (Linux)."""
    if sys.platform == "linux":  # A thread needs the interpreter, which code in C may hold; the kernel does not.
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def first_message(sock: socket.socket) -> Setup:
    """Wait for the Setup, which every child gets first. Later messages stay in the socket."""
    head = _exactly(sock, 4)
    (setup,) = msgspec.msgpack.decode(_exactly(sock, int.from_bytes(head)), type=list[Setup])
    return setup


def refuse(sock: socket.socket, error: MillstreamError) -> None:
    """Tell the worker why there will be no executor."""
    body = msgspec.msgpack.encode([Refused(str(error))])
    sock.sendall(len(body).to_bytes(4) + body)
    sock.close()


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            _parent_gone()
        data += part
    return data
