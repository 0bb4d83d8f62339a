"""What must hold of the facts in their order: each run is one story with one end.

Run ids are unique · a recorded result never changes · a run ends once and nothing follows · attempts count up and stay
within retries + 1 · a late failure is never taken · dispatch and message numbers are used once · an id within its
window and a record before its source's position start nothing.
"""

from __future__ import annotations

from millstream.core.intake.seen import seen_hash
from millstream.core.runs.bodies import NOTHING_REPORTED
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue
from millstream.model import facts as f
from millstream.model import limits
from millstream.model.commands import Report
from millstream.model.effects import Effect, Execute, Publish
from millstream.model.facts import Fact
from millstream.model.operations import StepErrored
from millstream.model.rows import Hand

OF_HOMES = (
    f.WaiterAdded, f.WaiterLooked, f.WaiterGone, f.SignalAwaited, f.GateQueued, f.GateOpened, f.GateLeft,
    f.StartCounted,
)  # fmt: skip
"""Facts that name a run of any lane."""


class Story:
    """All facts so far, as far as later ones are bound by them. ``tell`` and ``release`` raise AssertionError."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.ended: set[str] = set()
        self.results: dict[tuple[str, str], bytes] = {}
        self.attempts: dict[tuple[str, str], int] = {}
        self.unseen: set[str] = set()
        """Runs of which something was resolved since their body last went out."""
        self.joint: set[str] = set()
        """Runs whose bodies go on only once nothing of them is under way."""
        self.dispatches: set[tuple[str, int]] = set()
        self.holders: set[str] = set()
        """Former owners that still run something."""
        self.published = 0
        self.taken: dict[int, int] = {}
        self.reported: Report | None = None
        """The report that is being decided."""
        self.seen: dict[tuple[str, int, bytes], int] = {}

    def tell(self, fact: Fact, tables: Tables, at_ms: int) -> None:
        """The next fact; ``tables`` are as before it."""
        run = getattr(fact, "run", None) if not isinstance(fact, OF_HOMES) else None
        match fact:
            case f.RunStarted():
                assert run not in self.open | self.ended, f"started twice: {fact}"
                self.open.add(fact.run)
            case f.RunCompleted() | f.RunFailed() | f.RunCancelled():
                assert run in self.open, f"ended twice, or never begun: {fact}"
                self.open.remove(fact.run)
                self.ended.add(fact.run)
                self.unseen.discard(fact.run)
            case f.JointFound():
                self.joint = (self.joint | {fact.run}) if fact.is_joint else (self.joint - {fact.run})
            case f.DiscoveryAnswered() if fact.discover:
                self._goes_on(fact.run, tables, "")
            case f.SleepEnded():
                if fact.discover:
                    self._goes_on(fact.run, tables, fact.step)
                self._result(fact.run, fact.step, b"null")
            case f.StepCompleted():
                if fact.discover:
                    self._goes_on(fact.run, tables, fact.step)
                self._result(fact.run, fact.step, fact.data)
            case f.StepFailed():
                if fact.discover:
                    self._goes_on(fact.run, tables, fact.step)
                self._attempt(fact, tables, last=True)
                self._result(fact.run, fact.step, b"failed")
            case f.StepHeld() | f.BodyHeld():
                self._attempt(fact, tables, last=True)
            case f.HeldResumed():
                self.attempts.pop((fact.run, fact.step), None)
            case f.StepAttemptFailed() | f.BodyAttemptFailed():
                self._attempt(fact, tables, last=False)
                blamed = fact.error_name == NOTHING_REPORTED and fact.run in self.unseen
                assert not blamed, f"the body had something to look at: {fact}"
            case f.DispatchLost():
                self._lose(fact, tables)
            case f.MessageTaken():
                assert fact.seq == self.taken.get(fact.from_lane, 0) + 1, f"taken out of order: {fact}"
                self.taken[fact.from_lane] = fact.seq
            case f.EventAccepted():
                self._accept(fact, tables)
            case f.LaneReleased():
                self.holders |= {fact.holder} if fact.out else set()
            case f.HolderGone():
                assert fact.holder in self.holders, f"gone twice, or never there: {fact}"
                self.holders.remove(fact.holder)
            case _:
                pass
        ends = isinstance(fact, f.RunCompleted | f.RunFailed | f.RunCancelled)
        assert ends or run is None or run in self.open, f"about a run that is over: {fact}"

    def release(self, effect: Effect) -> None:
        """An effect goes out."""
        match effect:
            case Execute(run, _, step, _, dispatch):
                assert (run, dispatch) not in self.dispatches, f"a dispatch number used twice: {effect}"
                self.dispatches.add((run, dispatch))
                if not step:
                    self.unseen.discard(run)
            case Publish(number):
                assert number == self.published + 1, f"publishes are numbered without holes, got {effect}"
                self.published = number
            case _:
                pass

    def _goes_on(self, id: str, tables: Tables, step: str) -> None:
        """The body goes out with this step; "": with what was resolved before. A joint one: with the last of all."""
        run = tables.runs.get(id)
        assert run is not None
        left = run.pending - (step in run.steps)
        assert id not in self.joint or not left, f"a joint body goes on beside {left} steps under way: {run}, {step}"

    def _result(self, run: str, step: str, data: bytes) -> None:
        assert (run, step) not in self.results, f"step {step} of run {run} has a result already"
        self.results[run, step] = data
        self.unseen.add(run)

    def _attempt(
        self,
        fact: f.StepAttemptFailed | f.StepFailed | f.StepHeld | f.BodyAttemptFailed | f.BodyHeld,
        tables: Tables,
        *,
        last: bool,
    ) -> None:
        step = "" if isinstance(fact, f.BodyAttemptFailed | f.BodyHeld) else fact.step
        run = tables.runs.get(fact.run)
        assert run is not None
        spec = catalogue(tables).functions.get(run.function)
        retries = spec.retries if spec is not None else limits.RETRIES_DEFAULT
        for operation in self.reported.operations if self.reported is not None else ():
            if isinstance(operation, StepErrored) and operation.step == step and operation.retry is not None:
                retries = operation.retry.retries if operation.retry.retries >= 0 else retries
        assert fact.attempt < retries or last or spec is None, f"one attempt too many: {fact}"
        row = tables.steps.get((fact.run, step)) if step else None
        if isinstance(fact, f.StepFailed) and row is not None and row.hand == Hand.HELD:
            assert self.attempts[fact.run, step] == fact.attempt, f"an operator lets fail what was held, got {fact}"
            return
        too_large = (
            isinstance(fact, f.StepFailed | f.StepHeld) and fact.error_name == "output_too_large"
        )  # A success, but for that.
        waited = row is not None and row.hand in (Hand.WAITING, Hand.CLOSING)  # No hand-out of it can fail.
        if row is not None and not too_large and not waited:
            mine = row.hand == Hand.OUT and row.dispatch == fact.dispatch
            assert mine, f"a failure of a dispatch that is not the awaited one: {fact}, {row}"
        if step:
            before = self.attempts.get((fact.run, step), -1)
            assert fact.attempt == before + 1, f"attempts count up one by one, got {fact} after {before}"
            self.attempts[fact.run, step] = fact.attempt

    def check(self, tables: Tables) -> None:
        """After a command: a body in nobody's hand has been told of everything; former owners are remembered."""
        held = {holder for holder, _ in tables.holders.scan(limit=1_000)}
        assert held == self.holders, f"former owners {held}, expected {self.holders}"
        for id in self.unseen:
            run = tables.runs.get(id)
            assert run is not None
            waits = id in self.joint and run.pending
            assert run.body != Hand.IDLE or waits, f"the body was not told what was resolved: {run}"

    def _lose(self, fact: f.DispatchLost, tables: Tables) -> None:
        row = tables.steps.get((fact.run, fact.step)) if fact.step else tables.runs.get(fact.run)
        assert row is not None and fact.lost == row.lost + 1, f"losses count up one by one, got {fact} after {row}"
        assert fact.lost <= limits.DISPATCHES_LOST_MAX, f"lost too often: {fact}"

    def _accept(self, fact: f.EventAccepted, tables: Tables) -> None:
        if not fact.topic or not fact.seen:
            return  # A backfill comes by later; a foreign record without an id of its own is known by its place alone.
        position = tables.positions.get((fact.topic, fact.partition))
        is_scanned = fact.seen != seen_hash(fact.topic, fact.partition, fact.id)  # It remembers for its function alone.
        assert is_scanned or position is None or fact.offset >= position.offset, f"accepted twice: {fact}"
        key = (fact.topic, fact.partition, fact.seen)
        window_ms = limits.SEEN_CLIENT_IDS_MS if fact.id_is_clients else limits.SEEN_OUR_IDS_MS
        before = self.seen.get(key)
        assert before is None or fact.received_at_ms - before > window_ms, f"an id taken twice in its window: {fact}"
        self.seen[key] = fact.received_at_ms
