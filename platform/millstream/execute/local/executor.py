"""``LocalExecutor``: carries out dispatches with the Python functions of this process, on the lane's own event loop.

It keeps the living bodies (``body.py``) of a lane's runs and decides how long each lives:

    no body, or it has ended ── Execute ──> body, led over what is recorded (``replay.py``) ──> alive
    alive ── idle for ``park_after_s``, too many, or too much memory ──> parked: cancelled and dropped; nothing is lost
    alive ── the run ends, or ``abandon`` ──> gone

Budget: 10 µs of CPU per step beside the user's code, hence no task and no timer per step: bodies that something
happened to in a turn of the loop are checked together at its end, and one coarse watch sees to timeouts and idleness.

Warning: handlers share the loop with the lane. A step that computes for long blocks both; ``blocking.py`` names it, and
in a child process (``execute/processes/``) this same executor blocks only what runs beside it there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from millstream.errors import FunctionError, StoreFailed
from millstream.execute.changed import ChangedDispatches
from millstream.execute.local.body import Body
from millstream.execute.local.host import WATCH_EVERY_S, HostedBody
from millstream.execute.local.op import is_async
from millstream.execute.local.tasks import guard_tasks
from millstream.execute.local.threads import Threads
from millstream.execute.port import RunSource
from millstream.model.commands import HandOut, ParkDispatch
from millstream.model.effects import CodeWanted, Execute
from millstream.sdk.app import App
from millstream.sdk.context import payload_reader
from millstream.sdk.function import Function
from millstream.sdk.payloads import Reader

log = logging.getLogger(__name__)

STORE_RETRY_S: Final = 0.5
"""How long to wait where a lane's store cannot be read."""
PARKED_AT_ONCE_MAX: Final = 256
_PAGE_BYTES: Final = 4_096
_STATM: Final = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """How bodies live.

    ``park_after_s``      a body that only waited this long is parked.
    ``foreign_park_after_s``  the same for a body that waits for something beside its steps: a request, a timer.
    ``live_bodies_max``   above this many, idle ones are parked, the oldest first. Those at work stay.
    ``memory_bytes_max``  above this resident size of the process, idle bodies are parked; 0: no limit.
    ``handler_threads_max``, ``step_threads_max``  threads for plain handlers, and for plain step functions.
    """

    park_after_s: float = 10.0
    foreign_park_after_s: float = 600.0
    live_bodies_max: int = 10_000
    memory_bytes_max: int = 2 << 30
    handler_threads_max: int = 64
    step_threads_max: int = 64

    def __post_init__(self) -> None:
        if (
            min(self.park_after_s, self.foreign_park_after_s) < 0
            or min(self.live_bodies_max, self.handler_threads_max, self.step_threads_max) < 1
        ):
            raise FunctionError(f"executor refused: expected limits of at least 1 and no negative time, got {self!r}.")


class LocalExecutor:
    """Runs the functions of ``apps`` for the lane behind ``source``. Made and used on one event loop."""

    def __init__(
        self,
        apps: Iterable[App],
        source: RunSource,
        settings: LocalSettings | None = None,
        on_body_gone: Callable[[str], None] | None = None,
    ) -> None:
        """``on_body_gone`` is called with each run of which no body lives here any more: it ended, or was parked."""
        self._on_body_gone = on_body_gone
        self.source = source
        self.settings = settings or LocalSettings()
        self.loop = asyncio.get_running_loop()
        guard_tasks(self.loop)
        self.context = copy_context()
        self.handler_threads = Threads("handler", self.settings.handler_threads_max)
        self.step_threads = Threads("step", self.settings.step_threads_max)
        self.payloads: dict[str, Reader] = {}
        self.threaded: set[str] = set()
        self.tick = 0
        self._changed = ChangedDispatches()
        self._functions: dict[str, Function] = {}
        self._bodies: dict[str, Body] = {}
        self._to_check: list[HostedBody] = []
        self._watch: asyncio.TimerHandle | None = None
        self._closing = False
        self._draining = False
        for app in apps:
            self.add_app(app)

    def add_app(self, app: App) -> None:
        """From now on the functions of this app are known; it replaces an app of the same id for new bodies.

        Dispatches that were parked because the code had changed are tried again with this one.
        """
        self._functions.update(app.functions)
        for slug, function in app.functions.items():
            (self.threaded.discard if is_async(function.handler) else self.threaded.add)(slug)
            reader = payload_reader(function.handler)
            if reader is None:
                self.payloads.pop(slug, None)
            else:
                self.payloads[slug] = reader
        for unpark in self._changed.take_all():
            self.source.unpark(unpark)

    def knows(self, function: str) -> bool:
        """Whether there is code for this function, and the executor is not about to close."""
        return function in self._functions and not self._closing

    def takes_up(self, wanted: CodeWanted) -> bool:
        """Whether to hand out a parked dispatch again; see ``port.Executor``."""
        return self.knows(wanted.function) and not self._changed.holds(wanted)

    def forget_changed(self, run: str) -> None:
        """Forget what was parked of this run because the code has changed: somebody else remembers it."""
        self._changed.forget(run)

    def lives(self, run: str) -> bool:
        """Whether a body of this run is alive and takes dispatches."""
        body = self._bodies.get(run)
        return body is not None and not body.over

    @property
    def live(self) -> int:
        """The number of bodies that are alive."""
        return len(self._bodies)

    @property
    def full(self) -> bool:
        """Whether as many bodies are at work as may be alive; idle ones are parked first."""
        if len(self._bodies) < self.settings.live_bodies_max:
            return False
        self._park_idle()
        return len(self._bodies) >= self.settings.live_bodies_max

    @property
    def busy(self) -> bool:
        """Whether anything executes: a handler between steps, or a step. O(bodies)."""
        return not all(body.idle for body in self._bodies.values())

    @property
    def executing(self) -> int:
        """The number of steps that run at this moment, or have run and await a number that may still come."""
        bodies = self._bodies.values()
        apart = sum(op.ended is None or not self._draining for body in bodies for op in body.steps.running.values())
        return apart + sum(body.steps.inline is not None for body in bodies)

    def under_way(self) -> list[tuple[str, str]]:
        """What executes, as (run, step); the step is empty where it is the handler itself."""
        found: list[tuple[str, str]] = []
        for run, body in self._bodies.items():
            if not body.idle:
                steps = [op.step for op in body.steps.attempts()]
                found += [(run, step) for step in steps or [""]]
        return found

    def start(self, effect: Execute) -> None:
        """Begin a dispatch; see ``port.Executor``."""
        body = self._bodies.get(effect.run)
        if body is None or body.over or (self._draining and effect.step not in body.steps.running):
            if self._closing:
                self.source.park(ParkDispatch(effect.run, effect.step, effect.dispatch, given_back=True))
                return  # Given back: the next owner of the lane takes it up.
            body = self._make_body(effect, body)
            if body is None:
                return
        if effect.step:
            body.hand_out_step(effect)
        else:
            body.hand_out(effect)

    def abandon(self, run: str) -> None:
        """Stop what executes for a run; see ``port.Executor``."""
        self._changed.forget(run)
        body = self._bodies.pop(run, None)
        if body is not None:
            body.close()

    def holds(self, run: str, step: str, dispatch: int) -> bool:
        """Whether a dispatch is under way; see ``port.Executor``."""
        body = self._bodies.get(run)
        return body is not None and body.holds(step, dispatch)

    def drain(self) -> None:
        """Begin nothing, give back what runs no code; see ``port.Executor``."""
        self._closing = self._draining = True
        for run, body in tuple(self._bodies.items()):
            for step, dispatch in body.give_back():
                self.source.park(ParkDispatch(run, step, dispatch, given_back=True))
            if body.idle:
                self._park(body)

    def dispatches(self) -> tuple[HandOut, ...]:
        """What is under way; see ``port.Executor``."""
        return tuple(HandOut(run, *dispatch) for run, body in self._bodies.items() for dispatch in body.dispatches())

    async def close(self, grace_s: float) -> None:
        """Take nothing new, let running steps end and be reported within ``grace_s``, then give back what is left.

        Given back, not lost: a worker that stops in good order did not die of the code it ran (lanes.md rule 24).
        """
        self._closing = True
        for body in [body for body in self._bodies.values() if body.idle]:
            self._park(body)
        running = self.executing
        ends = self.loop.time() + grace_s
        # Steps end inside tasks that live on, so there is no task and no event to wait for.
        while self.executing and self.loop.time() < ends:  # noqa: ASYNC110
            await asyncio.sleep(min(0.01, grace_s))
        if running:
            left = self.executing
            log.info("executor closed ended=%d stopped=%d", running - left, left)
        for run, body in tuple(self._bodies.items()):
            for step, dispatch in body.dispatches():
                self.source.park(ParkDispatch(run, step, dispatch, given_back=True))
            self.abandon(run)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self.handler_threads.close()
        self.step_threads.close()
        await asyncio.sleep(0)  # Cancelled tasks get their turn, so that ``finally`` blocks have run.

    # --- what bodies call (``host.BodyHost``) ----------------------------------------------------------

    def check_soon(self, body: HostedBody) -> None:
        """Check this body at the end of this turn of the loop, or in the next."""
        if not self._to_check:
            self.loop.call_soon(self._check_bodies)
        self._to_check.append(body)

    def park(self, park: ParkDispatch) -> None:
        """Give a dispatch back, and remember it where the code that is here does not fit it."""
        self._changed.note(park)
        self.source.park(park)

    def forget(self, body: HostedBody) -> None:
        """Drop an ended body once nothing of it runs."""
        if not body.executing and self._bodies.get(body.run_id) is body:
            del self._bodies[body.run_id]
            self._body_gone(body)

    # --- how long bodies live ---------------------------------------------------------------------

    def _make_body(self, effect: Execute, ended: Body | None) -> Body | None:
        function = self._functions.get(effect.function)
        if function is None:
            self.source.park(ParkDispatch(effect.run, effect.step, effect.dispatch))
            return None
        view = self.source.view(effect.run)
        if view is None:
            return None  # The run has ended meanwhile.
        if len(self._bodies) >= self.settings.live_bodies_max:
            self._park_idle()
        body = Body(view, function, self, ended.steps.running if ended is not None else {})
        self._bodies[effect.run] = body
        body.answered_tick = self.tick
        if self._watch is None:
            self._watch = self.loop.call_later(WATCH_EVERY_S, self._watch_over)
        return body

    def _check_bodies(self) -> None:
        """The end of a turn: check all bodies that something happened to in it."""
        to_check, self._to_check = self._to_check, []
        for body in to_check:
            body.check_due = False
            try:
                is_to_check_again = body.answer_if_quiescent()
            except StoreFailed:  # Its rows cannot be read now; the lane says so, and mends it.
                body.check_due = True
                self.loop.call_later(STORE_RETRY_S, self.check_soon, body)
                continue
            if is_to_check_again and not body.check_due:
                body.check_due = True
                self.check_soon(body)
            elif self.handler_threads.crowded and body.threaded and body.idle:
                self._park(body)  # It occupies a thread that other handlers wait for.

    def _watch_over(self) -> None:
        self.tick += 1
        now_ms = self.source.now_ms()
        idle_ticks = self.settings.park_after_s / WATCH_EVERY_S
        foreign_ticks = max(self.settings.foreign_park_after_s / WATCH_EVERY_S, idle_ticks)
        for body in tuple(self._bodies.values()):
            body.watch(now_ms)
            idle_for = self.tick - body.answered_tick
            if idle_for >= idle_ticks and body.idle and (idle_for >= foreign_ticks or not body.delay.foreign):
                self._park(body)
        limit = self.settings.memory_bytes_max
        if limit and resident_bytes() > limit:
            self._park_idle()
        self._watch = self.loop.call_later(WATCH_EVERY_S, self._watch_over) if self._bodies else None

    def _park_idle(self) -> None:
        """Park some idle bodies, the oldest first."""
        idle = []
        for body in self._bodies.values():
            if body.idle:
                idle.append(body)
                if len(idle) >= PARKED_AT_ONCE_MAX:
                    break
        for body in idle:
            self._park(body)

    def _park(self, body: HostedBody) -> None:
        if self._bodies.get(body.run_id) is body:
            del self._bodies[body.run_id]
            body.close()
            self._body_gone(body)

    def _body_gone(self, body: HostedBody) -> None:
        if self._on_body_gone is not None:
            self._on_body_gone(body.run_id)


def resident_bytes() -> int:
    """The resident size of this process; 0 where the system does not say."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0
