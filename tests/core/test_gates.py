"""Gates over several lanes: no limit is ever exceeded, no run is stuck or lost, none starts twice, order is kept.

Messages come as late as they like. Everything is drawn: functions, events, who answers when, what fails, sleeps or is
cancelled, and when another version of the app comes.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.core.flow.rate_limit import RATE_LIMIT
from millstream.core.flow.throttle import THROTTLE
from millstream.model.facts import FunctionSkipped
from millstream.model.function import FunctionSpec
from millstream.model.gates.declared import (
    BatchRule,
    ConcurrencyRule,
    DebounceRule,
    FlowSpec,
    RateLimitRule,
    SingletonRule,
    ThrottleRule,
    senseless,
)
from millstream.model.operations import BodyDone, InvokeFound
from millstream.model.rows import Hand
from millstream.model.waits.awaited import home_of_place
from tests.core.lanes import Lanes
from tests.core.values import MINUTE_MS, app, done, errored, event, found, function, internal_id, sleep

KEY: Final = "event.data.k"
LANES: Final = 3
STEPS: Final = ("a", "b")

RULES = st.builds(
    ConcurrencyRule,
    limit=st.integers(1, 3),
    key=st.sampled_from(("", KEY, "event.data.j")),
    scope=st.just("fn"),
    per=st.sampled_from(("step", "run")),
)
SHARED = st.builds(
    ConcurrencyRule,
    limit=st.integers(1, 2),
    key=st.sampled_from((KEY, "'all'")),
    scope=st.sampled_from(("env", "account")),
    per=st.sampled_from(("step", "run")),
)
THROTTLES = st.builds(
    ThrottleRule, limit=st.integers(1, 3), period_ms=st.just(MINUTE_MS), burst=st.integers(1, 3),
    key=st.sampled_from(("", KEY)),
)  # fmt: skip
ADMITTING = st.one_of(
    st.builds(
        dict,
        debounce=st.builds(DebounceRule, st.just(MINUTE_MS), st.sampled_from(("", KEY)), st.sampled_from((0, 90_000))),
    ),
    st.builds(
        dict,
        batch=st.builds(
            BatchRule,
            st.integers(2, 4),
            st.just(MINUTE_MS),
            st.sampled_from(("", KEY)),
            st.sampled_from(("", "event.data.j == 1")),
        ),
    ),
    st.builds(  # Unwise, and taken from other SDKs.
        dict,
        debounce=st.builds(DebounceRule, st.just(MINUTE_MS), st.sampled_from(("", KEY))),
        rate_limit=st.builds(RateLimitRule, st.integers(1, 3), st.just(MINUTE_MS), st.sampled_from(("", KEY))),
        idempotency=st.sampled_from(("", KEY)),
    ),
    st.builds(
        dict, rate_limit=st.builds(RateLimitRule, st.integers(1, 3), st.just(MINUTE_MS), st.sampled_from(("", KEY)))
    ),
    st.builds(
        dict,
        singleton=st.builds(SingletonRule, st.sampled_from(("skip", "cancel", "latest")), st.sampled_from(("", KEY))),
    ),
    st.just({"idempotency": KEY}),
    st.just({}),
)
"""A gate that says whether an event starts a run, or none."""
QUEUEING = st.builds(
    FlowSpec,
    concurrency=st.lists(RULES | SHARED, max_size=2).map(tuple),
    throttle=st.none() | THROTTLES,
    priority=st.sampled_from(("", "event.data.j * 60")),
    ordered_by=st.sampled_from(("", "", KEY)),
)
FLOWS = st.builds(lambda flow, more: msgspec.structs.replace(flow, **more), QUEUEING, ADMITTING).filter(
    lambda flow: not senseless(flow, has_cancel_on=False)
)
TURNS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 63), st.integers(0, 63)), min_size=15, max_size=60)


def functions(flows: list[FlowSpec]) -> list[FunctionSpec]:
    named = [function(f"shop-f{n}", "order/placed", retries=1) for n in range(len(flows))]
    return [msgspec.structs.replace(one, flow=flow) for one, flow in zip(named, flows, strict=True)]


class Watch:
    """What must hold after every decision."""

    def __init__(self, flows: list[FlowSpec]) -> None:
        self.specs = {spec.slug: spec for spec in functions(flows)}

    def __call__(self, lanes: Lanes) -> None:
        executing: Counter[str] = Counter()
        begun: Counter[str] = Counter()
        limit: dict[str, int] = {}
        for tables in lanes.tables:
            for id, run in tables.runs.scan(limit=1_000):
                if run.flow is None:
                    continue
                steps = [tables.steps.get((id, step)) for step in run.steps]
                out = (run.body == Hand.OUT) + sum(row is not None and row.hand == Hand.OUT for row in steps)
                for place in run.flow.slots:
                    executing[place] += out
                for place in run.flow.gates[: run.flow.passed]:
                    begun[place] += 1
                limit |= self._limits(run.function, (*run.flow.gates, *run.flow.slots), limit)
        for place, most in limit.items():
            assert executing[place] <= most, f"{executing[place]} execute at {place}, the limit is {most}"
            assert "/throttle/" in place or begun[place] <= most, f"{begun[place]} runs at {place}, the limit is {most}"

    def _limits(self, slug: str, places: tuple[str, ...], known: dict[str, int]) -> dict[str, int]:
        """The widest limit of each place: functions that share it may have several."""
        flow = self.specs[slug].flow
        assert flow is not None
        found = dict(known)
        for place in places:
            _, gate, _, rest = place.split("/", 3)
            if gate == "order":
                found[place] = 1
            per = {"runs": "run", "steps": "step"}.get(gate)
            for rule in flow.concurrency:
                whose = slug if rule.scope == "fn" else rule.scope
                if rule.per == per and rest.startswith(f"{whose}/"):
                    found[place] = max(found.get(place, 0), rule.limit)
        return found


def play(lanes: Lanes, turns: list[tuple[int, int, int]]) -> int:
    """Do what the numbers say; how many events were sent."""
    before = sum(lanes.offsets)
    sent = 0
    for kind, x, y in turns:
        if kind < 4:
            sent += 1
            number = before + sent
            lanes.send(x % LANES, event(number, data=b'{"k":%d,"j":%d}' % (x // 3 % 3, y % 2), at_ms=lanes.now_ms))
        elif kind < 7:
            if lanes.out:
                run, step = sorted(lanes.out)[x % len(lanes.out)]
                answer(lanes, run, step, y)
        elif kind < 9:
            pairs = list(lanes.under_way())
            if pairs:
                lanes.deliver(pairs[x % len(pairs)])
            else:
                lanes.fire()
        elif lanes.open and y % 2:
            lanes.cancel(sorted(lanes.open)[x % len(lanes.open)])
        else:
            lanes.fire()
    return sent


def answer(lanes: Lanes, run: str, step: str, how: int) -> None:
    """An executor answers: the body sleeps, finds steps beside each other, fails one, or returns; a step ends."""
    if step:
        lanes.answer(run, step, done(step) if how % 3 else errored(step))
        return
    tables = lanes.tables[lanes.lane_of(run)]
    row = tables.runs.get(run)
    assert row is not None
    new = [one for one in (*STEPS, "c", "d") if one not in row.steps]
    match how % 6:
        case 0 if len(new) > 1:
            lanes.answer(run, step, found(new[0]), found(new[1]))
        case 1 if new:
            lanes.answer(run, step, sleep(new[0], 90_000))
        case 2 if new:
            lanes.answer(run, step, done(new[0]))
        case 3 if new:
            lanes.answer(run, step, errored(new[0]))
        case _ if row.pending:
            lanes.answer(run, step)
        case _:
            lanes.answer(run, step, BodyDone(b"null"))


def finish(lanes: Lanes) -> None:
    """Everything that is under way arrives, everybody answers, all time passes: until no run is open."""
    for _ in range(20_000):
        pairs = list(lanes.under_way())
        if pairs:
            lanes.deliver(pairs[0])
        elif lanes.out:
            run, step = min(lanes.out)
            answer(lanes, run, step, 5)
        elif not lanes.fire():
            break
    assert not lanes.open, f"runs that are stuck: {sorted(lanes.open)}"


@given(st.lists(FLOWS, min_size=1, max_size=2), TURNS)
def test_no_limit_is_exceeded_no_run_is_stuck_and_nothing_is_left(
    flows: list[FlowSpec], turns: list[tuple[int, int, int]]
) -> None:
    lanes = Lanes(LANES, app(*functions(flows)))
    lanes.after = Watch(flows)
    sent = play(lanes, turns)
    finish(lanes)
    started = Counter((event, one.function) for one in lanes.started for event in one.events)
    skipped = {(fact.event, fact.function) for _, fact in lanes.facts if isinstance(fact, FunctionSkipped)}
    for slug in (spec.slug for spec in functions(flows)):
        for number in range(1, sent + 1):
            key = (internal_id(number), slug)
            assert started[key] == (key not in skipped), f"event {number} started {slug} {started[key]} times"
    for tables in lanes.tables:
        for name in (
            "runs",
            "steps",
            "events",
            "asks",
            "queues",
            "gates",
            "starts",
            "singletons",
            "kept_starts",
            "batches",
        ):
            assert not getattr(tables, name).scan(limit=1), f"rows are left in {name}"


@given(st.lists(FLOWS, min_size=2, max_size=2), TURNS, TURNS)
def test_runs_go_on_over_a_deploy_of_other_limits(
    flows: list[FlowSpec], turns: list[tuple[int, int, int]], more: list[tuple[int, int, int]]
) -> None:
    lanes = Lanes(LANES, app(*functions(flows[:1])))
    play(lanes, turns)
    lanes.deploy(app(*functions(flows[1:])))
    play(lanes, more)
    finish(lanes)


@given(st.integers(1, 3), st.integers(1, 3), TURNS)
def test_a_throttle_lets_no_more_through_than_it_says(
    limit: int, burst: int, turns: list[tuple[int, int, int]]
) -> None:
    flow = FlowSpec(throttle=ThrottleRule(limit, MINUTE_MS, burst))
    lanes = Lanes(LANES, app(*functions([flow])))
    passed: list[int] = []
    seen = 0

    def note(now: Lanes) -> None:
        nonlocal seen
        for _, fact in now.facts[seen:]:
            if type(fact).__name__ == "GateOpened":
                passed.append(now.now_ms)
        seen = len(now.facts)

    lanes.after = note
    play(lanes, turns)
    finish(lanes)
    for start in passed:
        within = sum(start <= at < start + MINUTE_MS for at in passed)
        assert within <= limit + burst - 1, f"{within} starts in a minute from {start}, of {passed}"


@given(TURNS)
def test_runs_of_a_key_follow_each_other_in_the_order_of_their_arrival(turns: list[tuple[int, int, int]]) -> None:
    lanes = Lanes(LANES, app(*functions([FlowSpec(ordered_by="event.data.j")])))
    play(lanes, [(kind, 0, y) for kind, _, y in turns])  # Read by one lane, so that their order is known.
    finish(lanes)
    order: dict[str, list[str]] = {}
    for _, fact in lanes.facts:
        if type(fact).__name__ == "GateOpened":
            order.setdefault(fact.place, []).append(fact.run)  # type: ignore[union-attr]
    for runs in order.values():
        assert runs == sorted(runs, key=lambda run: next(s.events for s in lanes.started if s.run == run))


@pytest.mark.parametrize("scope", ["fn", "env"])
def test_a_small_backlog_is_not_kept_waiting_by_a_huge_one(scope: str) -> None:
    """Two functions, or two keys, share a lane; one has a thousand runs queued before the other's first."""
    rule = ConcurrencyRule(1, KEY if scope == "fn" else "'all'", scope=scope, per="run")
    specs = functions([FlowSpec(concurrency=(rule,))] * 2)
    huge = msgspec.structs.replace(specs[0], triggers=function("x", "huge").triggers)
    small = msgspec.structs.replace(specs[1], triggers=function("x", "small").triggers)
    lanes = Lanes(1, app(huge, small))
    for n in range(1_000):
        lanes.send(0, event(n, "huge", data=b'{"k":1}'))
    lanes.send(0, event(2_000, "small", data=b'{"k":2}'))
    answered = 0
    while answered < 3:
        if any(lanes.tables[0].runs.get(run).function == small.slug for run, _ in lanes.out):  # type: ignore[union-attr]
            break
        run, step = min(lanes.out)
        answer(lanes, run, step, 5)
        answered += 1
    assert answered <= 1, "it waits for one run of the other, not for a thousand"


def test_a_backlog_under_a_lower_limit_keeps_nobody_from_room_under_a_higher_one() -> None:
    """Two functions share a limit, and each keeps to its own number."""
    flows = [FlowSpec(concurrency=(ConcurrencyRule(limit, "'all'", scope="env", per="run"),)) for limit in (1, 2)]
    specs = functions(flows)
    low, high = (
        msgspec.structs.replace(spec, triggers=function("x", name).triggers)
        for spec, name in zip(specs, ("low", "high"), strict=True)
    )
    lanes = Lanes(1, app(low, high))
    for n in range(3):
        lanes.send(0, event(n, "low"))
    lanes.send(0, event(9, "high"))
    assert sorted(lanes.tables[0].runs.get(run).function for run, _ in lanes.out) == [low.slug, high.slug]  # type: ignore[union-attr]


def test_a_child_whose_start_is_on_its_way_is_cancelled_with_its_parent() -> None:
    """Its start goes to one home and then to its lane; the word that it is cancelled comes there first."""
    flow = FlowSpec(rate_limit=RateLimitRule(9, MINUTE_MS), throttle=ThrottleRule(9, MINUTE_MS, 9))
    parent = function("shop-parent", "order/placed")
    child = next(
        spec
        for n in range(999)
        for spec in [msgspec.structs.replace(function(f"shop-child{n}"), flow=flow)]
        if {home_of_place(RATE_LIMIT.places(spec, {})[0], LANES), home_of_place(THROTTLE.places(spec, {})[0], LANES)}
        == {1, 2}
    )
    lanes = Lanes(LANES, app(parent, child))
    lanes.send(0, event())
    (run,) = lanes.open
    lanes.answer(run, "", InvokeFound("call", "call", child.slug, b"{}", MINUTE_MS, False))
    lanes.cancel(run)
    for pair in reversed(list(lanes.under_way())):
        if pair in lanes.way:
            lanes.deliver(pair)
    finish(lanes)
    assert [one.function for one in lanes.started] == [parent.slug]
