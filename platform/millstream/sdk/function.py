"""A function as declared: the options of ``@app.function`` turned into the spec the engine knows, beside the code.

Everything that can be wrong without knowing the server is refused here, at import time. Expressions and cron texts are
checked when the app is registered, and by ``millstream check``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from millstream.errors import FunctionError
from millstream.model import limits
from millstream.model.event import FUNCTION_FAILED
from millstream.model.function import (
    DEFAULT_BACKOFF,
    FAIL,
    CronTrigger,
    EventTrigger,
    FunctionSpec,
    TopicTrigger,
    Trigger,
)
from millstream.model.text.durations import Duration, to_ms
from millstream.sdk.backoff import Shape, table_of
from millstream.sdk.bounds import Timeouts, cancel_triggers, timeouts_ms
from millstream.sdk.context import Context, SyncContext, declared_context
from millstream.sdk.declared import note_declared
from millstream.sdk.flow import FlowOptions, flow_spec
from millstream.sdk.retry import UNLIMITED
from millstream.sdk.topic import Topic

Handler = Callable[..., object]
On = str | EventTrigger | Topic | Sequence[str | EventTrigger | Topic]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What ``@app.function`` takes; see there."""

    on: On = ()
    if_: str = ""
    cron: str | Sequence[str] = ()
    id: str | None = None
    name: str | None = None
    retries: int | str = limits.RETRIES_DEFAULT
    backoff: Shape | None = None
    step_timeout: Duration = "2h"
    on_failure: Handler | None = None
    cancel_on: object = ()
    timeouts: Timeouts | None = None
    flow: FlowOptions = field(default_factory=FlowOptions)
    on_exhausted: str = FAIL


class Function(msgspec.Struct, frozen=True):
    """A declared function: the spec that is registered, and the code that is run."""

    spec: FunctionSpec
    handler: Handler

    @property
    def is_async(self) -> bool:
        """Whether the handler is a coroutine function; others run in threads."""
        return inspect.iscoroutinefunction(self.handler)


def declare(app: str, handler: Handler, options: Options) -> tuple[Function, ...]:
    """The function, and its failure handler's function if it has one. Raises FunctionError."""
    id = options.id if options.id is not None else str(getattr(handler, "__name__", ""))
    slug = f"{app}-{id}"
    if not id or len(slug) > limits.FUNCTION_ID_CHARS_MAX:
        raise FunctionError(
            f"function {slug!r} refused: app id and function id together must have at most "
            f"{limits.FUNCTION_ID_CHARS_MAX} characters and the function's at least 1, got {len(slug)}."
        )
    _check_handler(slug, handler)
    start_ms, finish_ms = timeouts_ms(slug, options.timeouts)
    spec = FunctionSpec(
        slug=slug,
        name=options.name or id,
        triggers=_triggers(slug, options),
        retries=_retries(slug, options.retries),
        backoff=DEFAULT_BACKOFF if options.backoff is None else table_of(options.backoff, f"function {slug!r}"),
        step_timeout_ms=_timeout(slug, options.step_timeout),
        cancel_on=cancel_triggers(slug, options.cancel_on),
        start_ms=start_ms,
        finish_ms=finish_ms,
        flow=flow_spec(slug, options.flow),
        on_exhausted=options.on_exhausted,
    )
    note_declared(handler, slug)
    if options.on_failure is None:
        return (Function(spec, handler),)
    _check_handler(f"{slug}-failure", options.on_failure)
    # Written out rather than left to the engine: the failure handler is an ordinary function with an ordinary trigger.
    failed = EventTrigger(FUNCTION_FAILED, f"event.data.function_id == {_quoted(slug)}")
    failure = FunctionSpec(slug=f"{slug}-failure", name=f"{spec.name} (failure)", triggers=(failed,), retries=0)
    return Function(spec, handler), Function(failure, options.on_failure)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _check_handler(slug: str, handler: Handler) -> None:
    if not callable(handler):
        raise FunctionError(f"function {slug!r} refused: expected a function, got {handler!r}.")
    if inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler):
        raise FunctionError(f"function {slug!r} refused: a handler returns one result, but this one yields.")
    try:
        inspect.signature(handler).bind(None)
    except TypeError as error:
        raise FunctionError(
            f"function {slug!r} refused: a handler takes one argument, the context, but its signature is "
            f"{inspect.signature(handler)} ({error}). Write: async def {slug.rsplit('-', 1)[-1]}(ctx: Context)"
        ) from error
    declared, _ = declared_context(handler)
    if inspect.iscoroutinefunction(handler) and declared is SyncContext:
        raise FunctionError(f"function {slug!r} refused: a coroutine takes a Context, not a SyncContext.")
    if not inspect.iscoroutinefunction(handler) and declared is Context:
        raise FunctionError(f"function {slug!r} refused: a plain function takes a SyncContext.")


def _triggers(slug: str, options: Options) -> tuple[Trigger, ...]:
    on = (options.on,) if isinstance(options.on, str | EventTrigger | Topic) else tuple(options.on)
    crons = (options.cron,) if isinstance(options.cron, str) else tuple(options.cron)
    if options.if_ and not on:
        raise FunctionError(f"function {slug!r} refused: if_ chooses among events, but on= names none.")
    if len(options.if_) > limits.EXPRESSION_CHARS_MAX:
        raise FunctionError(
            f"function {slug!r} refused: if_ may have {limits.EXPRESSION_CHARS_MAX} characters, got {len(options.if_)}."
        )
    triggers: list[Trigger] = []
    for one in on:
        if not isinstance(one, str | EventTrigger | Topic):
            raise FunctionError(
                f"function {slug!r} refused: on= takes event names, EventTriggers and Topics, got {one!r}."
            )
        if isinstance(one, Topic):
            triggers.append(one.trigger(options.if_))
        elif isinstance(one, str):
            triggers.append(EventTrigger(one, options.if_))
        elif one.expression and options.if_:
            raise FunctionError(
                f"function {slug!r} refused: trigger {one.event!r} has an expression of its own besides if_. Keep one."
            )
        else:
            triggers.append(EventTrigger(one.event, one.expression or options.if_))
    for cron in crons:
        if not 1 <= len(cron) <= limits.CRON_CHARS_MAX:
            raise FunctionError(
                f"function {slug!r} refused: a cron has 1 to {limits.CRON_CHARS_MAX} characters "
                f'such as "TZ=Europe/Paris 0 9 * * 1-5", got {cron!r:.80}.'
            )
        triggers.append(CronTrigger(cron))
    for trigger in triggers:
        if triggers.count(trigger) > 1:
            raise FunctionError(f"function {slug!r} refused: {trigger!r} is there twice. Remove one.")
    topics = [trigger.topic for trigger in triggers if isinstance(trigger, TopicTrigger)]
    for topic in topics:
        if topics.count(topic) > 1:
            raise FunctionError(f"function {slug!r} refused: it subscribes to topic {topic!r} twice. Keep one Topic.")
    return tuple(triggers)


def _retries(slug: str, retries: int | str) -> int:
    if retries == UNLIMITED:
        return limits.RETRIES_MAX
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= limits.RETRIES_MAX:
        raise FunctionError(
            f'function {slug!r} refused: retries must be 0 to {limits.RETRIES_MAX} or "unlimited", got {retries!r}.'
        )
    return retries


def _timeout(slug: str, timeout: Duration) -> int:
    ms = to_ms(timeout, f"step_timeout of function {slug!r}")
    if ms < 1:
        raise FunctionError(f"function {slug!r} refused: step_timeout must be above 0, got {timeout!r}.")
    return ms
