"""The promises that are checked between storms and at the end (design.md, section 7)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from millstream.core.liveness import timer_problem
from millstream.core.owed import owed_by_run
from millstream.core.under_way import seen_of, unanswered
from millstream.lane.lane import Lane
from millstream.lane.ownership.restore import restore
from millstream.model import facts as f
from millstream.model.event import FUNCTION_FAILED
from millstream.model.ids import run_id
from millstream.model.messages import group_topic
from millstream.model.rows import TimerRow
from millstream.state.dump import dump
from millstream.state.keyspace import CHECKPOINT_TOPICS
from millstream.state.memory import MemoryDisk, MemoryStore
from millstream.wire.messages import decode_envelope, decode_inbox
from tests.sim.observer import rows_of
from tests.sim.programs import steps_of

if TYPE_CHECKING:
    from tests.sim.world import World

SETTLE_MAX_S = 900
OF_COUNTS = ("gate", "rate_limit", "idempotency")
"""Timers of gates that count starts in a time."""
GROUP = "sim"


def live_lanes(world: World) -> list[Lane]:
    """The lanes that live and whose owners are the journals' latest."""
    found = []
    for machine in world.machines:
        if not machine.up or machine.worker is None:
            continue
        for lane in machine.worker.lanes.values():
            seen, journal = world.observer.lanes[lane.place.lane].validity, lane.journal
            if lane.live and (journal.owner, journal.seq) == (seen.owner, seen.seq):
                found.append(lane)
    return found


@contextmanager
def disks_that_work(world: World) -> Iterator[None]:
    """Checks read the rows as they were written: damage is the lanes' to meet."""
    disks = [disk for machine in world.machines for disk in machine.disks.values()]
    damaged = [(disk, disk.damaged) for disk in disks]
    world.faults.readable = True
    for disk in disks:
        disk.damaged = set()
    try:
        yield
    finally:
        world.faults.readable = False
        for disk, flipped in damaged:
            disk.damaged = flipped


def live_tables(world: World) -> None:
    """Live tables are what the journal says, byte for byte; and what is owed is in somebody's hand."""
    questions(world)
    with disks_that_work(world):
        for lane in live_lanes(world):
            number = lane.place.lane
            if world.observer.lanes[number].validity.parts_held:
                continue
            expect(world, f"lane {number}, live", world.observer.lanes[number].rows(), rows_of(lane.tables.durable))
            executions(world, lane)


def questions(world: World) -> None:
    """Of every wait that is closing the question to its home, or the answer, is under way."""
    lanes = [seen_of(lane.tables) for lane in world.observer.lanes]
    unread = []
    for seen in lanes if any(seen.asked for seen in lanes) else ():
        inbox = world.cluster.partitions[group_topic(GROUP, "inbox"), seen.lane]
        records, _ = inbox.read(max(seen.inbox_from, inbox.start), 1 << 30, 1 << 40)
        unread += [(seen.lane, decode_inbox(record.value)) for record in records]
    for lane, question in unanswered(lanes, unread):
        world.violate("every open run has something that will move it (rule 32)", f"lane {lane}: {question} is lost")


def executions(world: World, lane: Lane) -> None:
    """Every hand-out that the state owes is under way, when nothing waits to be decided."""
    executor: Any = lane.executor
    if not lane.quiescent or executor.source.delayed:
        return
    for _, run in lane.tables.durable.runs.scan(limit=1_000):
        for effect in owed_by_run(lane.tables.durable, run):
            out = effect.run, effect.step, effect.dispatch
            if not lane.executor.holds(*out) and not lane.previous_owners.runs(*out):
                world.violate("effects outstanding = owed", f"lane {lane.place.lane}: {effect} is in nobody's hand")


def expect(world: World, what: str, wanted: Mapping[str, Mapping[Any, Any]], got: Mapping[str, Any]) -> None:
    """Equal tables, or a violation that shows the first difference."""
    if wanted == got:
        return
    for name in wanted:
        if wanted[name] != got[name]:
            keys = {k for k in wanted[name].keys() | got[name].keys() if wanted[name].get(k) != got[name].get(k)}
            key = min(keys)
            world.violate(
                "restored tables = live tables (rule 15)",
                f"{what}: table {name}, {len(keys)} rows; first {key!r}: journal {wanted[name].get(key)!r}, "
                f"there {got[name].get(key)!r}",
            )
            return


async def settle(world: World) -> None:
    """Wait, in virtual time, until nothing is left to do."""
    begun_s = world.loop.now_s
    left: list[str] = []
    while world.loop.now_s - begun_s < SETTLE_MAX_S:
        left = unsettled(world)
        if not left:
            world.trace("-- settled after %.1f s", world.loop.now_s - begun_s)
            return
        have_idle_lanes_find_out(world)
        world.bounded.look()
        questions(world)
        await asyncio.sleep(0.5)
    world.violate("every open run has something that will move it (rule 32)", "; ".join(left[:6]))


def have_idle_lanes_find_out(world: World) -> None:
    """Have lanes write a record that somebody has fenced since their last one: only then do they notice.

    Such a fence is an earlier life's that turned up late: where nothing happens it would lie there for ever, and harm
    nobody.
    """
    for machine in world.machines:
        for lane in machine.worker.lanes.values() if machine.up and machine.worker is not None else ():
            if lane.live and lane.idle and lane.journal.owner != world.observer.lanes[lane.place.lane].validity.owner:
                lane.append_empty()


def unsettled(world: World) -> list[str]:
    """What is still to be done."""
    observer = world.observer
    if len(observer.ends) < len(observer.starts):  # Not worth a scan: somebody is at it.
        return [
            f"run {observer.starts[run]} is open" for run in islice(observer.starts.keys() - observer.ends.keys(), 5)
        ]
    lanes = {lane.place.lane: lane for lane in live_lanes(world)}
    left = [f"lane {n} is not live" for n in range(world.lanes) if n not in lanes]
    with disks_that_work(world):
        for number, lane in lanes.items():
            left += _unsettled(world, number, lane)
    return left + world.foreign.unread()


def _unsettled(world: World, number: int, lane: Lane) -> list[str]:
    durable = lane.tables.durable
    left = [f"run {row} is open" for row in durable.runs.scan(limit=5)]
    left += [f"outbox {row}" for row in durable.outbox.scan(limit=2)]
    left += [f"publish {row}" for row in durable.publishes.scan(limit=2)]
    left += [f"former owner {row}" for row in durable.holders.scan(limit=2)]
    left += [f"cancellation {row}" for row in durable.cancellations.scan(limit=2)]
    left += [f"parked {row}" for row in durable.parked.scan(limit=2)]
    left += [f"held {row}" for row in durable.held.scan(limit=2)]
    left += [f"event {row}" for row in durable.events.scan(limit=2)]
    left += [f"kept start {row}" for row in durable.kept_starts.scan(limit=2)]
    left += [f"batch {row}" for row in durable.batches.scan(limit=2)]
    left += [f"asks at a gate {row}" for row in durable.asks.scan(limit=2)]
    for topic, partition in ((group_topic(GROUP, "inbox"), number), *lane.subscriptions.sources):
        end = world.cluster.partitions[topic, partition].end
        row = durable.positions.get((topic, partition))
        if end and (row is None or row.offset < end):
            left.append(f"{topic}/{partition} is read to {row}, not {end}")
    return left


async def final(world: World) -> None:
    """Everything that can be said at the end."""
    live_tables(world)
    if world.violations:
        return
    await restored(world, last=True)
    ownership(world)
    timers(world)
    events(world)
    world.foreign.check()
    world.waits.check()
    world.gates.check()
    world.cancelling.check()
    world.bounded.check()
    world.holds.check()
    outcomes(world)
    messages(world)
    publishes(world)
    requests(world)


async def restored(world: World, *, disks: bool = True, last: bool = False) -> None:
    """The topics alone, and every disk that is left, lead to the same tables; the last time byte for byte.

    Topics that were found right and hold the same checkpoint still lead to the same: folding on is what the observer
    does, too.
    """
    log = world.cluster.client("auditor")
    for lane in world.observer.lanes:
        number = lane.place.lane
        held = _held_by_topics(world, number)
        stores = [("the topics alone", MemoryStore())] if last or lane.audited != held else []
        for machine in world.machines:
            if disks and number in machine.disks:
                copy = MemoryDisk()
                copy.write(list(machine.disks[number].rows.items()))
                stores.append((f"the disk of {machine.name}", MemoryStore(copy)))
        for what, store in stores:
            try:
                tables, reached = await restore(log, lane.place, store, lambda facts, left: None)
            except Exception as error:
                world.violate("the state can always be restored", f"lane {number} from {what}: {error!r}", error)
                return
            if reached.offset != lane.next:
                continue
            if last:
                expect(world, f"lane {number} from {what}", dump(lane.tables), dump(tables))
            else:
                expect(world, f"lane {number} from {what}", lane.rows(), rows_of(tables))
            lane.audited = held


def _held_by_topics(world: World, number: int) -> tuple[Any, ...]:
    """What a restore of a lane begins from."""
    held: list[Any] = [world.cluster.partitions[group_topic(GROUP, "journal"), number].start]
    for topic in CHECKPOINT_TOPICS:
        partition = world.cluster.partitions[group_topic(GROUP, topic), number]
        held += [partition.end, partition.held]
    return tuple(held)


def ownership(world: World) -> None:
    """Every lane lives in one process: the one that the group names."""
    for machine in world.machines:
        told = world.group.lanes_known_to(machine.name)
        held = set(machine.worker.lanes) if machine.worker is not None else set()
        if machine.up and told != held:
            world.violate("a lane lives where the group says (rule 6)", f"{machine.name}: told {told}, has {held}")


def timers(world: World) -> None:
    """A run that is over leaves no timer; a cron has exactly one, in the future."""
    for lane in world.observer.lanes:
        crons = {(row.function, row.cron): row.at_ms for _, row in lane.tables.crons.scan(limit=100)}
        for key, _ in lane.tables.timers.scan(limit=100):
            if key[1] in OF_COUNTS and not timer_problem(lane.tables, TimerRow(*key)):
                continue  # What is counted in a time says something until that is over.
            if key[1] != "cron" or crons.pop((key[2], key[3]), None) != key[0]:
                world.violate("a timer belongs to something", f"{key}")
        if crons:
            world.violate("a cron has its timer", f"{crons}")


def events(world: World) -> None:
    """What lies in the events topic, acknowledged or not, started each subscribed function exactly once."""
    for number in range(world.lanes):
        gaps = world.observer.gaps["events", number]
        firsts: set[str] = set()
        written: set[str] = set()
        for offset, record in enumerate(world.written[number]):
            try:
                event = decode_envelope(record.value or b"")
            except Exception:
                continue  # Poison, ours.
            written.add(event.internal_id)
            if event.id in firsts or any(start <= offset < end for start, end in gaps):
                continue  # What was deleted before it was read is named by a fact (rule 18).
            if one_function(world, event, number):
                firsts.add(event.id)
        lost = [id for id, partition in world.clients.acknowledged.items() if partition == number and id not in written]
        if lost:
            world.violate("an acknowledged event is never lost", f"{lost}")


def one_function(world: World, event: Any, partition: int) -> bool:
    """Whether the event had subscribers; each must have started once."""
    from millstream.model.ids import lane_of_source

    heard = False
    lane = lane_of_source("events", partition, world.lanes)
    for slug, planned in world.planned.items():
        if planned.event == event.name:
            heard = True
            if world.gates.is_gated(slug):
                started = world.gates.is_accounted_for(planned, event)
            else:
                run = run_id(event.ts_ms, event.internal_id, slug, "", lane=lane, lanes=world.lanes)
                started = run in world.observer.starts
            if not started:
                world.violate("an event starts each subscribed function", f"{event} did not start {slug}")
    return heard


def outcomes(world: World) -> None:
    """Every run ended, as its program says it may."""
    observer = world.observer
    for run, start in observer.starts.items():
        end = observer.ends.get(run)
        planned = world.planned.get(start.function)
        if end is None:
            world.violate("every run ends", f"{start}")
        elif isinstance(end, f.RunCancelled):
            meant = run in observer.cancelled or world.cancelling.has_ended(run)
            who = (world.waits, world.bounded, world.gates)
            if not meant and not any(one.may_be_cancelled(run) for one in who):
                world.violate("only a cancel cancels", f"{end}")
        elif planned is None:
            if not isinstance(end, f.RunCompleted):
                world.violate("a run ends as its program says", f"{end}")
        elif isinstance(end, f.RunFailed) and planned.holds:
            continue  # An operator has let it (holds.py).
        elif isinstance(end, f.RunFailed):
            if end.error_name == "WorkerLost" and observer.lost[run] >= 5:
                continue
            ours = end.error_name in ("InternalError", "CancelledError")
            if (ours or not planned.fails) and not _worker_lost(world, run):
                world.violate("a run ends as its program says", f"{end}, program {planned.program}")
        else:
            if planned.fails:
                world.violate("a run ends as its program says", f"{end} of {planned.program}")
            _result(world, run, end)


def _worker_lost(world: World, run: str) -> bool:
    """Whether a step of it was given up because its worker died too often."""
    return any(b'"WorkerLost"' in data for (of, _), data in world.observer.failures.items() if of == run)


def _result(world: World, run: str, end: f.RunCompleted) -> None:
    """What the run returned is what its steps recorded; and each step that ran was tried as often as it fails."""
    observer = world.observer
    steps = steps_of(world.planned[end.function].program)
    for id, value in msgspec.json.decode(end.result).items():
        recorded = observer.results.get((run, id))
        if recorded is None:
            if (run, id) not in observer.failures:
                world.violate("a recorded result never changes", f"{run} returned {id} = {value}, recorded nothing")
            continue
        found = msgspec.json.decode(recorded)
        if found != value and (not isinstance(found, dict) or found.get("ids") != value):
            world.violate("a recorded result never changes", f"{run} returned {id} = {value}, recorded {recorded!r}")
        if id in steps and not all((run, id, n) in observer.attempts_failed for n in range(steps[id].fails)):
            world.violate("every attempt is recorded", f"step {id} of {run} fails {steps[id].fails} times first")


def messages(world: World) -> None:
    """What one lane sent to another, that one took."""
    for lane in world.observer.lanes:
        for to_lane, sent in lane.sent.items():
            taken = world.observer.lanes[to_lane].taken[lane.place.lane]
            if taken != sent:
                world.violate(
                    "messages arrive exactly once", f"{lane.place.lane} sent {sent} to {to_lane}: {taken} taken"
                )


def publishes(world: World) -> None:
    """What was queued is in its topic, at least once, as it was queued; and nothing else is there."""
    there: set[tuple[str, bytes]] = set()
    for (topic, _), partition in world.cluster.partitions.items():
        if topic in ("out", "events", group_topic(GROUP, "dead-letters")):
            records: Any = (
                world.written[partition.number] if topic == "events" else partition.read(0, 1 << 30, 1 << 40)[0]
            )
            for record in records:
                there.add((topic, _identity(topic, record.value or b"", record.headers)))
    queued = set()
    for fact in world.observer.queued:
        if fact.event is not None:
            queued.add((fact.topic, b"event " + fact.event.internal_id.encode()))
        else:
            queued.add((fact.topic, _identity(fact.topic, fact.value, fact.headers)))
    if queued - there:
        world.violate("what is to be published is published", f"missing: {sorted(queued - there)[:3]}")
    phantoms = {one for one in there - queued if one[0] != "events"}
    ours = {b"event " + id.encode() for id in world.clients.sent}
    phantoms |= {one for one in there - queued if one[0] == "events" and one[1] not in ours and one[1] != b""}
    if phantoms:
        world.violate("nothing is published that was not decided", f"{sorted(phantoms)[:3]}")
    announced = [fact.event for fact in world.observer.queued if fact.event and fact.event.name == FUNCTION_FAILED]
    failed = [run for run, end in world.observer.ends.items() if isinstance(end, f.RunFailed)]
    keys = sorted(event.key for event in announced)
    if len(keys) != len(set(keys)) or not set(keys) <= set(failed):
        world.violate("a run's end is announced once", f"{keys}")
    wanted = any(one.on_failure and one.slug.startswith("one-") for one in world.planned.values())
    if wanted and len(set(keys)) < len(failed):
        world.violate("a run's end is announced once", f"announced {keys}, failed {failed}")


def _identity(topic: str, value: bytes, headers: tuple[tuple[str, bytes], ...]) -> bytes:
    if topic == "events":
        try:
            return b"event " + decode_envelope(value).internal_id.encode()
        except Exception:
            return b""
    return b"|".join(name.encode() + b"=" + text for name, text in headers) + b"|" + value


def requests(world: World) -> None:
    """What an api asked for was decided, and answered."""
    for request, message in world.clients.asked.items():
        if request not in world.observer.answers:
            world.violate("a request is answered", f"{message}")
