"""The lane: commands in, one journal record per turn out, effects released once it is durable.

    queue ──> decide, fold (in flight) ──> append ──acknowledged──> promote ──> release effects
      ^                                       │
      └── the same commands again <── drop ── refused, void, fenced

One turn takes everything that waits: nothing is delayed to fill a batch, what arrives during an append is the next one.
The loop knows no policy; it is the same for every command. ``ownership/`` decides who may write, ``journal.py`` how an
append ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from functools import partial
from typing import Final

from millstream.core.runs.bounds import BOUNDS
from millstream.core.waits.awaited_names import awaited
from millstream.errors import StoreFailed, StoreUnavailable
from millstream.lane.input.backlog import Backlog
from millstream.lane.input.foreign import Foreign, ForeignReader
from millstream.lane.input.positions import PendingPositions, position_of, queued_bytes
from millstream.lane.input.scan_reader import ScanReader
from millstream.lane.input.sources import Intake, Item, PositionedCommand
from millstream.lane.input.subscriptions import Subscriptions
from millstream.lane.journal import Fenced, Journal, Refused, Unencodable, Void
from millstream.lane.maintenance.clock import CLOCK_CHECK_MS, clock_off_ms
from millstream.lane.maintenance.offsets import commit_offsets
from millstream.lane.maintenance.trouble import APPENDS, FLUSHES, OPENS, READS
from millstream.lane.maintenance.upkeep import Upkeep
from millstream.lane.metrics import Counts, set_gauges
from millstream.lane.output.effects import Effects
from millstream.lane.output.outbox import Outbox
from millstream.lane.output.record_limits import RecordLimits
from millstream.lane.output.timers import Timers
from millstream.lane.ownership.draining import Released
from millstream.lane.ownership.fencing import NotOwned, first_error, take_over, wait_a_little
from millstream.lane.ownership.previous_owners import PreviousOwners
from millstream.lane.ownership.restore import Reached
from millstream.lane.ownership.takeover import OwedWork
from millstream.lane.parts import LaneParts
from millstream.lane.turn import Turn
from millstream.model.commands import (
    CleanUp,
    Command,
    LoseDispatch,
    NoteDelivered,
    NotePublished,
    ParkDispatch,
    RefusePublish,
    ReleaseLane,
    Report,
)
from millstream.model.facts import CatalogueSeen, SourceOpened, TopicSeen
from millstream.model.messages import group_topic
from millstream.state.marker import Marker
from millstream.state.tables import LaneTables
from millstream.telemetry import say
from millstream.wire.journal import Validity

LOG: Final = logging.getLogger("millstream.lane")
POSITIONS_AFTER_S: Final = 0.5
RECORDED_LOOK_S: Final = 0.005
CHANGE_SOURCES: Final = frozenset((CatalogueSeen, TopicSeen, SourceOpened))
OUTBOX_DRAIN_S: Final = 0.3
"""How long a released lane still sends its outbox; the next owner sends the rest."""
KEPT_AT_RELEASE: Final = (Report, ParkDispatch, LoseDispatch, NoteDelivered, NotePublished, RefusePublish)
"""Commands of the queue that a lane still records when it is released; the next owner gets all others again."""


class LaneReleasedInOrder(Exception):
    """The lane's last record is durable: its owner has released it in good order."""


class Lane:
    """One lane, from take-over to loss. ``run`` is its whole life; ``tables`` are restored up to ``reached``."""

    def __init__(self, parts: LaneParts, tables: LaneTables, reached: Reached) -> None:
        self.parts = parts
        self.tables = tables
        self.place = tables.place
        self._settings = parts.settings
        self._journal_topic = group_topic(self.place.group, "journal")
        self.journal = Journal(
            parts.log, self._journal_topic, self.place.lane, watchdog_s=parts.settings.watchdog_ms / 1000
        )
        self._reached = reached
        self._queue: deque[Item] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._capacity_freed = asyncio.Event()
        self._counts = Counts(parts.telemetry, parts.place.lane)
        self._trouble = parts.trouble
        self._trouble.on_passed = self._signal_capacity
        foreign = ForeignReader(parts.schemas, parts.telemetry, parts.place.lane)
        self.pending_positions = PendingPositions(tables, foreign)
        self._positions_due = False
        self._record_due = False  # Even an empty one.
        self._appended_at_ms = parts.surroundings.now_ms()  # By our clock, the last record.
        self._at_ms = 0
        self._releasing = False
        self._careful = False  # The next turn looks for the command that made this one impossible to record.
        self.released: Released | None = None
        """How the lane was released in good order; None while it lives, and where it was lost."""
        self.release_under_way: Released | None = None
        """The same, from the append of the last record on, unless that record certainly does not count."""
        self._live = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._intake_tasks: list[asyncio.Task[None]] = []
        self._taking_over = True
        late = partial(parts.telemetry.observe, "millstream_timer_lateness_seconds")
        self.timers = Timers(tables, parts.surroundings, self.submit, late, (self._can_decide, self._can_accept_work))
        self.outbox = Outbox(parts.log, tables.durable, self.submit, parts.on_topic_wanted)
        self.upkeep = Upkeep(parts, tables, self._marker, self.journal.is_fenced)
        self.upkeep.facts_since_checkpoint = reached.facts
        self.previous_owners = PreviousOwners(
            tables.durable,
            self.submit,
            parts.settings.silence_ms,
            inbox_end=partial(parts.log.end_offset, group_topic(self.place.group, "inbox"), self.place.lane),
            inbox_read=lambda: self._intake.inbox_read,
        )
        self._backlog = Backlog(parts, tables.durable, lambda: self.subscriptions.sources)
        self._intake = Intake(
            parts.log,
            parts.membership,
            self.place,
            self._take_in,
            current_catalogue=lambda: self.pending_positions.current_catalogue(self._intake.catalogue_offset),
            is_awaited=lambda name: parts.on_unheard is not None or name in awaited(tables.durable),
            foreign=foreign,
            schemas=parts.event_schemas,
            wait_to_accept_work=self._wait_to_accept_work,
            wait_for_queue_capacity=self._wait_for_queue_capacity,
            on_still_running=self.previous_owners.on_still_running,
            on_page=self._backlog.note,
        )
        self.subscriptions = Subscriptions(parts, tables.durable, self.submit, self._intake.run_source)
        self.scan_reader = ScanReader(parts, tables.durable, self.submit, self._wait_to_accept_work)
        self._record_limits = RecordLimits(parts.log, self.submit)
        self.executor = parts.make_executor(tables.durable, self._record_limits.submit)
        self._effects = Effects(self.executor, self.timers, self.outbox, self.submit, lambda: self.journal.expected - 1)
        self._effects.scan = self.scan_reader.read_on
        self._owed_work = OwedWork(
            tables.durable, self.executor, self.previous_owners, self.submit, self._wait_to_accept_work
        )

    # --- from outside -------------------------------------------------------------------------

    def submit(self, command: Item) -> None:
        """Queue a command. Never blocks; sources that bring many wait for capacity first."""
        self._queue.append(command)
        if self._wake is not None:
            self._awaken(self._wake)

    def _awaken(self, wake: asyncio.Future[None]) -> None:
        self._wake = None
        if not wake.done():
            wake.set_result(None)

    def _take_in(self, item: Item) -> None:
        self.pending_positions.queued_bytes += queued_bytes(item)
        self.submit(item)

    def stop_intake(self) -> None:
        """Read no more and fire no more timers; running steps may still report. The first half of a graceful end."""
        for task in self._intake_tasks:
            task.cancel()
        self.subscriptions.close()
        self.scan_reader.close()
        self.timers.close()

    async def wait_recorded(self) -> None:
        """Return once every submitted command is recorded, or the lane has ended. The other half."""
        while self.live and (self._queue or self._wake is None):  # noqa: ASYNC110 - once, when a worker ends
            await asyncio.sleep(RECORDED_LOOK_S)

    def begin_release(self) -> bool:
        """Begin to release the lane in good order (lanes.md rule 25); ``run`` returns when it is done.

        The lane starts nothing new; the hand-outs that its last record names go on: see ``released``. False during a
        take-over: nothing was decided since, so there is nothing to release.
        """
        if self._taking_over or not self.live:
            return False
        self.stop_intake()
        kept = (item for item in self._queue if isinstance(item, KEPT_AT_RELEASE))
        self._queue = deque(self.previous_owners.without_lost_dispatches(kept))
        self.pending_positions.queued_bytes = 0
        self.previous_owners.close()
        self._owed_work.close()
        self.executor.drain()
        self._releasing = True
        if self._wake is not None:
            self._awaken(self._wake)
        return True

    def unrecorded_commands(self) -> list[Command]:
        """The commands that were submitted and never recorded, once ``run`` has returned."""
        return [item for item in self._queue if not isinstance(item, PositionedCommand | Foreign)]

    async def wait_live(self) -> None:
        """Return once the lane is restored, fenced and takes commands."""
        await self._live.wait()

    @property
    def live(self) -> bool:
        """Whether the lane takes commands."""
        return self._live.is_set()

    @property
    def idle(self) -> bool:
        """Whether no command waits, is being appended or is on its way out. Readers of topics do not count."""
        beside = self.outbox.idle and self.scan_reader.idle and self._owed_work.idle and self._record_limits.idle
        return self._wake is not None and beside

    @property
    def quiescent(self) -> bool:
        """Whether every command is decided and durable, and all owed work is handed out. False while it is released."""
        in_flight = any(table.flight for table in self.tables.all)
        return not (self._queue or self._releasing or in_flight) and self._owed_work.idle

    def append_empty(self) -> None:
        """Append a record even without facts: it shows the log's time, and whether another owner has fenced."""
        self._record_due = True
        self.submit(CleanUp())

    @property
    def catalogue_seen(self) -> int:
        """The offset of the functions topic up to which this lane knows apps and reads their sources; −1: not live."""
        return self.subscriptions.seen if self.live else -1

    async def run(self) -> None:
        """Take over and live. Returns when the lane is no longer owned; raises what stops it."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self.scan_reader.start(self._tasks)
                await self._take_over()
                self._tasks.create_task(self._turns())
                self._tasks.create_task(self.timers.run())
                self._tasks.create_task(self._housekeeping())
                self._tasks.create_task(self._trouble.tend(self.parts, FLUSHES, self.upkeep.tend))
                self._tasks.create_task(self._trouble.tend(self.parts, READS, self._tend_neighbours))
                self._tasks.create_task(commit_offsets(self.parts, self.tables.durable, self._intake.reading))
                self._tasks.create_task(self._backlog.look())
                self._start_intake(self._tasks)
                self._live.set()
                self._trouble.passed(OPENS)
        except BaseExceptionGroup as group:
            _, stopped = group.split((NotOwned, LaneReleasedInOrder))
            if stopped is not None:
                raise first_error(stopped) from stopped
            if self.released is None:
                say(LOG, "lane lost", lane=self.place.lane)
        finally:
            self._live.clear()
            await self._close()

    # --- taking over --------------------------------------------------------------------------

    async def _take_over(self) -> None:
        """Fence, fold the records before the fence, and start the owed work (lanes.md rules 3 to 5)."""
        self._taking_over = True
        self._reached, clock_off_ms = await take_over(self.parts, self.tables, self.journal, self._reached)
        self._taking_over = False
        self._judge_clock(clock_off_ms)  # Before the first timer fires by it.
        self._at_ms = max(self._at_ms, self._reached.at_ms)
        self.parts.telemetry.count("millstream_fences_total")
        assert self._tasks is not None
        end_overdue = partial(self.timers.fire_overdue, BOUNDS, self._wait_for_queue_capacity)
        runs_per_turn = self._settings.takeover_runs_per_turn
        self._owed_work.start(self._tasks, self._effects.release_one, runs_per_turn, end_overdue)

    async def _reopen(self, turn: Turn, why: Void | Fenced) -> None:
        """A failed append made the turn's decisions void: fence again and decide its commands again."""
        self._undo(turn)
        self._taking_over = True  # From here on the tables may be ahead of the journal object.
        say(LOG, "lane reopened", level=logging.WARNING, lane=self.place.lane, why=type(why).__name__)
        if isinstance(why, Fenced):
            await wait_a_little(self.parts)  # lanes.md rule 4: two owners must not fence in step.
        self._reached = Reached(self.journal.expected, Validity(self.journal.owner, self.journal.seq), self._at_ms, 0)
        await self._take_over()
        self.timers.reload()

    def _decide_carefully(self, turn: Turn, why: Exception) -> None:
        """A turn cannot be recorded: undo it, and decide it again so that only the command to blame is refused."""
        if turn.careful or self.release_under_way is not None:
            raise why
        self._undo(turn)
        self._careful = True
        say(LOG, "turn decided again", level=logging.WARNING, lane=self.place.lane, why=type(why).__name__)

    def _undo(self, turn: Turn) -> None:
        self.tables.drop()
        self.pending_positions.offsets = turn.before
        self._queue.extendleft(reversed(turn.items))
        self.pending_positions.queued_bytes += turn.queued_bytes

    def _start_intake(self, tasks: asyncio.TaskGroup) -> None:
        group, durable = self.place.group, self.tables.durable
        coroutines = (
            self._intake.run_catalogue(position_of(durable, group_topic(group, "functions"), 0)),
            self._intake.run_inbox(position_of(durable, group_topic(group, "inbox"), self.place.lane)),
            self.subscriptions.run(tasks),
        )
        self._intake_tasks = [tasks.create_task(coroutine) for coroutine in coroutines]

    # --- turns --------------------------------------------------------------------------------

    async def _turns(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self._releasing and not self._queue:
                await self._release()
            if not self._queue and not self._positions_due:
                self._wake = loop.create_future()
                await self._wake
            try:
                turn = self._decide()
            except StoreUnavailable as error:
                await self._trouble.wait(self.parts, READS, error)
                continue
            self._trouble.passed(READS)
            if turn is None:
                self._signal_capacity()
                await asyncio.sleep(0)
                continue
            await self._commit(turn)

    async def _release(self) -> None:
        """Append the last record: the hand-outs still out. Raises LaneReleasedInOrder, or NotOwned."""
        holder = f"{self.parts.worker}-{self.journal.owner.hex()}"
        out = self.executor.dispatches()
        self.submit(ReleaseLane(self.parts.worker, holder, out))
        turn = self._decide()
        assert turn is not None, "ReleaseLane decides a fact"
        self.release_under_way = Released(holder, out, self.journal.expected)
        await self._commit(turn)
        self.released = self.release_under_way
        with suppress(TimeoutError):
            async with asyncio.timeout(OUTBOX_DRAIN_S):
                while not self.outbox.idle:  # noqa: ASYNC110 - once, at the end
                    await asyncio.sleep(RECORDED_LOOK_S)
        raise LaneReleasedInOrder

    def _decide(self) -> Turn | None:
        """Decide and fold the queued commands, in flight. None: they decided nothing worth a record."""
        turn = Turn(dict(self.pending_positions.offsets), careful=self._careful, on_unheard=self.parts.on_unheard)
        now_ms = self._at_ms = max(self.parts.surroundings.now_ms(), self._at_ms)
        try:
            turn.fill(self._queue, self.tables, self.pending_positions, now_ms, self._settings)
            moved = self._positions_due and bool(self.pending_positions.offsets)
            worth_a_record = bool(turn.facts) or moved or self._record_due
            if worth_a_record:
                self.pending_positions.apply()
        except StoreFailed:  # No command is to blame: they wait until the store can be read.
            self._undo(turn)
            raise
        except Exception as error:
            self._decide_carefully(turn, error)
            return self._decide()
        self._careful = self._positions_due = False
        if not worth_a_record:
            return None
        self._record_due = False
        return turn

    async def _commit(self, turn: Turn) -> None:
        """Append a turn's facts; its effects follow only then."""
        positions = self.pending_positions.for_record()
        facts = tuple(turn.facts)
        clock = asyncio.get_running_loop().time
        began_s = clock()
        appended_at_ms = self.parts.surroundings.now_ms()
        try:
            size = await self.journal.append(facts, positions, self._at_ms)
        except Refused as error:
            if self._releasing:
                self.release_under_way = None
                raise NotOwned(f"lane {self.place.lane} could not be released in good order: {error}") from error
            self._undo(turn)
            await self._trouble.wait(self.parts, APPENDS, error)
            return
        except Unencodable as error:
            self._decide_carefully(turn, error)
            return
        except (Void, Fenced) as error:
            if self._releasing:
                if isinstance(error, Fenced):
                    self.release_under_way = None
                raise NotOwned(f"lane {self.place.lane} could not be released in good order.") from error
            await self._reopen(turn, error)
            return
        self._trouble.passed(APPENDS)
        self._appended_at_ms = appended_at_ms
        self.tables.promote(size)
        self.pending_positions.offsets.clear()
        if any(type(fact) in CHANGE_SOURCES for fact in facts):
            self.subscriptions.moved()
        self._effects.release(turn.effects)
        self._signal_capacity()
        self.upkeep.facts_since_checkpoint += len(facts)
        self._counts.take(facts, self._at_ms, size=size, took_s=clock() - began_s)
        if self.parts.on_facts is not None:
            self.parts.on_facts(facts, self._at_ms)

    # --- beside the turns ---------------------------------------------------------------------

    async def _housekeeping(self) -> None:
        """What is due every few hundred milliseconds, and waits for nothing."""
        rounds = 0
        checked_ms = self.parts.surroundings.now_ms()
        while True:
            await self.parts.surroundings.sleep(self._settings.housekeeping_ms / 1000)
            rounds += 1
            self._gauge()  # First: what is submitted here is no backlog.
            if rounds % 4 == 0 and self._queue_has_capacity():
                self.submit(CleanUp())
            if self.pending_positions.offsets and rounds * self._settings.housekeeping_ms >= POSITIONS_AFTER_S * 1000:
                rounds = 0
                self._positions_due = True
                self.submit(CleanUp())
            now_ms = self.parts.surroundings.now_ms()
            if abs(now_ms - checked_ms) >= CLOCK_CHECK_MS:  # Also where the clock was set back meanwhile.
                checked_ms = now_ms
                await self._check_clock()

    async def _tend_neighbours(self) -> None:
        self.outbox.check()
        await self.previous_owners.tend()

    async def _check_clock(self) -> None:
        """Pause the timers while the clock is wrong; an empty record a check tells when it is right again."""
        off_ms = await clock_off_ms(self.journal, self._appended_at_ms)
        if off_ms is not None:
            self._judge_clock(off_ms)

    def _judge_clock(self, off_ms: int) -> None:
        wrong = off_ms > self._settings.clock_off_max_ms
        if wrong != self.timers.paused:
            say(LOG, "clock checked", level=logging.ERROR, lane=self.place.lane, off_ms=off_ms, timers_paused=wrong)
        self.timers.paused = wrong
        if wrong:
            self.append_empty()

    def _can_accept_work(self) -> bool:
        """Whether queue, executor, the memory of unflushed rows and the disk all have capacity for new work."""
        return not self.executor.full and self._can_decide()

    def _can_decide(self) -> bool:
        flushed = self.tables.overlay_bytes < self._settings.overlay_bytes_max
        return self._queue_has_capacity() and flushed and not self._trouble.why

    def _queue_has_capacity(self) -> bool:
        settings = self._settings
        return len(self._queue) < settings.queue_max and self.pending_positions.queued_bytes < settings.queue_bytes_max

    async def _wait_to_accept_work(self) -> None:
        while not self._can_accept_work():
            self._capacity_freed.clear()
            await self._capacity_freed.wait()

    async def _wait_for_queue_capacity(self) -> None:
        while not self._queue_has_capacity():
            self._capacity_freed.clear()
            await self._capacity_freed.wait()

    def _signal_capacity(self) -> None:
        settings = self._settings
        is_half_empty = len(self._queue) < settings.queue_max // 2
        if is_half_empty and self.pending_positions.queued_bytes < settings.queue_bytes_max:
            self._capacity_freed.set()

    def _marker(self) -> Marker | None:
        journal = self.journal
        if self._taking_over:
            return None  # The tables may be ahead of what the journal object knows.
        return Marker(self.tables.journal, journal.expected - 1, journal.owner, journal.seq)

    def _gauge(self) -> None:
        reader, age_s = self.scan_reader, self.upkeep.checkpoint_age_ms / 1000
        work = (len(self._queue), self.executor.executing, self.tables.overlay_bytes)
        figures = (*work, reader.open_scans, reader.records_left, self.timers.pending, age_s)
        set_gauges(self.parts.telemetry, self.place.lane, self._backlog.waiting(), figures)

    async def _close(self) -> None:
        self._owed_work.close()
        self._record_limits.close()
        self.timers.close()
        try:
            await self.outbox.close()
        finally:  # Also where that is cancelled: nothing of this owner may turn up in the journal afterwards.
            await self.journal.close()
