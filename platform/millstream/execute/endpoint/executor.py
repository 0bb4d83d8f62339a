"""``EndpointExecutor``: a lane's executor whose functions run in apps over HTTP.

    Execute ──> Job ──slot──> call ──> Report
                  │             ├── nothing was executed, and the app is not well: parked; handed out again when it is
                  │             └── broken after it was sent, or its process died: LoseDispatch (lanes.md rule 24)
                  └── the app is down, unknown, or too many wait for it: parked

Nothing lives here between calls: what a call needs is read from the lane's rows when it is made. What is parked rests
in the lane's table, not here; when an app comes up, or has room, its parked dispatches are read from there and handed
out again, a page at a time. What waits for a slot of an app that goes, or moves, is parked too: it follows the app.

A call is made at least once, as every step is: an app must expect the same call again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from millstream.errors import StoreFailed
from millstream.execute.endpoint import gateway
from millstream.execute.endpoint.carrying import Carrier, CarrierDied, CarrierHere, Work
from millstream.execute.endpoint.endpoints import BROKEN, NOT_SENT, Endpoint, Endpoints
from millstream.execute.endpoint.http import Broken, NotSent
from millstream.execute.endpoint.replies import OF_THE_APP, Answered, failed_here, not_remembered, outcome_of
from millstream.execute.endpoint.slots import Slots
from millstream.execute.port import RunSource, RunView
from millstream.model import limits
from millstream.model.commands import HandOut, LoseDispatch, ParkDispatch, Report, Unpark
from millstream.model.effects import CodeWanted, Execute
from millstream.model.ids import ulid
from millstream.model.operations import BodyDone, StepDone, StepFound
from millstream.model.rows import Hand

LOG: Final = logging.getLogger("millstream.endpoints")
TAKEN_UP_AT_ONCE_MAX: Final = 200
TAKE_UP_PAUSE_S: Final = 0.02
STEP_MS: Final = 2 * limits.HOUR_MS
"""How long a call may take whose function says nothing of that."""
STORE_RETRY_S: Final = 0.5
"""How long to wait where a lane's store cannot be read."""


class Refused(Exception):
    """The app is down, and nothing of the dispatch was executed."""


class Job:
    """A dispatch under way. ``effect`` is the hand-out that it answers: the newest number that was told."""

    __slots__ = ("_executor", "effect", "endpoint", "slots", "task")

    def __init__(self, executor: EndpointExecutor, effect: Execute, endpoint: Endpoint, slots: Slots) -> None:
        self._executor = executor
        self.effect = effect
        self.endpoint = endpoint
        self.slots = slots
        self.task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """It has a slot."""
        self._executor.begin(self)

    def over(self, task: asyncio.Task[None]) -> None:
        """It has ended."""
        self._executor.over(self)


class EndpointExecutor:
    """Calls the apps of ``endpoints`` for the lane behind ``source``; see ``port.Executor``."""

    def __init__(self, source: RunSource, endpoints: Endpoints, carrier: Carrier | None = None) -> None:
        """``carrier`` makes the calls; None: this process does."""
        self.source = source
        self._carrier = carrier or CarrierHere(endpoints, source.now_ms)
        self._endpoints = endpoints
        self._jobs: dict[str, dict[str, Job]] = {}
        self._executing = 0
        self._requests = 0
        self._to_take_up: set[str] = set()
        self._taking_up: asyncio.Task[None] | None = None
        self._planning: set[str] = set()  # Runs whose app plans and speaks a version that must know it.
        self._closing = False
        self._loop = asyncio.get_running_loop()
        endpoints.listen(self)

    # --- port.Executor ------------------------------------------------------------------------

    def start(self, effect: Execute) -> None:
        """Begin a dispatch; see ``port.Executor``."""
        jobs = self._jobs.get(effect.run)
        job = jobs.get(effect.step) if jobs is not None else None
        if job is not None:
            job.effect = effect
            return
        endpoint = self._endpoints.of(effect.function)
        if self._closing or endpoint is None:
            self._park(effect)
            return
        slots = self._slots(endpoint, effect.run, effect.step)
        if not ((endpoint.is_up or slots is endpoint.outside) and slots.takes()):
            self._park(effect)
            return
        job = Job(self, effect, endpoint, slots)
        if jobs is None:
            self._jobs[effect.run] = {effect.step: job}
        else:
            jobs[effect.step] = job
        slots.enter(job)

    def abandon(self, run: str) -> None:
        """Stop what executes for a run; see ``port.Executor``. The app is not told: its answer is dropped."""
        self._planning.discard(run)
        for job in tuple(self._jobs.get(run, {}).values()):
            self._drop(job)

    def holds(self, run: str, step: str, dispatch: int) -> bool:
        """Whether a dispatch is under way; see ``port.Executor``."""
        job = self._jobs.get(run, {}).get(step)
        return job is not None and job.effect.dispatch == dispatch

    def knows(self, function: str) -> bool:
        """Whether an app has this function, whether it answers or not, and the executor is not about to close."""
        return not self._closing and self._endpoints.of(function) is not None

    def takes_up(self, wanted: CodeWanted) -> bool:
        """Whether to hand out a parked dispatch again: its app answers, and not too many wait where it would."""
        if self._closing:
            return False
        endpoint = self._endpoints.of(wanted.function)
        if endpoint is None or not endpoint.is_up:
            return False
        return self._slots(endpoint, wanted.run, wanted.step).takes()

    @property
    def full(self) -> bool:
        """Never: what is too much is parked, so that an app that is slow keeps no other from its work."""
        return False

    @property
    def executing(self) -> int:
        """The number of calls under way."""
        return self._executing

    def drain(self) -> None:
        """Begin nothing more, give back what waits for a slot; see ``port.Executor``."""
        self._closing = True
        self._endpoints.leave(self)
        if self._taking_up is not None:
            self._taking_up.cancel()
        for job in self._all():
            if job.task is None:
                self._give_back(job)

    def dispatches(self) -> tuple[HandOut, ...]:
        """What is under way; see ``port.Executor``."""
        effects = [job.effect for job in self._all()]
        return tuple(HandOut(effect.run, effect.step, effect.dispatch) for effect in effects)

    async def close(self, grace_s: float) -> None:
        """Let calls under way end and be reported within ``grace_s``, then give back what is left."""
        self.drain()
        tasks = [job.task for job in self._all() if job.task is not None]
        if tasks and grace_s > 0:
            await asyncio.wait(tasks, timeout=grace_s)
        left = self._all()
        for job in left:
            self._give_back(job)
        await asyncio.gather(*(job.task for job in left if job.task is not None), return_exceptions=True)

    # --- what endpoints call ------------------------------------------------------------------

    def on_up(self, endpoint: Endpoint) -> None:
        """An app can be called (again), or has room: take up what is parked for it."""
        self._take_up_soon(endpoint.functions)

    def on_gone(self, endpoint: Endpoint) -> None:
        """An app is gone, or is elsewhere: what waits for a slot is parked, and taken up where the app is now."""
        self._park_waiting(endpoint.slots)
        self._park_waiting(endpoint.outside)

    def begin(self, job: Job) -> None:
        """A job has its slot."""
        self._executing += 1
        job.task = task = self._loop.create_task(self._carry_out(job))
        task.add_done_callback(job.over)  # A task that is cancelled before its first turn runs no ``finally``.

    # --- one call -----------------------------------------------------------------------------

    async def _carry_out(self, job: Job) -> None:
        try:
            answered = await self._answer(job)
        except NotSent as error:
            job.endpoint.unreachable(error)
            self._refused(job)
        except Refused:
            self._refused(job)
        except (Broken, CarrierDied) as error:
            if isinstance(error, Broken):
                await job.endpoint.examine(f"the connection to {job.endpoint.url} broke in a call: {error}")
            self._end(job)
            effect = job.effect
            self.source.lose(LoseDispatch(effect.run, effect.step, effect.dispatch))
        except Exception as error:  # Ours: without a report the run would hang.
            LOG.exception("a call could not be carried out")
            self._end(job)
            self._report(job, failed_here(error))
        else:
            self._end(job)
            if answered is not None:
                self._report(job, answered)

    def _refused(self, job: Job) -> None:
        """Its app is down: neither it nor what waits for a slot there is called."""
        self._end(job)
        self._park(job.effect)
        self._park_waiting(job.endpoint.slots)

    def over(self, job: Job) -> None:
        """A job's task has ended."""
        self._executing -= 1
        job.slots.leave()

    async def _answer(self, job: Job) -> Answered | None:
        """What the app answers; None: there is nothing to carry out any more."""
        view = await self._view(job.effect.run)
        if view is None:  # The run is over, or the lane has gone to another worker and shows nothing any more.
            self.source.park(ParkDispatch(job.effect.run, job.effect.step, job.effect.dispatch, given_back=True))
            return None
        endpoint, effect = job.endpoint, job.effect
        if job.slots is not endpoint.outside and not endpoint.is_up:
            raise Refused
        spec = endpoint.functions.get(effect.function)
        now_ms = self.source.now_ms()
        self._requests += 1
        work = Work(
            view,
            effect,
            endpoint.app.id,
            endpoint.url,
            retries=spec.retries if spec is not None else limits.RETRIES_DEFAULT,
            version=endpoint.version,
            plans=effect.run in self._planning,
            request_id=ulid(now_ms, id(self).to_bytes(8, "big")[-5:] + self._requests.to_bytes(5, "big")),
            started_ms=now_ms,
            total_s=(spec.step_timeout_ms if spec is not None else STEP_MS) / 1_000,
        )
        if job.slots is endpoint.outside:  # A request of a step, of others than the app.
            return await self._carrier.carry_out(work, endpoint)
        answered = await self._called(work, endpoint)
        if answered.trouble:
            is_well = await endpoint.examine(answered.trouble)
            if is_well and answered.nothing_ran:
                answered = await self._called(work, endpoint)
                is_well = not answered.trouble or await endpoint.examine(answered.trouble)
            is_of_all = answered.is_of_all and endpoint.trouble == answered.trouble
            if (answered.nothing_ran or is_of_all) and not is_well:
                raise Refused
        return _told_again(view, answered)

    async def _called(self, work: Work, endpoint: Endpoint) -> Answered:
        """What the app answers to one call, which is counted. Raises NotSent, Broken, CarrierDied."""
        started_s = self._loop.time()
        try:
            answered = await self._carrier.carry_out(work, endpoint)
        except (NotSent, Broken) as error:
            endpoint.count(NOT_SENT if isinstance(error, NotSent) else BROKEN, self._loop.time() - started_s)
            raise
        outcome = outcome_of(answered)
        endpoint.count(outcome, self._loop.time() - started_s)
        if outcome in OF_THE_APP:
            endpoint.said(answered.version)
        return answered

    async def _view(self, run: str) -> RunView | None:
        while True:
            try:
                return self.source.view(run)
            except StoreFailed:  # Its rows cannot be read now; the lane says so, and mends it.
                await asyncio.sleep(STORE_RETRY_S)

    def _report(self, job: Job, answered: Answered) -> None:
        effect, operations = job.effect, answered.operations
        if answered.version < 2 and any(type(one) is StepFound for one in operations):
            self._planning.add(effect.run)
        if any(type(one) is BodyDone for one in operations):
            self._planning.discard(effect.run)
        joint = answered.joint if not effect.step else None
        self.source.report(Report(effect.run, effect.step, effect.attempt, effect.dispatch, operations, joint))

    # --- jobs ---------------------------------------------------------------------------------

    def _all(self) -> list[Job]:
        return [job for jobs in self._jobs.values() for job in jobs.values()]

    def _slots(self, endpoint: Endpoint, run: str, step: str) -> Slots:
        """Where a dispatch of the app waits for its turn."""
        row = self.source.step(run, step) if step else None
        return endpoint.outside if row is not None and row.kind in gateway.KINDS else endpoint.slots

    def _end(self, job: Job) -> None:
        """It is under way no more."""
        jobs = self._jobs.get(job.effect.run)
        if jobs is not None and jobs.get(job.effect.step) is job:
            del jobs[job.effect.step]
            if not jobs:
                del self._jobs[job.effect.run]

    def _drop(self, job: Job) -> None:
        self._end(job)
        if job.task is not None:
            job.task.cancel()
        else:
            job.slots.drop(job)

    def _park_waiting(self, slots: Slots) -> None:
        """Park what waits for a slot there."""
        if not slots.waiting:
            return
        for job in self._all():
            if job.slots is slots and job.task is None:
                self._drop(job)
                self._park(job.effect)

    def _give_back(self, job: Job) -> None:
        self._drop(job)
        effect = job.effect
        self.source.park(ParkDispatch(effect.run, effect.step, effect.dispatch, given_back=True))

    def _park(self, effect: Execute) -> None:
        self.source.park(ParkDispatch(effect.run, effect.step, effect.dispatch, given_back=self._closing))

    # --- taking up what is parked -------------------------------------------------------------

    def _take_up_soon(self, functions: Iterable[str]) -> None:
        if self._closing:
            return
        self._to_take_up.update(functions)
        if self._taking_up is None or self._taking_up.done():
            self._taking_up = self._loop.create_task(self._take_up_all())

    async def _take_up_all(self) -> None:
        while self._to_take_up:
            await self._take_up(self._to_take_up.pop())

    async def _take_up(self, function: str) -> None:
        """Hand out again what is parked for a function, a page at a time, as long as its app answers and has room."""
        behind = ("", "")
        while True:
            endpoint = self._endpoints.of(function)
            if self._closing or endpoint is None or not endpoint.is_up or not endpoint.slots.takes_many():
                return
            try:
                page = self.source.parked_of(function, behind, TAKEN_UP_AT_ONCE_MAX)
                slots = [self._slots(endpoint, wanted.run, wanted.step) for wanted in page]
            except StoreFailed:
                await asyncio.sleep(STORE_RETRY_S)
                continue
            for wanted, its in zip(page, slots, strict=True):
                if its.takes_many():  # Those of steps that ask others may have no room while the app's have.
                    self.source.unpark(Unpark(wanted.run, wanted.step, wanted.dispatch))
                behind = (wanted.run, wanted.step)
            if len(page) < TAKEN_UP_AT_ONCE_MAX:
                return
            await asyncio.sleep(TAKE_UP_PAUSE_S)


def _told_again(view: RunView, answered: Answered) -> Answered:
    """The same, unless a step ran that the call said was resolved: called again, the app would run it for ever."""
    ran = {operation.step for operation in answered.operations if type(operation) is StepDone}
    again = next((row for row in view.steps if row.step in ran and row.hand in (Hand.DONE, Hand.FAILED)), None)
    return answered if again is None else not_remembered(again.step, again.name)
