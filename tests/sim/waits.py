"""Functions that wait: for answers, for signals, for posts, for each other; who sends those, and what may come of it.

    ask     an event with a question of its own; its functions wait for answers with the same question
    answer  sent by a client, a moment after the ask was acknowledged, or later, or never
    signal  sent by an api to a step that waits, as the journal says
    post    sent by an api to a callback that was made, as the journal says; none, one or several, also at once

The model knows the outcomes: a wait that has the time ends with an answer that was acknowledged, each answer is taken
once, what an api was told was sent arrives, of several posts one was taken and no other is ever seen, and a parent sees
its child's end as it was recorded.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from millstream.errors import LogUnavailable
from millstream.log.port import Produced
from millstream.model import facts as f
from millstream.model.commands import ResolveCallback, SendSignal
from millstream.model.event import Envelope
from millstream.model.messages import InboxRecord, group_topic
from millstream.model.operations import failure_of
from millstream.model.waits.awaited import AwaitedEvents, AwaitedRun, AwaitedSignal, condition_mark
from millstream.model.waits.callback_token import mark_of
from millstream.wire.messages import encode_envelope, encode_inbox
from tests.sim.programs import Answered, Call, Planned, Posted, Program, Signal, Sleep, Step

if TYPE_CHECKING:
    from tests.sim.world import World

APP = "waits"
ANSWER = "answer"
LONG_S = 60.0
"""A wait so long sees every answer of the storm, and ends without one behind it."""
SHORT_S = 2.0


def plan(rng: Random) -> list[Planned]:
    """Functions that wait, and one that they call."""
    child = Planned(f"{APP}-child", "child", "child/go", (Step("work", fails=rng.choice([0, 0, 1])),), 1, False)
    fails = Planned(f"{APP}-fails", "fails", "fails/go", (Step("no", fails=2),), 0, False)
    asks = [
        Planned(f"{APP}-ask{number}", f"ask{number}", f"ask/{number}", _program(rng), 1, False)
        for number in range(rng.randint(1, 2))
    ]
    return [child, fails, *asks]


def _program(rng: Random) -> Program:
    ops: list[Any] = []
    if rng.random() < 0.4:
        ops.append(Sleep("first", rng.choice([0.0, 0.05, 1.0])))
    for number in range(rng.choice([1, 1, 2, 3])):
        ops.append(Answered(f"wait{number}", rng.randrange(3), LONG_S if rng.random() < 0.8 else SHORT_S))
    if rng.random() < 0.4:
        ops.append(Signal("signal", rng.choice([SHORT_S, LONG_S])))
    if rng.random() < 0.5:
        ops.append(Posted("post", rng.choice([SHORT_S, LONG_S]), rng.choice([0.0, 0.0, 0.5, 3.0]), rng.random() < 0.2))
    if rng.random() < 0.4:
        ops.append(Call("call", rng.choice([f"{APP}-child", f"{APP}-fails", f"{APP}-nobody"]), rng.random() < 0.3))
    rng.shuffle(ops)
    return tuple(ops)


class Sender:
    """Sends events through a door, and knows which were acknowledged."""

    def __init__(self, world: World, rng: Random) -> None:
        self._world = world
        self._rng = rng

    async def _pause(self, length_s: float) -> None:
        await asyncio.sleep(length_s)

    async def _append(self, name: str, data: dict[str, int]) -> str | None:
        """Send an event; its id, where it was acknowledged."""
        world = self._world
        id, now_ms = world.clients.new_id(), world.true_ms()
        world.clients.sent.add(id)
        log = world.cluster.client("door")
        stamp = await log.end_offset(group_topic("sim", "functions"), 0)
        event = Envelope(id, id, False, name, json.dumps(data).encode(), now_ms, now_ms, catalogue=stamp)
        partition = self._rng.randrange(world.lanes)
        writer = log.writer("events", partition)
        try:
            await writer.append([Produced(encode_envelope(event), event.id.encode())])
        except LogUnavailable:
            return None
        finally:
            await writer.close()
        world.clients.acknowledged[id] = partition
        world.trace("door: %s %s %s at %d", name, id[-6:], data, partition)
        return id


class Waits(Sender):
    """Who asks, answers and signals; and what they know afterwards."""

    def __init__(self, world: World, rng: Random) -> None:
        super().__init__(world, rng)
        self._questions = 0
        self.planned = plan(rng) if rng.random() < 0.5 else []
        self.answers: defaultdict[int, set[str]] = defaultdict(set)
        """The ids of the answers to a question that were acknowledged."""
        self.started: dict[tuple[str, str], f.WaitStarted] = {}
        self.signals: dict[tuple[str, str], str] = {}
        """The request by which a signal was sent to a step."""
        self.tried: set[tuple[str, str]] = set()
        """The steps for which somebody has tried to send one, told that it arrived or not."""
        self.callbacks: dict[tuple[str, str], f.CallbackOpened] = {}
        self.posts: defaultdict[tuple[str, str], dict[str, bytes]] = defaultdict(dict)
        """What was posted to a callback, by its request."""
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self, length_s: float) -> None:
        """Ask for so long."""
        rng, world = self._rng, self._world
        names = [one.event for one in self.planned if one.event.startswith("ask/")]
        ends_s = world.loop.now_s + length_s
        while names and world.loop.now_s < ends_s:
            await asyncio.sleep(rng.expovariate(6 / length_s))
            await self._ask(rng.choice(names))
        while any(not task.done() for task in self._tasks):  # noqa: ASYNC110 - more of them may come
            await asyncio.sleep(0.1)

    async def _ask(self, name: str) -> None:
        self._questions += 1
        question = self._questions
        if await self._append(name, {"q": question}) is None or self._rng.random() < 0.1:
            return
        for number in range(self._rng.choice([1, 2, 3, 3])):
            delay_s = self._rng.choice([0.0, 0.01, 0.05, 0.5, 3.0])
            self._later(delay_s, partial(self._answer, question, number))

    async def _answer(self, question: int, number: int) -> None:
        id = await self._append(ANSWER, {"q": question, "number": number})
        if id is not None:
            self.answers[question].add(id)

    def _later(self, delay_s: float, do: Callable[[], Coroutine[None, None, None]]) -> None:
        async def wait() -> None:
            await asyncio.sleep(delay_s)
            await do()

        # In no process: what a journal shows was written in one that may be killed.
        task = self._world.loop.create_task(wait(), context=self._world.context)
        self._tasks.append(task)

    # --- what the journals say ----------------------------------------------------------------

    def wait_started(self, fact: f.WaitStarted) -> None:
        """A step waits."""
        key = (fact.run, fact.step)
        if key in self.started:
            self._world.violate("a wait begins once", f"{fact}")
        self.started[key] = fact
        if isinstance(fact.awaits, AwaitedSignal) and self._rng.random() < 0.7:
            self._later(self._rng.choice([0.0, 0.5, 1.9, 2.5]), partial(self._signal, key, fact.awaits.signal))

    async def _signal(self, key: tuple[str, str], signal: str) -> None:
        world = self._world
        request = world.clients.new_id()
        record = Produced(encode_inbox(InboxRecord(-1, 0, SendSignal(signal, b'"sent"', request, 0))))
        self.tried.add(key)
        writer = world.cluster.client("api").writer(group_topic("sim", "inbox"), self._rng.randrange(world.lanes))
        try:
            await writer.append([record])
            self.signals[key] = request
        except LogUnavailable:
            pass
        await writer.close()

    def callback_opened(self, fact: f.CallbackOpened) -> None:
        """A step has made a callback."""
        key = (fact.run, fact.step)
        if key in self.callbacks:
            self._world.violate("a callback is made once", f"{fact}")
        self.callbacks[key] = fact
        delay_s = self._rng.choice([0.0, 0.5, 1.9, 2.5])
        for _ in range(self._rng.choice([0, 1, 1, 2, 2, 3])):
            self._later(delay_s, partial(self._post, key))
            delay_s = self._rng.choice([delay_s, delay_s, delay_s + 0.3])

    async def _post(self, key: tuple[str, str]) -> None:
        world, (run, step) = self._world, key
        request = world.clients.new_id()
        data = self.posts[key][request] = b'"post %d"' % len(self.posts[key])
        record = Produced(encode_inbox(InboxRecord(-1, 0, ResolveCallback(run, mark_of(step), data, request, 0))))
        writer = world.cluster.client("api").writer(group_topic("sim", "inbox"), self._rng.randrange(world.lanes))
        with suppress(LogUnavailable):  # It may have arrived all the same; its answer would say so.
            for _ in range(self._rng.choice([1, 1, 2])):
                await writer.append([record])
        await writer.close()

    # --- the end ------------------------------------------------------------------------------

    def check(self) -> None:
        """Every wait ended as it may."""
        for lane in self._world.observer.lanes:
            for table in (lane.tables.waiters, lane.tables.signals, lane.tables.seeks):
                for key, row in table.scan(limit=1):
                    self._world.violate("nobody waits when all runs are over", f"{key}: {row}")
        for key in self.callbacks:
            self._posted(key)
        taken: defaultdict[tuple[str, bytes], list[str]] = defaultdict(list)
        for (run, _step), fact in self.started.items():
            match fact.awaits:
                case AwaitedEvents(conditions=(condition,)):
                    self._answered(fact, taken[run, condition_mark(condition)])
                case AwaitedSignal():
                    self._signalled(fact)
                case AwaitedRun():
                    self._called(fact)

    def _answered(self, fact: f.WaitStarted, taken: list[str]) -> None:
        world, observer = self._world, self._world.observer
        data = observer.results.get((fact.run, fact.step))
        if data is None:
            return  # The run ended before.
        (event_id, *_) = observer.starts[fact.run].events
        question = json.loads(observer.accepted[event_id].data).get("q")
        answer = json.loads(data)
        if answer is None:
            length_s = (fact.until_ms - observer.wait_began[fact.run, fact.step]) / 1000
            left = self.answers[question] - set(taken) if question is not None else set()
            left = {id for id in left if not self._was_removed(id)}
            if left and length_s > SHORT_S and not any(observer.gaps.values()):
                world.violate("no lost wait (rule 31)", f"{fact} ended without {sorted(left)}")
            return
        if answer["data"]["q"] != question:
            world.violate("a wait takes what it waits for", f"{fact} of question {question} took {answer}")
        if answer["id"] in taken:
            world.violate("a loop of waits takes each event once (rule 31)", f"{fact} took {answer} again")
        taken.append(answer["id"])

    def _was_removed(self, id: str) -> bool:
        """Whether the topic has let go of an event: one that was read before anybody waited cannot be found then."""
        world, mark = self._world, id.encode()
        number = world.clients.acknowledged[id]
        offset = next(at for at, record in enumerate(world.written[number]) if mark in (record.value or b""))
        return offset < world.cluster.partitions["events", number].start

    def _signalled(self, fact: f.WaitStarted) -> None:
        key = (fact.run, fact.step)
        data = self._world.observer.results.get(key)
        request = self.signals.get(key)
        reply = json.loads(self._world.observer.answers.get(request, b"null")) if request is not None else None
        if data is None:
            return
        if reply is not None and reply["status"] == "sent" and data != b'"sent"':
            self._world.violate("a signal that was sent arrives", f"{fact} ended with {data!r}")
        if data != b"null" and key not in self.tried:
            self._world.violate("a signal comes from somebody", f"{fact} ended with {data!r}")

    def _posted(self, key: tuple[str, str]) -> None:
        observer, (run, step) = self._world.observer, key
        told = {request: json.loads(observer.answers.get(request, b"null")) for request in self.posts[key]}
        taken = [self.posts[key][request] for request, reply in told.items() if reply and reply["status"] == "taken"]
        if len(taken) > 1:
            self._world.violate("a callback takes one post (rule 34)", f"{self.callbacks[key]} took {taken}")
        for waiting in (f"{step}/result", f"{step}/result:1"):
            data = observer.results.get((run, waiting))
            if data is not None and data != (taken[0] if taken else b"null"):
                told_of = f"{waiting} of {run} ended with {data!r}, taken was {taken}"
                self._world.violate("what was taken is what is seen (rule 34)", told_of)

    def _called(self, fact: f.WaitStarted) -> None:
        observer, awaits = self._world.observer, fact.awaits
        assert isinstance(awaits, AwaitedRun)
        result, failure = observer.results.get((fact.run, fact.step)), observer.failures.get((fact.run, fact.step))
        end = observer.ends.get(awaits.run)
        told: Any = result if result is not None else failure_of(failure).name if failure is not None else None
        if told is None:
            return
        if end is None:
            right = awaits.function.endswith("-nobody") and told == "FunctionNotStarted"
        elif isinstance(end, f.RunCompleted):
            right = told == end.result
        else:
            right = told == (end.error_name if isinstance(end, f.RunFailed) else "RunCancelled")
        if not right:
            self._world.violate("a parent sees its child's end", f"{fact} saw {told!r}, it was {end}")

    def may_be_cancelled(self, run: str) -> bool:
        """Whether a run's parent was cancelled, and takes it along."""
        parent, slash, _ = self._world.observer.starts[run].cause.partition("/")
        return bool(slash) and isinstance(self._world.observer.ends.get(parent), f.RunCancelled)
