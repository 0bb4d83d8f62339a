"""Random functions, and the one handler that plays them. What a program may lead to is known from its text alone.

A program is a tuple of operations; ``Gather`` holds branches of them. Step results are numbers that no two executions
share, so that a result tells which execution it came from.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from millstream.errors import NonRetriableError, RetryAfterError, StepError
from millstream.model.event import FUNCTION_CANCELLED, FUNCTION_FINISHED, Event
from millstream.sdk.app import App
from millstream.sdk.backoff import Table
from millstream.sdk.bounds import CancelOn, Timeouts
from millstream.sdk.context import Context
from millstream.sdk.current import current

if TYPE_CHECKING:
    from tests.sim.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Step:
    """``ctx.step.run``: fails so many times, takes so long."""

    id: str
    fails: int = 0
    final: bool = False  # its failure is not retriable
    after_s: float = -1  # its failure says when to try again
    length_s: float = 0.0
    caught: bool = False  # the body goes on without it


@dataclass(frozen=True, slots=True)
class Sleep:
    id: str
    length_s: float


@dataclass(frozen=True, slots=True)
class Send:
    """Events for other functions, some of them later, some with ids of their own and twice."""

    id: str
    names: tuple[str, ...]
    later_s: float = 0.0
    own_id: bool = False


@dataclass(frozen=True, slots=True)
class Publish:
    id: str


@dataclass(frozen=True, slots=True)
class Boom:
    """The body raises so many times; final: the run fails here."""

    id: str
    times: int
    final: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """The body itself waits for something foreign."""

    length_s: float


@dataclass(frozen=True, slots=True)
class Gather:
    branches: tuple[tuple[Op, ...], ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """``ctx.step.wait_for_event`` for an answer to the run's question, asked in one of three ways."""

    id: str
    form: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Signal:
    """``ctx.step.wait_for_signal``, of a name that no other run uses."""

    id: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Call:
    """``ctx.step.invoke_by_id``; the body goes on where it fails."""

    id: str
    slug: str
    detached: bool


@dataclass(frozen=True, slots=True)
class Posted:
    """``ctx.step.callback``, and so long afterwards its result, perhaps twice."""

    id: str
    timeout_s: float
    pause_s: float
    is_asked_twice: bool


@dataclass(frozen=True, slots=True)
class Down:
    """``ctx.step.run`` of a service that is down so many times, however often it is resumed."""

    id: str
    times: int
    final: bool = False  # it says that trying again cannot help
    caught: bool = False


Op = Step | Sleep | Send | Publish | Boom | Wait | Gather | Answered | Signal | Call | Posted | Down
Program = tuple[Op, ...]


@dataclass(frozen=True, slots=True)
class Planned:
    """A function of the simulation and what it may lead to."""

    slug: str
    id: str
    event: str  # empty: a cron
    program: Program
    retries: int
    on_failure: bool
    flow: tuple[tuple[str, Any], ...] = ()
    """The options of its flow control, as ``@app.function`` takes them."""
    halt: str = ""  # an event of the same number cancels its runs
    finish_s: float = 0.0  # they must be over by then
    holds: bool = False

    @property
    def fails(self) -> bool:
        """Whether every run of it fails, if nothing cancels it."""
        return _fails(self.program, self.retries)


def _fails(program: Program, retries: int) -> bool:
    for op in program:
        match op:
            case Step():
                if ((op.final and op.fails > 0) or op.fails > retries) and not op.caught:
                    return True
            case Boom():
                if op.final:
                    return True
            case Gather():
                if any(_fails(branch, retries) for branch in op.branches):
                    return True
            case _:
                pass
    return False


def steps_of(program: Program) -> dict[str, Step]:
    """The ``Step``s of a program by id."""
    found: dict[str, Step] = {}
    for op in program:
        if isinstance(op, Step):
            found[op.id] = op
        elif isinstance(op, Gather):
            for branch in op.branches:
                found |= steps_of(branch)
    return found


def plan(rng: Random, app: str, first: int, count: int) -> list[Planned]:
    """``count`` functions; each sends events only to those with higher numbers, so that all of it ends."""
    planned = []
    for number in range(first, first + count):
        retries = rng.choice([0, 1, 2, 3])
        writer = _Writer(rng, number, first + count, retries)
        id = f"f{number}"
        program = writer.sequence(rng.randint(1, 5), depth=0)
        planned.append(Planned(f"{app}-{id}", id, f"go/{number}", program, retries, rng.random() < 0.25))
    if rng.random() < 0.4:
        number = first + count
        program = _Writer(rng, number, number, 1, short=True).sequence(rng.randint(1, 2), depth=1)
        planned.append(Planned(f"{app}-cron", "cron", "", program, 1, False))
    return planned


class _Writer:
    def __init__(self, rng: Random, number: int, functions: int, retries: int, *, short: bool = False) -> None:
        self._booms = retries  # Of the whole body: its attempts are counted together where no step is in between.
        self._sleeps_s = [0.0, 0.05, 1.0, 1.0, 5.0] + ([] if short else [5.0, 100.0])
        self._rng = rng
        self._number = number
        self._functions = functions
        self._retries = retries
        self._ids = 0

    def sequence(self, length: int, depth: int) -> Program:
        return tuple(self._op(depth) for _ in range(length))

    def _id(self, kind: str) -> str:
        self._ids += 1
        return f"{kind}{self._ids}"

    def _op(self, depth: int) -> Op:
        rng = self._rng
        roll = rng.random()
        if roll < 0.45:
            return self._step()
        if roll < 0.6 and depth < 2:
            return Gather(tuple(self.sequence(rng.randint(1, 2), depth + 1) for _ in range(rng.randint(2, 4))))
        if roll < 0.7:
            return Sleep(self._id("sleep"), rng.choice(self._sleeps_s))
        if roll < 0.8:
            later = range(self._number + 1, self._functions)
            names = tuple(f"go/{rng.choice(later)}" for _ in range(rng.randint(1, 2)) if later) or ("heard/by.nobody",)
            return Send(self._id("send"), names, rng.choice([0.0, 0.0, 4.0]), rng.random() < 0.3)
        if roll < 0.87:
            return Publish(self._id("publish"))
        if roll < 0.93 and depth == 0:
            if rng.random() < 0.2:
                return Boom(self._id("boom"), 1, final=True)
            times = rng.randint(0, self._booms)
            self._booms -= times
            return Boom(self._id("boom"), times)
        return Wait(rng.choice([0.0, 0.02, 1.5])) if depth == 0 else self._step()

    def _step(self) -> Step:
        rng = self._rng
        fails = rng.choice([0, 0, 0, 0, 1, 1, 2, self._retries + 1])
        return Step(
            self._id("step"),
            fails=fails,
            final=fails > 0 and rng.random() < 0.15,
            after_s=1.0 if rng.random() < 0.1 else -1,
            length_s=rng.choice([0.0, 0.0, 0.0, 0.01, 0.3, 2.0]),
            caught=rng.random() < 0.7,
        )


def make_app(id: str, planned: list[Planned], ledger: Ledger, *, announced: bool, edited: bool = False) -> App:
    """The app of these functions; ``announced``: something listens to how runs end.

    ``edited``: in a replay they do not ask for what is recorded.
    """
    app = App(id)
    for one in planned:
        options: dict[str, Any] = {"on": one.event} if one.event else {"cron": "@every 20s"}
        options |= dict(one.flow)
        if one.on_failure:
            options["on_failure"] = _quiet
        if one.halt:
            options["cancel_on"] = [CancelOn(one.halt, match="data.q")]
        if one.finish_s:
            options["timeouts"] = Timeouts(finish=one.finish_s)
        if one.holds:
            options["on_exhausted"] = "hold"
        app.function(id=one.id, retries=one.retries, backoff=Table(["100ms", "1s"]), **options)(
            _handler(one, ledger, edited)
        )
    if announced:
        app.function(id="listener", on=[FUNCTION_FINISHED, FUNCTION_CANCELLED], if_=_NOT_ITSELF.format(id), retries=0)(
            _quiet
        )
    return app


_NOT_ITSELF = "event.data.function_id != '{}-listener'"


async def _never() -> None:
    raise AssertionError("a step that nobody planned has run")


async def _quiet(ctx: Context) -> None:
    """A function without steps."""


EDITED = "edited"
"""The step that edited code asks for first when it is led over recorded results."""


def _handler(planned: Planned, ledger: Ledger, edited: bool) -> Any:
    # Without annotations: evaluating them for each lane of each world costs more than the handler.
    async def handler(ctx):  # type: ignore[no-untyped-def]
        ledger.entered(ctx.run_id, planned)
        if edited and ledger.remembers(ctx.run_id):
            await ctx.step.run(EDITED, _never)
        seen: dict[str, Any] = {}
        await _play(planned.program, ctx, ledger, seen)
        return seen

    return handler


async def _play(program: Program, ctx: Context, ledger: Ledger, seen: dict[str, Any]) -> None:
    for op in program:
        match op:
            case Step():
                try:
                    value = await ctx.step.run(op.id, _step_code, op, ledger)
                except StepError as error:
                    ledger.saw(ctx.run_id, op.id, error)
                    if not op.caught:
                        raise
                    seen[op.id] = error.name
                else:
                    ledger.saw(ctx.run_id, op.id, value)
                    seen[op.id] = value
            case Down():
                try:
                    seen[op.id] = await ctx.step.run(op.id, _down_code, op, ledger)
                except StepError as error:
                    ledger.saw(ctx.run_id, op.id, error)
                    if not op.caught:
                        raise
                    seen[op.id] = error.name
                else:
                    ledger.saw(ctx.run_id, op.id, seen[op.id])
            case Sleep():
                await ctx.step.sleep(op.id, op.length_s)
                ledger.saw(ctx.run_id, op.id, None)
            case Send():
                now_s = ledger.true_ms() / 1000
                # The data must not change between attempts; the time is taken where the step is found.
                events = [
                    Event(
                        name,
                        {"from": ctx.run_id},
                        id=f"{ctx.run_id}/{op.id}/own" if op.own_id else None,
                        ts=int((now_s + op.later_s) * 1000) if op.later_s else None,
                    )
                    for name in op.names
                ]
                seen[op.id] = await ctx.step.send_event(op.id, events)
                ledger.saw(ctx.run_id, op.id, {"ids": seen[op.id]})
            case Publish():
                await ctx.step.publish(op.id, "out", ctx.run_id, {"step": op.id})
                ledger.saw(ctx.run_id, op.id, None)
            case Boom():
                if op.final:
                    raise NonRetriableError(op.id)
                if ledger.boom(ctx.run_id, op.id, op.times):
                    raise ValueError(op.id)
            case Wait():
                await asyncio.sleep(op.length_s)
            case Answered():
                seen[op.id] = as_recorded(await _answer(op, ctx))
                ledger.saw(ctx.run_id, op.id, seen[op.id])
            case Signal():
                seen[op.id] = await ctx.step.wait_for_signal(op.id, f"s-{ctx.run_id}", timeout=op.timeout_s)
                ledger.saw(ctx.run_id, op.id, seen[op.id])
            case Call():
                try:
                    seen[op.id] = await ctx.step.invoke_by_id(op.id, op.slug, timeout=300, detached=op.detached)
                except StepError as error:
                    ledger.saw(ctx.run_id, op.id, error)
                    seen[op.id] = error.name
                else:
                    ledger.saw(ctx.run_id, op.id, seen[op.id])
            case Posted():
                await _posted(op, ctx, ledger, seen)
            case Gather():
                await asyncio.gather(*(_play(branch, ctx, ledger, seen) for branch in op.branches))


async def _posted(op: Posted, ctx: Context, ledger: Ledger, seen: dict[str, Any]) -> None:
    made = await ctx.step.callback(op.id, timeout=op.timeout_s)
    if op.pause_s:
        await ctx.step.sleep(f"{op.id}-pause", op.pause_s)
        ledger.saw(ctx.run_id, f"{op.id}-pause", None)
    for step in (f"{op.id}/result", f"{op.id}/result:1")[: 1 + op.is_asked_twice]:
        seen[step] = await made.result()
        ledger.saw(ctx.run_id, step, seen[step])


ASKED = ({"match": "data.q"}, {"if_": "event.data.q == async.data.q"}, {"if_": "async.data.q + 0 == event.data.q"})
"""By one place for all questions, by the last: no equality that a place could stand for."""


def _answer(op: Answered, ctx: Context) -> Any:
    return ctx.step.wait_for_event(op.id, event="answer", timeout=op.timeout_s, **ASKED[op.form])  # type: ignore[arg-type]


def as_recorded(event: Any) -> Any:
    """An answer as a body has it, as it stands in the record."""
    if event is None:
        return None
    return {"name": event.name, "data": event.data, "id": event.id, "ts": event.ts}


async def _down_code(op: Down, ledger: Ledger) -> dict[str, int]:
    at = current()
    ledger.began(at.run_id, at.step, at.attempt)
    try:
        await asyncio.sleep(0.01)
        if ledger.boom(at.run_id, at.step, op.times):
            raise NonRetriableError("it is down for good") if op.final else ConnectionError("it is down")
        return {"v": ledger.number()}
    finally:
        ledger.left(at.run_id, at.step)


async def _step_code(op: Step, ledger: Ledger) -> dict[str, int]:
    at = current()
    ledger.began(at.run_id, at.step, at.attempt)
    try:
        if op.length_s:
            await asyncio.sleep(op.length_s)
        if at.attempt < op.fails:
            if op.final:
                raise NonRetriableError("never again")
            if op.after_s >= 0:
                raise RetryAfterError("not yet", op.after_s)
            raise ValueError("not this time")
        return {"v": ledger.number()}
    finally:
        ledger.left(at.run_id, at.step)
