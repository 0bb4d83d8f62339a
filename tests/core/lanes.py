"""Several lanes, with messages that take their time: what one lane alone cannot show of gates and their homes.

Between two lanes messages keep their order, and come as late as the story wants. Everything else may come in any order:
answers of executors, timers, what is read. ``Lanes`` does the core's part of lanes and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from millstream.core.liveness import liveness
from millstream.core.settle import settle
from millstream.model.commands import AcceptEvent, Command, FireTimer, LaneMessage, Report, SeeCatalogue, TakeMessage
from millstream.model.effects import Abandon, Arm, Disarm, Effect, Execute
from millstream.model.event import Envelope
from millstream.model.facts import CommandRefused, Fact, MessageSent, RunCancelled, RunCompleted, RunFailed, RunStarted
from millstream.model.function import AppSpec
from millstream.model.ids import lane_of
from millstream.model.operations import Operation
from millstream.model.place import Place
from millstream.model.run_requests import CancelRun
from millstream.state.memory import MemoryStore
from millstream.state.tables import LaneTables
from tests.core.values import START_MS


class Lanes:
    """``count`` lanes of a group; ``facts`` are all that were decided, with their lane."""

    def __init__(self, count: int, spec: AppSpec) -> None:
        self.now_ms = START_MS
        self.tables = [LaneTables(Place("shop", lane, count), MemoryStore()) for lane in range(count)]
        self.way: dict[tuple[int, int], deque[tuple[int, LaneMessage]]] = {}
        self.out: dict[tuple[str, str], Execute] = {}
        self.timers: list[dict[Arm, None]] = [{} for _ in range(count)]
        self.facts: list[tuple[int, Fact]] = []
        self.open: set[str] = set()
        self.started: list[RunStarted] = []
        self.ended: dict[str, Fact] = {}
        self.offsets = [0] * count
        self.after: Callable[[Lanes], None] = lambda lanes: None
        """Called after every decision: what must hold then."""
        self.deploy(spec)

    def deploy(self, spec: AppSpec) -> None:
        """Every lane sees the app."""
        for lane in range(len(self.tables)):
            self.do(lane, SeeCatalogue(spec.id, spec, len(self.facts)))

    def send(self, lane: int, event: Envelope) -> None:
        """The lane reads an event."""
        self.do(lane, AcceptEvent(event, "events", lane, self.offsets[lane]))
        self.offsets[lane] += 1

    def answer(self, run: str, step: str, *operations: Operation) -> None:
        """What an executor says of what it has."""
        given = self.out.pop((run, step))
        self.do(self.lane_of(run), Report(run, step, given.attempt, given.dispatch, operations))

    def cancel(self, run: str) -> None:
        """Somebody ends the run."""
        self.do(self.lane_of(run), CancelRun(run, "tests"))

    def deliver(self, pair: tuple[int, int]) -> None:
        """The next message from one lane to another arrives."""
        seq, message = self.way[pair].popleft()
        if not self.way[pair]:
            del self.way[pair]
        self.do(pair[1], TakeMessage(pair[0], seq, message))

    def fire(self) -> bool:
        """The next timer of all fires, at its time."""
        armed = [(lane, arm) for lane, of in enumerate(self.timers) for arm in of]
        if not armed:
            return False
        lane, arm = min(armed, key=lambda one: (one[1].at_ms, one[0], repr(one[1])))
        self.now_ms = max(self.now_ms, arm.at_ms)
        del self.timers[lane][arm]
        self.do(lane, FireTimer(arm.at_ms, arm.kind, arm.id, arm.step))
        return True

    def lane_of(self, run: str) -> int:
        """Where the run lives."""
        return lane_of(run, len(self.tables))

    def under_way(self) -> Iterator[tuple[int, int]]:
        """The pairs of lanes between which something is under way."""
        yield from sorted(self.way)

    def do(self, lane: int, command: Command) -> list[Fact]:
        """One lane decides."""
        tables = self.tables[lane]
        facts, effects = settle(tables, command, self.now_ms)
        for fact in facts:
            assert not isinstance(fact, CommandRefused), f"{command} was refused: {fact.reason}"
            self._note(lane, fact)
        for effect in effects:
            self._release(lane, effect)
        tables.promote()
        for row in (tables.runs.get(fact.run) for fact in facts if isinstance(fact, RunStarted)):
            problems = liveness(tables, row).problems if row is not None else []
            assert not problems, problems[0]
        self.after(self)
        return facts

    def _note(self, lane: int, fact: Fact) -> None:
        self.facts.append((lane, fact))
        match fact:
            case MessageSent():
                self.way.setdefault((lane, fact.to_lane), deque()).append((fact.seq, fact.message))
            case RunStarted():
                assert fact.run not in self.open and fact.run not in self.ended, f"started twice: {fact}"
                assert self.lane_of(fact.run) == lane, f"started on lane {lane}: {fact}"
                self.open.add(fact.run)
                self.started.append(fact)
            case RunCompleted() | RunFailed() | RunCancelled():
                self.open.remove(fact.run)
                self.ended[fact.run] = fact
                self.out = {key: given for key, given in self.out.items() if key[0] != fact.run}
            case _:
                pass

    def _release(self, lane: int, effect: Effect) -> None:
        match effect:
            case Execute():
                if effect.run in self.open:
                    self.out[effect.run, effect.step] = effect
            case Arm():
                self.timers[lane][effect] = None
            case Disarm():
                self.timers[lane].pop(Arm(effect.at_ms, effect.kind, effect.id, effect.step), None)
            case Abandon():
                self.out = {key: given for key, given in self.out.items() if key[0] != effect.run}
            case _:
                pass
