"""The harness: decide, fold, promote, and after every command the equation and the invariants.

*Effects released so far, minus those answered by later facts, equal ``owed(tables)``.* The left side is kept here;
which fact answers which effect is the table in ``answered_by``. What must hold of the rows alone is in
``tests/core/invariants.py``, what must hold of the facts in order is ``Story``, and how each fold may move a body or
step from hand to hand is ``Watch``.

The harness does what the lane does around the core: it moves the positions of sources, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from millstream.core.decide import decide
from millstream.core.flow.passage import follow
from millstream.core.fold import fold
from millstream.core.messages import sent
from millstream.core.owed import owed
from millstream.core.runs.quick import QUICK
from millstream.model import facts as f
from millstream.model.commands import AcceptEvent, AcceptRecord, Command, RefuseRecord, Report
from millstream.model.effects import Arm, CodeWanted, Deliver, Disarm, Effect, Execute, Publish, Scan
from millstream.model.facts import Fact, Post
from millstream.model.place import Place
from millstream.model.rows import PositionRow, RunRow, StepRow
from millstream.state.memory import MemoryStore
from millstream.state.tables import LaneTables
from tests.core import invariants
from tests.core.hands import Watch
from tests.core.story import Story
from tests.core.values import PLACE, START_MS

OWED: Final = (Execute, Arm, Deliver, Publish, CodeWanted, Scan)
"""The effects that must not be lost; answers, abandons and disarms may be."""


class Harness:
    """One lane's tables, and all that was decided, released and answered."""

    def __init__(self, place: Place = PLACE) -> None:
        self.tables = LaneTables(place, MemoryStore())
        self.now_ms = START_MS
        self.outstanding: set[Effect] = set()
        self.effects: list[Effect] = []
        self.journal: list[tuple[Fact | PositionRow, int]] = []
        self.commands: list[Command] = []
        self.story = Story()
        self.hands = Watch()
        self.quick_ones = 0
        """How many commands took the short way, too."""
        self.may_raise = False
        """Whether ``decide`` may refuse a command for another reason than that it is malformed."""

    def do(self, command: Command, at_ms: int | None = None) -> list[Fact]:
        """Decide, fold and promote one command; check everything. Returns the facts."""
        self.now_ms = max(self.now_ms, at_ms if at_ms is not None else self.now_ms)
        self.commands.append(command)
        self.story.reported = command if isinstance(command, Report) else None
        short = self._short_way(command)
        facts: list[Fact] = []
        followed: list[Effect] = []
        own: list[Command] = [command]
        while own:
            decided = self._decided(own.pop(0))
            while decided:
                for fact in decided:
                    if isinstance(fact, Post):
                        if fact.to_lane == self.tables.place.lane:
                            own.append(fact.message)
                            continue
                        fact = sent(self.tables, fact)
                    followed += self._fold(fact, command)
                    facts.append(fact)
                decided = follow(self.tables, decided)
        if short is not None and not self.may_raise:
            assert short == (facts, followed, self._in_flight()), f"{command} came out otherwise on the short way"
        self._move_position(command)
        self.tables.promote()
        self.check()
        return facts

    def _decided(self, command: Command) -> list[Fact]:
        """What it leads to: the same however often it is asked, and no row is changed by asking."""
        before = self._in_flight()
        facts = decide(self.tables, command, self.now_ms)
        assert self._in_flight() == before, f"{command} was decided and changed a row"
        assert decide(self.tables, command, self.now_ms) == facts, f"{command} was decided in two ways"
        return facts

    def _fold(self, fact: Fact, command: Command) -> Sequence[Effect]:
        if isinstance(fact, f.CommandRefused) and not isinstance(command, RefuseRecord):
            # Else the refusal of what raised would hide our own mistakes.
            assert self.may_raise or fact.reason.startswith(("BadRequest", "poison")), (
                f"{command} raised: {fact.reason}"
            )
        self.story.tell(fact, self.tables, self.now_ms)
        before = self.hands.rows(self.tables, fact)
        released = fold(self.tables, fact, self.now_ms)
        self.hands.check(fact, before, self.hands.rows(self.tables, fact))
        self._answer(fact)
        self._release(released)
        self.journal.append((fact, self.now_ms))
        return released

    def _short_way(self, command: Command) -> tuple[list[Fact], list[Effect], dict[str, dict[object, object]]] | None:
        """What ``quick`` makes of the command, undone again; None where it leaves it to ``decide`` and ``fold``."""
        way = QUICK.get(type(command))
        done = way(self.tables, command, self.now_ms) if way is not None else None
        written = self._in_flight()
        self.tables.drop()
        if done is None:
            assert not written, f"{command} was left to the long way, and changed a row"
            return None
        self.quick_ones += 1
        return list(done[0]), list(done[1]), written

    def _in_flight(self) -> dict[str, dict[object, object]]:
        return {table.spec.name: dict(table.flight) for table in self.tables.all if table.flight}

    def check(self) -> None:
        """The equation, and what must hold of the rows."""
        expected = list(owed(self.tables))
        assert len(set(expected)) == len(expected), f"owed twice: {expected}"
        assert set(expected) == self.outstanding, (
            f"the equation is broken: forgotten {self.outstanding - set(expected)}, "
            f"owed and never released {set(expected) - self.outstanding}"
        )
        invariants.check(self.tables)
        self.story.check(self.tables)

    # --- reading ------------------------------------------------------------------------------

    @property
    def runs(self) -> dict[str, RunRow]:
        """The open runs."""
        return dict(self.tables.runs.scan(limit=10_000))

    @property
    def run(self) -> RunRow:
        """The only open run."""
        (run,) = self.runs.values()
        return run

    def step(self, step: str) -> StepRow:
        """A step of the only open run."""
        row = self.tables.steps.get((self.run.run, step))
        assert row is not None, f"the run has no step {step}"
        return row

    def out(self, step: str = "") -> Execute:
        """The hand-out of the only run's body, or of one of its steps, that nobody has answered."""
        (found,) = (e for e in self.outstanding if isinstance(e, Execute) and e.step == step)
        return found

    def armed(self, kind: str = "") -> Arm:
        """The only timer (of a kind) that has not fired."""
        (found,) = (e for e in self.outstanding if isinstance(e, Arm) and kind in ("", e.kind))
        return found

    def publishes(self) -> list[f.PublishQueued]:
        """Every record queued for a topic so far."""
        return [fact for fact, _ in self.journal if isinstance(fact, f.PublishQueued)]

    # --- inside -------------------------------------------------------------------------------

    def _answer(self, fact: Fact) -> None:
        answers = answered_by(fact)
        self.outstanding = {effect for effect in self.outstanding if not answers(effect)}

    def _release(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self.effects.append(effect)
            if isinstance(effect, Disarm):
                self.outstanding.discard(Arm(effect.at_ms, effect.kind, effect.id, effect.step))
            if isinstance(effect, OWED):
                assert effect not in self.outstanding, f"released twice: {effect}"
                self.outstanding.add(effect)
                self.story.release(effect)

    def _move_position(self, command: Command) -> None:
        if isinstance(command, AcceptEvent | AcceptRecord | RefuseRecord):
            key = (command.topic, command.partition)
            held = self.tables.positions.get(key)
            if held is None or held.offset <= command.offset:
                row = PositionRow(*key, command.offset + 1)
                self.tables.positions.put(key, row)
                self.journal.append((row, self.now_ms))


def folded(journal: Iterable[tuple[Fact | PositionRow, int]], place: Place) -> LaneTables:
    """Fresh tables after the same facts: what a restore makes."""
    tables = LaneTables(place, MemoryStore())
    for fact, at_ms in journal:
        if isinstance(fact, PositionRow):
            tables.positions.put((fact.topic, fact.partition), fact)
        else:
            fold(tables, fact, at_ms)
        tables.promote()
    return tables


# --- which fact answers which effect -----------------------------------------------------------

Answers = Callable[[Effect], bool]


def _of_run(fact: f.RunCompleted | f.RunFailed | f.RunCancelled) -> Answers:
    return lambda e: (
        (isinstance(e, Execute | CodeWanted) and e.run == fact.run)
        or (isinstance(e, Arm) and e.kind != "cron" and e.id == fact.run)
    )


def _of_step(fact: f.StepCompleted | f.StepFailed | f.StepHeld) -> Answers:
    """Whatever the step waits for, in whatever hand it is; and the body, where it told so itself."""
    step, body = (fact.run, fact.step), _of_body(fact)
    return lambda e: (
        body(e)
        or (isinstance(e, Execute | CodeWanted) and (e.run, e.step) == step)
        or (isinstance(e, Arm) and e.kind != "cron" and (e.id, e.step) == step)
    )


def _of_body(fact: Any) -> Answers:
    return lambda e: isinstance(e, Execute) and (e.run, e.step, e.dispatch) == (fact.run, "", fact.dispatch)


def _of_dispatch(
    fact: f.StepAttemptFailed | f.BodyAttemptFailed | f.BodyHeld | f.DispatchLost | f.DispatchParked,
) -> Answers:
    return lambda e: isinstance(e, Execute) and (e.run, e.dispatch) == (fact.run, fact.dispatch)


def _of_timer(kind: str, id: str, step: str) -> Answers:
    return lambda e: isinstance(e, Arm) and (e.kind, e.id, e.step) == (kind, id, step)


def answered_by(fact: Fact) -> Answers:
    """Which effects are over with this fact."""
    match fact:
        case f.RunCompleted() | f.RunFailed() | f.RunCancelled():
            return _of_run(fact)
        case f.StepCompleted() | f.StepFailed() | f.StepHeld():
            return _of_step(fact)
        case f.StepAttemptFailed() | f.BodyAttemptFailed() | f.BodyHeld() | f.DispatchLost() | f.DispatchParked():
            return _of_dispatch(fact)
        case f.RetryDue(run, step):
            return _of_timer("retry", run, step)
        case f.RunDue(run):
            return _of_timer("due", run, "")
        case f.CronArmed(function, cron) | f.CronDisarmed(function, cron) | f.CronTicked(function, cron):
            return _of_timer("cron", function, cron)
        case f.CancellationAdvanced(cancellation) | f.CancellationEnded(cancellation):
            return _of_timer("cancel", cancellation, "")
        case f.DispatchUnparked():
            return lambda e: isinstance(e, CodeWanted) and (e.run, e.step) == (fact.run, fact.step)
        case f.PublishesSent(numbers):
            return lambda e: isinstance(e, Publish) and e.number in numbers
        case f.ScanAdvanced(scan, partition) | f.ScanEnded(scan, partition):
            return lambda e: isinstance(e, Scan) and (e.scan, e.partition) == (scan, partition)
        case f.MessagesDelivered(to_lane, upto):
            return lambda e: isinstance(e, Deliver) and e.to_lane == to_lane and e.seq <= upto
        case _ if hasattr(fact, "dispatch"):  # The body has found a step, of whatever kind, or nothing new.
            return _of_body(fact)
        case _:
            return lambda e: False
