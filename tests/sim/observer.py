"""Somebody who sees every record of every journal the moment it is written, and holds each lane's facts to the rules.

It takes records through ``Validity``, as every reader does (rule 1), folds the valid ones into tables of its own (what
a lane must restore to), and keeps what the final checks compare with the topics.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Protocol

from millstream.lane.ownership.restore import apply
from millstream.model import facts as f
from millstream.model import limits
from millstream.model.commands import HandOut
from millstream.model.journal import JournalRecord
from millstream.model.messages import group_topic
from millstream.model.operations import failure_json
from millstream.model.place import Place
from millstream.state.keyspace import KEYSPACE
from millstream.state.memory import MemoryStore
from millstream.state.tables import LaneTables
from millstream.wire.journal import Validity, decode_record
from tests.sim.programs import EDITED

if TYPE_CHECKING:
    from millstream.lane.lane import Lane as OwnedLane
    from tests.sim.loop import Process
    from tests.sim.world import World

Rows = dict[str, dict[Any, Any]]
TABLES = tuple(spec.name for spec in KEYSPACE)
ENDS = (f.RunCompleted, f.RunFailed, f.RunCancelled)
PARKED_BY_OWNER_MAX = 3
"""How often one owner parks a body or step for changed code: once, unless another step brings it back."""


def rows_of(tables: Any) -> Rows:
    """Every row by table and key. Rows are values: equal ones have equal bytes, and comparing them costs less."""
    return {table: dict(view.scan(limit=1 << 30)) for table, view in zip(TABLES, tables.all, strict=True)}


class _OfRun(Protocol):
    run: str


class Lane:
    """What the observer knows of one lane."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.validity = Validity()
        self.tables = LaneTables(place, MemoryStore())
        self.next = 0
        self.at_ms = 0
        self.published = 0
        self.sent: Counter[int] = Counter()
        self.taken: Counter[int] = Counter()
        self.outbox: dict[tuple[int, int], Any] = {}
        self.owners: list[bytes] = []
        self.audited: tuple[Any, ...] | None = None
        """What the topics held when a restore from them alone was right last."""
        self._rows: tuple[int, Rows] = (-1, {})

    def rows(self) -> Rows:
        """What the lane's tables must hold now."""
        if self._rows[0] != self.next:
            self._rows = (self.next, rows_of(self.tables))
        return self._rows[1]


OF_HOMES = (
    f.WaiterAdded, f.WaiterLooked, f.WaiterGone, f.SignalAwaited, f.GateQueued, f.GateOpened, f.GateLeft,
    f.StartCounted,
)  # fmt: skip
"""Facts that name a run of any lane."""


class Observer:
    """One for a world; ``attach`` once its topics are there."""

    def __init__(self, world: World, group: str, lanes: int) -> None:
        self._world = world
        self._group = group
        self.lanes = [Lane(Place(group, lane, lanes)) for lane in range(lanes)]
        self.starts: dict[str, f.RunStarted] = {}
        self.home: dict[str, int] = {}
        self.ends: dict[str, Any] = {}
        self.queued_ms: dict[str, int] = {}
        self.ended_ms: dict[str, int] = {}
        self.results: dict[tuple[str, str], bytes] = {}
        self.kinds: dict[tuple[str, str], str] = {}
        self.failures: dict[tuple[str, str], bytes] = {}
        self.attempts_failed: set[tuple[str, str, int]] = set()
        """Of the set of attempts that a step has now; ``attempts_ever_failed``: also of those before it was resumed."""
        self.attempts_ever_failed: set[tuple[str, str, int]] = set()
        self.body_failed: Counter[tuple[str, int]] = Counter()
        self.lost: Counter[str] = Counter()
        self.parked: Counter[tuple[str, str, int]] = Counter()
        self.wait_began: dict[tuple[str, str], int] = {}
        self.slept: dict[tuple[str, str], int] = {}
        self.queued: list[f.PublishQueued] = []
        self.accepted: dict[str, f.EventAccepted] = {}
        self.skipped: set[tuple[str, str]] = set()
        self.started_with: set[tuple[str, str]] = set()
        """Events that started a function, alone or with others."""
        self.answers: dict[str, bytes] = {}
        self.cancelled: set[str] = set()
        self.ticks: dict[tuple[str, str], int] = {}
        self.refused: list[f.CommandRefused] = []
        self.started_on: dict[tuple[str, int, str, str], str] = {}
        self.scans: list[f.ScanStarted] = []
        self.gaps: defaultdict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
        self.opened: set[tuple[str, int]] = set()
        self.counts: Counter[str] = Counter()
        self.void = 0
        self._attached: set[int] = set()
        self._fenced_by: dict[str, tuple[Process, OwnedLane | None]] = {}

    def attach(self) -> None:
        """Listen to every journal partition that exists by now."""
        for lane in self.lanes:
            number = lane.place.lane
            partition = self._world.cluster.partitions.get((group_topic(self._group, "journal"), number))
            if partition is None or number in self._attached:
                continue
            self._attached.add(number)
            write = partition.append

            def append(records: Any, now_ms: int, lane: Lane = lane, write: Any = write) -> int:
                first: int = write(records, now_ms)
                for record in records:
                    self._take(lane, record.value)
                return first

            partition.append = append  # type: ignore[method-assign]

    def _take(self, lane: Lane, value: bytes) -> None:
        world = self._world
        record = decode_record(value)
        lane.next += 1
        taken = lane.validity.take(record)
        if taken is None:
            self.void += not record.more
            world.trace(
                "journal %d@%d: void or part %s/%d %s",
                lane.place.lane, lane.next - 1, record.owner.hex()[:4], record.seq,
                [type(one).__name__ for one in record.facts],
            )  # fmt: skip
            return
        world.trace(
            "journal %d@%d: %s/%d %s", lane.place.lane, lane.next - 1, taken.owner.hex()[:4], taken.seq, taken.facts
        )
        self._record(lane, taken)

    def _record(self, lane: Lane, record: JournalRecord) -> None:
        world = self._world
        if record.at_ms < lane.at_ms and record.seq:  # A fence is written before its owner has read what lies below.
            world.violate("a lane's time never goes back (rule 8)", f"{record.at_ms} after {lane.at_ms}")
        lane.at_ms = max(lane.at_ms, record.at_ms)
        self.opened |= {(one.topic, one.partition) for one in record.facts if type(one) is f.SourceOpened}
        for position in record.positions:
            if "." not in position.topic and (position.topic, position.partition) not in self.opened:
                world.violate("a source is opened before it is read (rule 18)", f"{position}")
        for fact in record.facts:
            self.counts[type(fact).__name__] += 1
            check = _CHECKS.get(type(fact))
            if check is not None:
                check(self, lane, fact)
            self._of_open_run(fact)
        try:
            apply(lane.tables, record)
        except Exception as error:
            world.violate("what was recorded can be folded", f"{type(error).__name__}: {error} in {record.facts}")
            return
        lane.tables.promote()
        world.gates.recorded(record)
        for fact in record.facts:
            if type(fact) is f.CancellationStarted:
                world.cancelling.find_meant(lane, fact)
            elif type(fact) is f.CancellationEnded:
                world.cancelling.is_over(lane, fact)

    def _of_open_run(self, fact: Any) -> None:
        run = getattr(fact, "run", None)
        if run is None or isinstance(fact, (f.RunStarted, *OF_HOMES)):
            return
        if run not in self.starts:
            self._world.violate("every fact is of a run that began", f"{fact}")
        elif run in self.ends and not isinstance(fact, ENDS):
            self._world.violate("nothing follows a run's end", f"{fact} after {self.ends[run]}")

    # --- one fact at a time -------------------------------------------------------------------

    def run_started(self, lane: Lane, fact: f.RunStarted) -> None:
        if fact.run in self.starts:
            self._world.violate("an event starts each function once", f"{fact} again")
        self.starts[fact.run] = fact
        self.queued_ms[fact.run] = lane.at_ms
        self.home[fact.run] = lane.place.lane
        self.started_with |= {(event, fact.function) for event in fact.events}
        for event in fact.events:
            accepted = self.accepted.get(event)
            if accepted is None:
                self._world.violate("a run's event was accepted", f"{fact}")
            elif accepted.topic:
                key = (accepted.topic, accepted.partition, accepted.id, fact.function + fact.cause)
                if self.started_on.setdefault(key, fact.run) != fact.run:
                    self._world.violate("an event id starts each function once (rule 19)", f"{fact}, {key}")

    def skipped_by(self, lane: Lane, fact: f.FunctionSkipped) -> None:
        self.skipped.add((fact.event, fact.function))

    def ended(self, lane: Lane, fact: Any) -> None:
        if fact.run in self.ends:
            self._world.violate("a run ends once", f"{fact} after {self.ends[fact.run]}")
        self.ends[fact.run] = fact
        self.ended_ms[fact.run] = lane.at_ms
        self._world.bounded.ended(fact.run)

    def run_cancelled(self, lane: Lane, fact: f.RunCancelled) -> None:
        self.ended(lane, fact)
        self._world.cancelling.cancelled(lane, fact)

    def cancellation_started(self, lane: Lane, fact: f.CancellationStarted) -> None:
        self._world.cancelling.started(lane, fact)

    def step_completed(self, lane: Lane, fact: f.StepCompleted) -> None:
        self._once(fact.run, fact.step)
        self.results[fact.run, fact.step] = fact.data
        self.kinds[fact.run, fact.step] = fact.kind
        self._world.holds.done(fact.run, fact.step)
        self._attempt(fact.run, fact.step, fact.attempt)

    def step_failed(self, lane: Lane, fact: f.StepFailed) -> None:
        self._once(fact.run, fact.step)
        self._world.holds.failed(fact)
        self.failures[fact.run, fact.step] = failure_json(fact.error_name, fact.error_message, fact.error_stack)
        if (fact.run, fact.step, fact.attempt) not in self.attempts_failed:  # Else it was held.
            self._attempt(fact.run, fact.step, fact.attempt)

    def _once(self, run: str, step: str) -> None:
        if (run, step) in self.results or (run, step) in self.failures:
            self._world.violate("a recorded result never changes", f"step {step} of {run} was resolved twice")

    def _attempt(self, run: str, step: str, attempt: int) -> None:
        """Attempts are counted from 0 without holes, and no more of them than allowed."""
        for earlier in range(attempt):
            if (run, step, earlier) not in self.attempts_failed:
                self._world.violate(
                    "attempts have no holes", f"attempt {attempt} of {run} {step}: {earlier} never failed"
                )
        if (run, step, attempt) in self.attempts_failed:
            self._world.violate("an attempt is recorded once", f"attempt {attempt} of {run} {step} failed before")
        retries = self._world.retries.get(self.starts[run].function) if run in self.starts else None
        if retries is not None and attempt > retries:
            self._world.violate(
                "no more recorded attempts than allowed", f"{run} {step} attempt {attempt} of {retries}"
            )

    def attempt_failed(self, lane: Lane, fact: f.StepAttemptFailed) -> None:
        self._attempt(fact.run, fact.step, fact.attempt)
        self.attempts_failed.add((fact.run, fact.step, fact.attempt))
        self.attempts_ever_failed.add((fact.run, fact.step, fact.attempt))

    def step_held(self, lane: Lane, fact: f.StepHeld) -> None:
        self._world.holds.held(fact)
        self._attempt(fact.run, fact.step, fact.attempt)
        self.attempts_failed.add((fact.run, fact.step, fact.attempt))
        self.attempts_ever_failed.add((fact.run, fact.step, fact.attempt))

    def body_held(self, lane: Lane, fact: f.BodyHeld) -> None:
        self._world.holds.held(fact)

    def held_resumed(self, lane: Lane, fact: f.HeldResumed) -> None:
        self._world.holds.resumed(fact)
        self.attempts_failed = {one for one in self.attempts_failed if one[:2] != (fact.run, fact.step)}

    def run_failed(self, lane: Lane, fact: f.RunFailed) -> None:
        self._world.holds.failed(fact)
        self.ended(lane, fact)

    def body_attempt_failed(self, lane: Lane, fact: f.BodyAttemptFailed) -> None:
        retries = self._world.retries.get(self.starts[fact.run].function)
        if retries is not None and fact.attempt >= retries:
            self._world.violate("no more recorded attempts than allowed", f"body of {fact.run}: {fact}")

    def sleep_started(self, lane: Lane, fact: f.SleepStarted) -> None:
        if (fact.run, fact.step) in self.slept:
            self._world.violate("a sleep begins once", f"{fact}")
        self.slept[fact.run, fact.step] = fact.wake_at_ms

    def sleep_ended(self, lane: Lane, fact: f.SleepEnded) -> None:
        self._once(fact.run, fact.step)
        self.results[fact.run, fact.step] = b"null"
        self.kinds[fact.run, fact.step] = "sleep"
        wake_at_ms = self.slept[fact.run, fact.step]
        if lane.at_ms < wake_at_ms and not self._world.weather.jumps:
            self._world.violate("a sleep ends not before its time", f"{fact} at {lane.at_ms}, due {wake_at_ms}")

    def wait_started(self, lane: Lane, fact: f.WaitStarted) -> None:
        self.wait_began[fact.run, fact.step] = lane.at_ms
        self._world.waits.wait_started(fact)

    def callback_opened(self, lane: Lane, fact: f.CallbackOpened) -> None:
        self._world.waits.callback_opened(fact)

    def dispatch_lost(self, lane: Lane, fact: f.DispatchLost) -> None:
        self.lost[fact.run] += 1
        self._not_run_by_a_former_owner(lane, fact)
        if fact.lost > limits.DISPATCHES_LOST_MAX:
            self._world.violate("hand-outs are lost a bounded number of times", f"{fact}")

    def dispatch_parked(self, lane: Lane, fact: f.DispatchParked) -> None:
        if fact.reason and f"asks for '{EDITED}' instead" not in fact.reason:
            self._world.violate("a replay asks for what is recorded", f"{fact}")
        once = (fact.run, fact.step, len(lane.owners))
        self.parked[once] += bool(fact.reason)
        if self.parked[once] > PARKED_BY_OWNER_MAX:
            self._world.violate("the code that has parked a hand-out is not tried again", f"{fact}")

    def _not_run_by_a_former_owner(self, lane: Lane, fact: f.DispatchLost) -> None:
        """What a worker still runs that let a lane go, and knows that it has, is not lost while that worker lives."""
        out = HandOut(fact.run, fact.step, fact.dispatch)
        for holder, row in lane.tables.holders.scan(limit=1_000):
            process, owned = self._fenced_by.get(holder.rpartition("-")[2], (None, None))
            if out not in row.out or process is None or process.dead or self._world.weather.reports:
                continue
            if owned is not None and owned.released is not None:
                self._world.violate("what a former owner runs goes on (rule 25)", f"{fact}, held by {holder}")

    def publish_queued(self, lane: Lane, fact: f.PublishQueued) -> None:
        lane.published += 1
        if fact.number != lane.published:
            self._world.violate("publishes are numbered without holes", f"{fact}, expected {lane.published}")
        self.queued.append(fact)

    def message_sent(self, lane: Lane, fact: f.MessageSent) -> None:
        lane.sent[fact.to_lane] += 1
        if fact.seq != lane.sent[fact.to_lane]:
            self._world.violate("messages between lanes have no holes", f"{fact}, expected {lane.sent[fact.to_lane]}")
        lane.outbox[fact.to_lane, fact.seq] = fact.message

    def message_taken(self, lane: Lane, fact: f.MessageTaken) -> None:
        lane.taken[fact.from_lane] += 1
        if fact.seq != lane.taken[fact.from_lane]:
            self._world.violate("messages are taken once, in order", f"{fact}, expected {lane.taken[fact.from_lane]}")
        if (lane.place.lane, fact.seq) not in self.lanes[fact.from_lane].outbox:
            self._world.violate("a message is sent before it is taken", f"{fact}")

    def messages_delivered(self, lane: Lane, fact: f.MessagesDelivered) -> None:
        found = self._world.in_inbox(fact.to_lane, lane.place.lane)
        if any(seq not in found for seq in range(1, fact.upto + 1)):
            self._world.violate("delivered is what lies in the inbox", f"{fact}, there are {sorted(found)}")

    def event_accepted(self, lane: Lane, fact: f.EventAccepted) -> None:
        self.accepted[fact.internal_id] = fact

    def answered(self, lane: Lane, fact: f.RequestAnswered) -> None:
        if self.answers.setdefault(fact.request, fact.reply) != fact.reply:
            self._world.violate("a request has one answer", f"{fact}, before: {self.answers[fact.request]!r}")

    def cron_ticked(self, lane: Lane, fact: f.CronTicked) -> None:
        last = self.ticks.get((fact.function, fact.cron), 0)
        if fact.at_ms <= last:
            self._world.violate("a cron fires once for each time", f"{fact}, the last was {last}")
        self.ticks[fact.function, fact.cron] = fact.at_ms

    def command_refused(self, lane: Lane, fact: f.CommandRefused) -> None:
        self.refused.append(fact)
        if not self._world.is_poison(fact.subject):
            self._world.violate("no command of ours is refused", f"{fact}")

    def scan_started(self, lane: Lane, fact: f.ScanStarted) -> None:
        self.scans.append(fact)

    def source_gap(self, lane: Lane, fact: f.SourceGap) -> None:
        start = self._world.cluster.partitions[fact.topic, fact.partition].start
        if fact.topic != "events" or not fact.from_offset < fact.to_offset <= start:
            self._world.violate("a gap names what is lost, and only that (rule 18)", f"{fact}, there from {start}")
        self.gaps[fact.topic, fact.partition].append((fact.from_offset, fact.to_offset))

    def fenced(self, lane: Lane, fact: f.LaneFenced) -> None:
        lane.owners.append(lane.validity.owner)
        for machine in self._world.machines:
            if machine.name == fact.worker:
                owned = machine.worker.lanes.get(lane.place.lane) if machine.worker is not None else None
                self._fenced_by[lane.validity.owner.hex()] = (machine.process, owned)


_CHECKS: dict[type, Any] = {
    f.RunStarted: Observer.run_started,
    f.FunctionSkipped: Observer.skipped_by,
    f.RunCompleted: Observer.ended,
    f.RunCancelled: Observer.run_cancelled,
    f.CancellationStarted: Observer.cancellation_started,
    f.RunFailed: Observer.run_failed,
    f.StepHeld: Observer.step_held,
    f.BodyHeld: Observer.body_held,
    f.HeldResumed: Observer.held_resumed,
    f.StepCompleted: Observer.step_completed,
    f.StepFailed: Observer.step_failed,
    f.StepAttemptFailed: Observer.attempt_failed,
    f.BodyAttemptFailed: Observer.body_attempt_failed,
    f.SleepStarted: Observer.sleep_started,
    f.SleepEnded: Observer.sleep_ended,
    f.WaitStarted: Observer.wait_started,
    f.CallbackOpened: Observer.callback_opened,
    f.DispatchLost: Observer.dispatch_lost,
    f.DispatchParked: Observer.dispatch_parked,
    f.PublishQueued: Observer.publish_queued,
    f.MessageSent: Observer.message_sent,
    f.MessageTaken: Observer.message_taken,
    f.MessagesDelivered: Observer.messages_delivered,
    f.EventAccepted: Observer.event_accepted,
    f.RequestAnswered: Observer.answered,
    f.CronTicked: Observer.cron_ticked,
    f.CommandRefused: Observer.command_refused,
    f.ScanStarted: Observer.scan_started,
    f.LaneFenced: Observer.fenced,
    f.SourceGap: Observer.source_gap,
}
