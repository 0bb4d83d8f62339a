"""Gates that admit, on several lanes whose messages come late and twice: never more than they allow, nothing twice,
the newest wins, and no run or start is stuck."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.core.flow import counts
from millstream.core.runs.transitions import ENDS
from millstream.model import facts as f
from millstream.model import limits
from millstream.model.commands import Command, InvokeFunction
from millstream.model.event import Envelope
from millstream.model.facts import Fact
from millstream.model.function import FunctionSpec
from millstream.model.gates.declared import ConcurrencyRule, FlowSpec, RateLimitRule, SingletonRule, ThrottleRule
from millstream.model.ids import home_of, ulid
from millstream.model.limits import DAY_MS
from millstream.model.operations import BodyDone
from tests.core import invariants
from tests.core.lanes import Lanes
from tests.core.values import MINUTE_MS, START_MS, app, body_errored, event, function

LANES: Final = 3
KEY: Final = "event.data.k"
VALUES: Final[tuple[Mapping[str, object], ...]] = ({"k": "a"}, {"k": "b"}, {"k": None}, {})
TURNS_MAX: Final = 2_000
NOTHING_LEFT: Final = ("runs", "asks", "queues", "gates", "starts", "singletons", "timers")
FEW: Final = settings(max_examples=max(settings().max_examples // 2, 1))


def gated(name: str, flow: FlowSpec) -> FunctionSpec:
    """A function with these gates."""
    return msgspec.structs.replace(function(f"shop-{name}", "order/placed", retries=1), flow=flow)


RATE: Final = gated("rate", FlowSpec(rate_limit=RateLimitRule(2, MINUTE_MS, KEY)))
RATE_OF_ALL: Final = gated("rate", FlowSpec(rate_limit=RateLimitRule(3, MINUTE_MS)))
ONCE: Final = gated("once", FlowSpec(idempotency=KEY))
SKIP: Final = gated("skip", FlowSpec(singleton=SingletonRule("skip", KEY)))
LATEST: Final = gated("latest", FlowSpec(singleton=SingletonRule("latest", KEY)))
CANCEL: Final = gated("cancel", FlowSpec(singleton=SingletonRule("cancel", KEY)))
ALL: Final = gated(
    "full",
    FlowSpec(
        rate_limit=RateLimitRule(4, MINUTE_MS), idempotency="event.data.id", singleton=SingletonRule("latest", KEY),
        throttle=ThrottleRule(1, 1_000, key=KEY), concurrency=(ConcurrencyRule(1),),
    ),
)  # fmt: skip
"""Every gate; their homes, for each value of the key, are on several lanes."""


class Move(NamedTuple):
    """What happens (an index into ``MOVES``), and two numbers that choose."""

    kind: int
    x: int
    y: int


class World(Lanes):
    """Lanes with one function, the events that were made for it, and when each fact was decided."""

    def __init__(self, spec: FunctionSpec) -> None:
        self.told: list[tuple[int, Fact]] = []
        self.events: dict[str, Envelope] = {}
        self.unread: list[Envelope] = []
        self.requests: list[tuple[Envelope, str]] = []
        self.again: set[str] = set()
        """The events of requests that were repeated."""
        self.spec = spec
        super().__init__(LANES, app(spec))

    def play(self, moves: list[Move]) -> None:
        """Do the moves, and then let everything come to its end."""
        for move in moves:
            MOVES[move.kind % len(MOVES)](self, move)
        for number, late in enumerate(self.unread):
            self.send(number % LANES, late)
        self.drain()

    def do(self, lane: int, command: Command) -> list[Fact]:
        """One lane decides; its rows are as they must be."""
        facts = super().do(lane, command)
        invariants.check(self.tables[lane])
        return facts

    def new_event(self, x: int) -> Envelope:
        """An event received now."""
        number, value = len(self.events) + 1, VALUES[x % len(VALUES)]
        made = event(number, at_ms=self.now_ms, data=msgspec.json.encode({**value, "id": number}))
        self.events[made.internal_id] = made
        return made

    def invoke(self, made: Envelope, request: str) -> None:
        """An api asks for a run, at the lane of the request; asked again it is the same request."""
        self.do(home_of(request, LANES), InvokeFunction(self.spec.slug, made, request, 0))

    def advance(self, by_ms: int) -> None:
        """Time goes by; timers that are due fire, in order."""
        to_ms = self.now_ms + by_ms
        while any(arm.at_ms <= to_ms for of in self.timers for arm in of):
            self.fire()
        self.now_ms = to_ms

    def settle(self) -> None:
        """All that is under way arrives."""
        while way := list(self.under_way()):
            self.deliver(way[0])

    def drain(self) -> None:
        """All that is under way arrives and ends, and all times come, until nothing is left to happen."""
        for _ in range(TURNS_MAX):
            if way := list(self.under_way()):
                self.deliver(way[0])
            elif self.out:
                self.answer(*min(self.out), BodyDone(b"1"))
            elif not self.fire():
                return
        raise AssertionError(f"it comes to no rest: {self.way} {self.out} {self.timers}")

    def _note(self, lane: int, fact: Fact) -> None:
        super()._note(lane, fact)
        self.told.append((self.now_ms, fact))

    # --- what has happened ------------------------------------------------------------------------

    def key(self, internal_id: str) -> object:
        """The value of the key of an event."""
        return msgspec.json.decode(self.events[internal_id].data).get("k")

    def starts(self) -> dict[object, list[tuple[int, f.RunStarted]]]:
        """The runs that began, by the value of the key."""
        found: dict[object, list[tuple[int, f.RunStarted]]] = defaultdict(list)
        for at_ms, fact in self.told:
            if isinstance(fact, f.RunStarted):
                found[self.key(fact.events[0])].append((at_ms, fact))
        return found

    def skips(self) -> list[tuple[int, f.FunctionSkipped]]:
        """The events that started no run."""
        return [(at_ms, fact) for at_ms, fact in self.told if isinstance(fact, f.FunctionSkipped)]

    def check_nothing_lost(self) -> None:
        """Every event has started one run, or is said to have started none; and no row of it is left."""
        started = Counter(run.events[0] for run in self.started)
        skipped = Counter(fact.event for _, fact in self.skips())
        for id in self.events:
            said = started[id] + skipped[id]
            # A request that comes again when its gates have forgotten it may be told otherwise than before.
            assert said == 1 or (id in self.again and started[id] <= 1 <= said), f"{id}: {started[id]} {skipped[id]}"
        for tables in self.tables:
            left = [name for name in NOTHING_LEFT if getattr(tables, name).scan(limit=1)]
            assert not left, f"rows are left in {left} of lane {tables.place.lane}"


def _send(world: World, move: Move) -> None:
    world.send(move.y % LANES, world.new_event(move.x))


def _send_late(world: World, move: Move) -> None:
    world.unread.append(world.new_event(move.x))


def _read_late(world: World, move: Move) -> None:
    if world.unread:
        world.send(move.y % LANES, world.unread.pop(move.x % len(world.unread)))


def _invoke(world: World, move: Move) -> None:
    made = world.new_event(move.x)
    request = ulid(world.now_ms, len(world.events).to_bytes(10, "big"))
    world.requests.append((made, request))
    world.invoke(made, request)


def _invoke_again(world: World, move: Move) -> None:
    if world.requests:
        made, request = world.requests[move.x % len(world.requests)]
        if world.now_ms - made.received_at_ms < MINUTE_MS:  # No api asks again later.
            world.again.add(made.internal_id)
            world.invoke(made, request)


def _deliver(world: World, move: Move) -> None:
    if way := list(world.under_way()):
        world.deliver(way[move.x % len(way)])


def _end(world: World, move: Move) -> None:
    if out := sorted(world.out):
        world.answer(*out[move.x % len(out)], BodyDone(b"1"))


def _fail(world: World, move: Move) -> None:
    if out := sorted(world.out):
        world.answer(*out[move.x % len(out)], body_errored())


def _advance(world: World, move: Move) -> None:
    world.advance((1, 400, 7_000, 20_000, 61_000)[move.x % 5])


MOVES: Final[tuple[Callable[[World, Move], None], ...]] = (
    *(_send,) * 3, _send_late, _read_late, _invoke, _invoke_again, *(_deliver,) * 4, *(_end,) * 2, _fail,
    *(_advance,) * 2,
)  # fmt: skip
SMALL: Final = st.integers(0, 63)
PLAYS: Final = st.lists(st.builds(Move, st.integers(0, len(MOVES) - 1), SMALL, SMALL), min_size=10, max_size=60)


def played(spec: FunctionSpec, moves: list[Move]) -> World:
    """A world at rest, after these moves."""
    world = World(spec)
    world.play(moves)
    world.check_nothing_lost()
    return world


def check_window(times: list[int], limit: int, period_ms: int) -> None:
    """Raise AssertionError where a window has more starts than the limit."""
    for first, last in zip(times, times[limit:], strict=False):
        assert last - first >= period_ms, f"{limit + 1} starts in {last - first} ms of a window of {period_ms} ms"


# --- rate_limit -----------------------------------------------------------------------------------


@given(PLAYS)
def test_a_window_never_has_more_starts_than_the_limit_and_none_is_skipped_below_it(moves: list[Move]) -> None:
    world = played(RATE, moves)
    starts = {key: [at_ms for at_ms, _ in of] for key, of in world.starts().items()}
    for times in starts.values():
        check_window(times, 2, MINUTE_MS)
    for at_ms, fact in world.skips():
        before = [t for t in starts[world.key(fact.event)] if at_ms - MINUTE_MS < t <= at_ms]
        assert len(before) == 2, f"skipped at {at_ms} behind {before}: {fact}"


@FEW
@given(PLAYS)
def test_a_limit_above_the_exact_ones_is_never_exceeded_either(moves: list[Move]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "RATE_LIMIT_EXACT_MAX", 1)  # Small numbers reach what is above it, and long parts show.
        patch.setattr(counts, "PARTS", 3)
        world = played(RATE_OF_ALL, moves)
        check_window(sorted(at_ms for of in world.starts().values() for at_ms, _ in of), 3, MINUTE_MS)


# --- idempotency ----------------------------------------------------------------------------------


@FEW
@given(PLAYS)
def test_a_value_starts_one_run_in_a_day_and_none_is_no_value(moves: list[Move]) -> None:
    world = played(ONCE, moves)
    for key, of in world.starts().items():
        if key is not None:
            check_window([at_ms for at_ms, _ in of], 1, DAY_MS)
    for _, fact in world.skips():
        assert world.key(fact.event) is not None
        assert fact.reason.startswith("idempotency: ")


# --- singleton ------------------------------------------------------------------------------------


def check_single(world: World) -> None:
    """Raise AssertionError where two runs of one key are open at once."""
    keys: dict[str, object] = {}
    opened: dict[object, str] = {}
    for _, fact in world.told:
        if isinstance(fact, f.RunStarted):
            key = keys[fact.run] = world.key(fact.events[0])
            assert key not in opened, f"{fact} is open beside {opened[key]}"
            opened[key] = fact.run
        elif isinstance(fact, ENDS):
            del opened[keys[fact.run]]
    assert not opened


def check_newest(world: World) -> None:
    """Raise AssertionError where the newest event of a key has started no run, or was cancelled."""
    newest: dict[object, Envelope] = {}
    for made in world.events.values():
        newest[world.key(made.internal_id)] = made  # In the order in which they were received.
    for key, made in newest.items():
        runs = [fact.run for _, fact in world.starts()[key] if fact.events == (made.internal_id,)]
        assert len(runs) == 1, f"the newest event of {key} started {runs}"
        assert not isinstance(world.ended[runs[0]], f.RunCancelled), (
            f"the run of the newest event of {key} was cancelled"
        )


@FEW
@given(PLAYS)
def test_one_run_of_a_key_is_open_and_others_are_skipped(moves: list[Move]) -> None:
    check_single(played(SKIP, moves))


@given(PLAYS)
def test_the_newest_event_of_a_key_starts_when_the_open_run_is_over(moves: list[Move]) -> None:
    world = played(LATEST, moves)
    check_single(world)
    check_newest(world)
    assert not any(isinstance(fact, f.RunCancelled) for fact in world.ended.values())


@given(PLAYS)
def test_the_newest_event_of_a_key_cancels_the_open_run_and_starts_behind_it(moves: list[Move]) -> None:
    world = played(CANCEL, moves)
    check_single(world)
    check_newest(world)


# --- together -------------------------------------------------------------------------------------


@FEW
@given(PLAYS)
def test_all_gates_together_lose_nothing_and_come_to_an_end(moves: list[Move]) -> None:
    world = played(ALL, moves)
    check_single(world)
    counted: dict[tuple[str, str], list[int]] = defaultdict(list)
    for at_ms, fact in world.told:
        if isinstance(fact, f.StartCounted):
            counted[fact.place, fact.run].append(at_ms)
    for times in counted.values():
        check_window(times, 1, MINUTE_MS)  # A repeated request counts once.


# --- what a deploy changes ------------------------------------------------------------------------


def test_another_limit_counts_at_once_and_what_is_known_counts_for_it() -> None:
    world = World(RATE_OF_ALL)
    for _ in range(4):
        world.send(0, world.new_event(0))
    world.settle()
    assert len(world.started) == 3
    world.deploy(app(gated("rate", FlowSpec(rate_limit=RateLimitRule(5, MINUTE_MS)))))
    for _ in range(3):
        world.send(0, world.new_event(0))
    world.settle()
    assert len(world.started) == 5
    world.deploy(app(gated("rate", FlowSpec(rate_limit=RateLimitRule(2, MINUTE_MS)))))
    world.advance(MINUTE_MS - 1)
    world.send(0, world.new_event(0))
    world.settle()
    assert len(world.started) == 5
    world.advance(1)
    world.send(0, world.new_event(0))
    world.settle()
    assert len(world.started) == 6


def test_what_a_gate_kept_starts_also_where_the_gate_is_gone() -> None:
    world = World(LATEST)
    for _ in range(2):
        world.send(0, world.new_event(0))
    world.settle()
    world.deploy(app(gated("latest", FlowSpec())))
    world.send(0, world.new_event(0))
    world.settle()
    assert [run.events[0][-1] for run in world.started] == ["1", "3"]
    world.drain()
    assert [run.events[0][-1] for run in world.started] == ["1", "3", "2"]
    world.check_nothing_lost()


def test_a_mode_counts_for_a_start_that_was_kept_under_another() -> None:
    world = World(LATEST)
    for _ in range(2):
        world.send(0, world.new_event(0))
    world.settle()
    world.deploy(app(gated("latest", FlowSpec(singleton=SingletonRule("cancel", KEY)))))
    world.send(0, world.new_event(0))
    world.settle()
    assert [run.events[0][-1] for run in world.started] == ["1", "3"]
    assert isinstance(world.ended[world.started[0].run], f.RunCancelled)


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [RATE, SKIP, LATEST, CANCEL, ALL], ids=lambda spec: spec.slug)
def test_a_request_that_comes_again_when_its_run_is_over_holds_nothing(spec: FunctionSpec) -> None:
    for number in range(
        9
    ):  # Other values, other homes: the run's lane is another than those of its gates, or the same.
        world = World(spec)
        value = number % 3
        made, request = [world.new_event(value) for _ in range(number + 1)][-1], ulid(START_MS, bytes([number] * 10))
        world.invoke(made, request)
        world.settle()
        world.answer(*min(world.out), BodyDone(b"1"))
        world.settle()
        world.invoke(made, request)
        world.settle()
        assert len(world.started) == 1
        world.advance(MINUTE_MS)
        world.send(0, world.new_event(value))
        world.settle()
        assert len(world.started) == 2


# --- the window -----------------------------------------------------------------------------------


def test_starts_of_a_large_limit_are_kept_in_few_entries_and_err_on_the_strict_side(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "RATE_LIMIT_EXACT_MAX", 20)
    world = World(gated("rate", FlowSpec(rate_limit=RateLimitRule(30, MINUTE_MS))))
    for _ in range(3):
        for _ in range(10):
            world.send(0, world.new_event(0))
        world.settle()
        world.advance(10_000)
    assert len(world.started) == 30
    (row,) = (row for tables in world.tables for _, row in tables.starts.scan(limit=2))
    assert (row.counted, len(row.starts)) == (30, 3 * 20)
    world.advance(30_000)  # A minute behind the first of them: the part that it is in ended 299 ms after it.
    world.send(0, world.new_event(0))
    world.settle()
    assert len(world.started) == 30
    world.advance(300)
    world.send(0, world.new_event(0))
    world.settle()
    assert len(world.started) == 31
