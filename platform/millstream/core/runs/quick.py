"""The commonest commands, decided and folded in one go: what a run of steps one after another is made of.

    an event that starts one function      EventAccepted, RunStarted     the body goes out
    the body ran one new step              StepCompleted                 the body goes out again
    the body slept, and its time has come  SleepEnded                    the body goes out again
    the body returned                      RunCompleted                  nothing remains

``decide`` and ``fold`` are the truth, and know these cases like any other; this file only knows a shorter way to the
same facts, the same rows and the same effects, at half the price. The rule it keeps: **whatever is not exactly
the common case is answered with None, and nothing has been written then.** The core's harness takes both ways for
every command of every generated sequence and compares all three (``tests/core/harness.py``).

Nothing here may raise once it has written: what can go wrong is looked at first.

Add a way: only for a command that makes up a large share of the load, one function, one line in ``QUICK``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec.structs import replace

from millstream.core.intake import events, seen
from millstream.core.origin import Origin, accepted
from millstream.core.runs.ending import release_events
from millstream.core.runs.hands import DONE, OUT
from millstream.core.starting import run_started, starts_at_once
from millstream.core.step_kinds import QUICK_TIMERS, kind_of
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue
from millstream.core.waits.awaited_names import awaited
from millstream.model import limits
from millstream.model.commands import AcceptEvent, FireTimer, Report
from millstream.model.effects import Effect, Execute
from millstream.model.event import FUNCTION_FINISHED
from millstream.model.facts import Fact, RunCompleted, StepCompleted
from millstream.model.operations import BodyDone, StepDone
from millstream.model.rows import EventRow, RunRow, StepRow

Done = tuple[tuple[Fact, ...], Sequence[Effect], int]
"""The facts, the effects, and how many bytes of payload the facts hold."""


def _accept(tables: Tables, command: AcceptEvent, now_ms: int) -> Done | None:
    event = command.event
    position = tables.positions.get((command.topic, command.partition))
    if position is not None and command.offset < position.offset:
        return None
    known = catalogue(tables)
    subscriptions = known.subscriptions(event.name)
    if event.name in awaited(tables):
        return None
    if len(subscriptions) != 1 or not 0 <= event.ts_ms <= min(limits.EVENT_TS_MAX_MS, now_ms + events.FUTURE_SLACK_MS):
        return None
    function, expression, error = subscriptions[0]
    if expression is not None or error or not starts_at_once(function):
        return None
    try:
        hash = seen.seen_hash(command.topic, command.partition, event.id)
        start = run_started(tables, function.slug, (event,))
    except UnicodeEncodeError:
        return None  # Ids with half a surrogate pair: the long way refuses them, and says why.
    if seen.known(tables, hash, event.received_at_ms) or tables.events.get(event.internal_id) is not None:
        return None
    fact = accepted(event, Origin(command.topic, command.partition, command.offset, hash))
    if event.catalogue:  # A row holds the event without the door's stamp.
        event = replace(event, catalogue=0)
    id, slug = start.run, start.function
    tables.events.put(event.internal_id, EventRow(event, 1))
    seen.remember(tables, fact)
    tables.runs.add(id, RunRow(id, slug, start.events, "", now_ms, OUT, 1, 1))
    return (fact, start), (Execute(id, slug, "", 0, 1),), len(event.data)


def _report(tables: Tables, command: Report, now_ms: int) -> Done | None:
    run = tables.runs.get(command.run)
    if run is None or len(command.operations) != 1 or command.step:
        return None
    if run.body != OUT or run.body_dispatch != command.dispatch:
        return None
    if command.joint is not None and command.joint != run.joint:
        return None
    (operation,) = command.operations
    if type(operation) is StepDone:
        return _step_done(tables, run, operation)
    if type(operation) is BodyDone:
        return _body_done(tables, run, operation)
    return None


def _step_done(tables: Tables, run: RunRow, op: StepDone) -> Done | None:
    """One step after another: the result is recorded, and the body handed out again with it."""
    step, data, steps = op.step, op.data, run.steps
    size = len(data)
    held = run.bytes + size
    if not kind_of(op.kind).quick_result:
        return None
    if size > limits.STEP_OUTPUT_BYTES_MAX or held > limits.RUN_STATE_BYTES_MAX:
        return None
    if step in steps or len(steps) >= limits.STEPS_PER_RUN_MAX or (run.joint and run.pending):
        return None
    id, name, kind, dispatch, order = run.run, op.name, op.kind, run.body_dispatch, run.resolved + 1
    number = run.dispatch + 1
    tables.steps.add((id, step), StepRow(id, step, name, kind, DONE, 0, dispatch, 0, order, data))
    tables.runs.put(
        id,
        replace(run,
            body_dispatch=number, dispatch=number, attempt=0, lost=0, again=False, resolved=order, steps=(*steps, step),
            bytes=held,
        ),
    )  # fmt: skip
    fact = StepCompleted(id, step, name, kind, 0, dispatch, data, op.started_at_ms, True)
    return (fact,), (Execute(id, run.function, "", 0, number),), size


def _body_done(tables: Tables, run: RunRow, op: BodyDone) -> Done | None:
    """The end of a run that has nothing under way and whose end no function subscribes to."""
    if run.pending or run.cause or run.cancels or run.start_by_ms or run.finish_by_ms or run.flow is not None:
        return None
    if len(op.result) > limits.RUN_RESULT_BYTES_MAX:
        return None
    if catalogue(tables).subscriptions(FUNCTION_FINISHED) or FUNCTION_FINISHED in awaited(tables):
        return None
    id = run.run
    for step in run.steps:
        tables.steps.delete((id, step))
    release_events(tables, run)
    tables.runs.delete(id)
    return (RunCompleted(id, run.function, run.body_dispatch, op.result),), (), len(op.result)


def _fire(tables: Tables, command: FireTimer, now_ms: int) -> Done | None:
    """The timer of a step that the body waits for, where its kind has a short way."""
    wake = QUICK_TIMERS.get(command.kind)
    if wake is None:
        return None
    run, step = tables.runs.get(command.id), tables.steps.get((command.id, command.step))
    woken = wake(tables, command, run, step, now_ms) if run is not None and step is not None else None
    return ((woken[0],), woken[1], 0) if woken is not None else None


# ``Any`` because each function takes its own command; the keys say which.
QUICK: Final[dict[type, Callable[[Tables, Any, int], Done | None]]] = {
    Report: _report,
    AcceptEvent: _accept,
    FireTimer: _fire,
}
