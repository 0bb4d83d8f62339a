"""What each field of the schema is: values from the history, as dicts; what is callable is made when it is asked for.

A field that is not asked for costs nothing. What a query costs beside its text depends on the data, and is counted
while it is executed (``Budget``): the field that goes beyond has an error, and the others are answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from graphql import GraphQLResolveInfo

from millstream.api.answers import iso, raw_json
from millstream.api.gql.bounds import Measuring
from millstream.api.gql.spans import OutputOf, Span, read_output_id, tree_of
from millstream.errors import BadRequest, NotFound
from millstream.history.queries import Queries
from millstream.history.seen import EventSeen, Page, RunInFull, RunSeen
from millstream.history.trail import StepSeen
from millstream.model import limits
from millstream.model.function import AppSpec, FunctionSpec
from millstream.model.ids import is_ulid

LISTED_FIELDS_MAX: Final = 50_000
"""Fields of spans and runs in lists: a second of work."""
READ_BYTES_MAX: Final = limits.RUN_STATE_BYTES_MAX + limits.RUN_BYTES_SHOWN_MAX
RUNS_OF_EVENT_MAX: Final = 200

Shown = dict[str, Any]


class Budget:
    """What the answer to one query may still cost."""

    def __init__(self) -> None:
        self._fields = LISTED_FIELDS_MAX
        self._read = READ_BYTES_MAX
        self._shown = limits.RUN_BYTES_SHOWN_MAX

    def fields(self, count: int) -> None:
        """So many fields of a list are resolved. Raises BadRequest beyond the maximum."""
        self._fields -= count
        if self._fields < 0:
            raise BadRequest(f"the lists of an answer may have {LISTED_FIELDS_MAX} fields. Ask for less at a time.")

    def read(self, size: int) -> None:
        """So many bytes of a run were read. Raises BadRequest beyond the maximum."""
        self._read -= size
        if self._read < 0:
            raise BadRequest(f"the runs of an answer may have {READ_BYTES_MAX} bytes. Ask for fewer at a time.")

    def shown(self, value: bytes) -> str:
        """The value as text. Raises BadRequest beyond the maximum."""
        self._shown -= len(value)
        if self._shown < 0:
            most = limits.RUN_BYTES_SHOWN_MAX
            raise BadRequest(f"the values of an answer may have {most} bytes together. Ask for fewer at a time.")
        return value.decode(errors="replace")


class Asked:
    """One query under way: where its values come from. Fields see the same state of each run."""

    def __init__(self, queries: Queries, apps: Sequence[AppSpec], measuring: Measuring) -> None:
        self.queries = queries
        self.apps = apps
        self.budget = Budget()
        self._measuring = measuring
        self._runs: dict[str, RunInFull | None] = {}

    def run(self, run: str) -> RunInFull:
        """A run, read once. Raises NotFound."""
        if run not in self._runs:
            full = self.queries.whole(run) if is_ulid(run) else None
            if full is not None:
                self.budget.read(len(full.run.result) + sum(len(step.output) for step in full.steps))
            self._runs[run] = full
        found = self._runs[run]
        if found is None:
            raise NotFound(f"no run {run[:64]!r}: it was never started, or has ended and is forgotten")
        return found

    def event(self, event: object) -> EventSeen:
        """An event. Raises NotFound, or BadRequest for what is no text: a scalar of ours takes any value."""
        if not isinstance(event, str):
            raise BadRequest(f"an event's id is text, got {str(event)[:64]}")
        seen = self.queries.event(event) if len(event) <= limits.EVENT_ID_CHARS_MAX else None
        if seen is None:
            raise NotFound(f"no event {event[:64]!r}: it was never received, or is forgotten")
        return seen

    def listed(self, info: Info, count: int) -> None:
        """So many items of a list are shown with the fields that are asked of each."""
        nodes = [node.selection_set for node in info.field_nodes if node.selection_set is not None]
        self.budget.fields(count * sum(self._measuring.size(node).names.total() for node in nodes))


Info = GraphQLResolveInfo[Asked]


def run(_: None, info: Info, **given: Any) -> Shown:
    """``Query.run``."""
    full = info.context.run(given["runID"])
    seen = full.run
    return _head(seen) | {
        "output": lambda info: _output(info.context, seen),
        "queuedAt": iso(seen.queued_ms),
        "eventName": seen.event_name or None,
        "trace": lambda info, preview=False: _span(tree_of(full, preview=bool(preview))),
    }


def run_trigger(_: None, info: Info, **given: Any) -> Shown:
    """``Query.runTrigger``."""
    asked = info.context
    full = asked.run(given["runID"])
    events = asked.queries.envelopes(full.events)
    return {
        "eventName": full.run.event_name or None,
        "payloads": lambda info: [
            _event_text(info.context, e.id, e.name, {"data": e.data, "user": e.user, "v": e.v, "meta": e.meta}, e.ts_ms)
            for e in events
        ],
    }


def output(_: None, info: Info, **given: Any) -> Shown:
    """``Query.runTraceSpanOutputByID``."""
    asked, of = info.context, read_output_id(given["outputID"])
    full = asked.run(of.run)
    if of.step is None:
        return _ended(full.run.result, full.run.error)
    step = next((step for step in full.steps if step.step == of.step), None)
    if step is None:
        raise NotFound(f"run {of.run} has no step {of.step[:64]!r}")
    return _ended_step(step, of)


def event(_: None, info: Info, **given: Any) -> Shown:
    """``Query.event``."""
    seen = info.context.event(given["query"]["eventId"])
    return {
        "id": seen.internal_id,
        "name": seen.name,
        "payload": lambda info: _text_of(info.context, seen),
        "createdAt": iso(seen.received_ms),
        "functionRuns": lambda info: _runs_of(info, seen),
    }


def event_v2(_: None, info: Info, **given: Any) -> Shown:
    """``Query.eventV2``."""
    seen = info.context.event(given["id"])
    raw = {"data": raw_json(seen.data), "id": seen.id, "name": seen.name, "ts": seen.ts_ms, "v": seen.v or None}
    return {
        "id": seen.internal_id,
        "name": seen.name,
        "receivedAt": iso(seen.received_ms),
        "idempotencyKey": seen.id,
        "raw": lambda info: info.context.budget.shown(msgspec.json.encode(raw)),
    }


def apps(_: None, info: Info) -> list[Shown]:
    """``Query.apps``."""
    asked = info.context
    asked.listed(info, len(asked.apps))
    return [{"id": app.id, "name": app.id, "functions": _functions_of(app)} for app in asked.apps]


FIELDS: Final[dict[str, Callable[..., Any]]] = {
    "run": run,
    "runTrigger": run_trigger,
    "runTraceSpanOutputByID": output,
    "event": event,
    "eventV2": event_v2,
    "apps": apps,
}
"""Of the type ``Query``; all below them is in what they answer."""


def _functions_of(app: AppSpec) -> Callable[[Info], list[Shown]]:
    def functions(info: Info) -> list[Shown]:
        info.context.listed(info, len(app.functions))
        return [_function(spec, app.id) for spec in app.functions]

    return functions


def _function(spec: FunctionSpec, app: str) -> Shown:
    return {"id": spec.slug, "slug": spec.slug, "name": spec.name, "appID": app}


def _head(seen: RunSeen) -> Shown:
    name = seen.function_name or seen.function
    return {
        "id": seen.run,
        "status": seen.status.upper(),
        "startedAt": iso(seen.started_ms),
        "endedAt": iso(seen.ended_ms),
        "function": {"id": seen.function, "slug": seen.function, "name": name, "appID": seen.app or None},
    }


def _output(asked: Asked, seen: RunSeen) -> str | None:
    """A run that was cancelled has none."""
    match seen.status:
        case "Completed":
            return asked.budget.shown(seen.result or b"null")
        case "Failed":
            return asked.budget.shown(seen.error)
        case _:
            return None


def _span(span: Span) -> Shown:
    def children(info: Info) -> list[Shown]:
        info.context.listed(info, len(span.children))
        return [_span(child) for child in span.children]

    return {
        "name": span.name,
        "status": span.status,
        "attempts": span.attempts,
        "queuedAt": iso(span.queued_ms),
        "startedAt": iso(span.started_ms),
        "endedAt": iso(span.ended_ms),
        "stepID": span.step,
        "spanID": span.span,
        "outputID": span.output or None,
        "metadata": [],
        "childrenSpans": children,
    }


def _ended(result: bytes, error: bytes) -> Shown:
    failed = msgspec.json.decode(error) if error else None
    return {"data": lambda info: info.context.budget.shown(result) if result else None, "error": failed}


def _ended_step(step: StepSeen, of: OutputOf) -> Shown:
    if step.status == "completed":
        return _ended(step.output or b"null", b"")
    errors = [attempt.error for attempt in step.attempts if attempt.error is not None]
    if step.status != "failed" or not errors:
        raise NotFound(f"step {of.step!r:.80} of run {of.run} has not ended: it has no output yet")
    last = errors[-1]
    return {"data": None, "error": {"name": last.name, "message": last.message, "stack": last.stack or None}}


def _runs_of(info: Info, seen: EventSeen) -> list[Shown]:
    asked = info.context
    runs, _ = asked.queries.runs_of_event(seen.internal_id, Page(RUNS_OF_EVENT_MAX), 0)
    asked.listed(info, len(runs))
    return [_head(run) for run in runs]


def _text_of(asked: Asked, seen: EventSeen) -> str:
    parts = {"data": seen.data, "user": seen.user, "v": seen.v, "meta": seen.meta}
    return _event_text(asked, seen.id, seen.name, parts, seen.ts_ms)


def _event_text(asked: Asked, id: str, name: str, parts: dict[str, Any], ts_ms: int) -> str:
    """An event as the JSON text that was sent: what it did not have is left out."""
    shown: Shown = {"id": id, "name": name, "data": raw_json(parts["data"] or b"{}"), "ts": ts_ms}
    if parts["user"]:
        shown["user"] = raw_json(parts["user"])
    if parts["v"]:
        shown["v"] = parts["v"]
    if parts["meta"]:
        shown["meta"] = raw_json(parts["meta"])
    return asked.budget.shown(msgspec.json.encode(shown))
