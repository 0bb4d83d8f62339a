"""A dispatch as a call of an app: its URL, its headers, its body.

Pure: a run as recorded and a dispatch in, bytes out. The same dispatch makes the same call, but for ``request_id``.

What a call says of the run beside its events and steps:

``stack``                        the resolved steps in the order of their resolution: the order in which an app that is
                                 led over them again sees them end.
``attempt``, ``max_attempts``    of the body, or of the step that the call is about.
``disable_immediate_execution``  run no new step beside others: report what you find. Where it is false, a single new
                                 step is run at once and comes back with its result.
``version``                      of the protocol that the app has spoken last; −1 before it has answered well.
``fn_id`` is left out: with it version 4 of the TypeScript SDK reports to an API of its own instead of answering.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from millstream.execute.port import RunView
from millstream.model.effects import Execute
from millstream.model.ids import hash16
from millstream.wire.app_urls import BODY_STEP, call_url
from millstream.wire.step_memos import event_objects, memos, resolved_order

USE_API_BYTES: Final = 4 * 1024 * 1024
"""A larger body goes without steps and events: the app asks the API for them."""
EVENTS_BESIDE_API_BYTES: Final = 1024 * 1024
"""Larger events are not even sent to an app that asks the API for them: its server may take no such body."""
USER_AGENT: Final = "Millstream"
_IN_HEADER: Final = "!#$&'()*+,/:;<=>?@[]^_`{|}~"
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a call must know of its app.

    ``url``      where the app serves, as registered.
    ``retries``  of the function.
    ``version``  of the protocol, as the app said last; −1: unknown.
    ``plans``    the app has planned steps of this run, and its version does not forget that.
    """

    url: str
    retries: int
    version: int = -1
    plans: bool = False


class Call(msgspec.Struct, frozen=True, gc=False):
    """An HTTP request of an app, but for its signature. ``headers`` are in Title-Case."""

    url: str
    headers: dict[str, str]
    body: bytes


class Stack(msgspec.Struct, frozen=True, gc=False):
    """The resolved steps in the order of their resolution; ``current`` counts them."""

    current: int
    stack: list[str]


class Context(msgspec.Struct, frozen=True, gc=False):
    """What a call says under ``ctx``. Fields stand in the order of their names, which is that of the body."""

    attempt: int
    disable_immediate_execution: bool
    env: str
    generation_id: int
    job_id: str
    max_attempts: int
    request_id: str
    run_id: str
    stack: Stack
    step_id: str
    use_api: bool = False


def call_of(view: RunView, effect: Execute, target: Target, request_id: str) -> Call:
    """The call that carries out a dispatch."""
    run, step = view.run.run, effect.step
    is_apart = bool(step) or view.run.pending > 0 or target.plans
    job = hash16(run, step or f"{view.run.resolved}").hex()
    generation = effect.attempt + _lost(view, step) + 1
    order = resolved_order(view.steps)
    context = Context(
        attempt=effect.attempt,
        disable_immediate_execution=is_apart,
        env="",
        generation_id=generation,
        job_id=job,
        max_attempts=target.retries + 1,
        request_id=request_id,
        run_id=run,
        stack=Stack(len(order), order),
        step_id=BODY_STEP,
    )
    headers = {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "Traceparent": f"00-{hash16(run).hex()}-{hash16(request_id).hex()[:16]}-01",
        "X-Inngest-Generation-Id": str(generation),
        "X-Inngest-Job-Id": job,
        "X-Inngest-Req-Version": str(target.version),
        "X-Inngest-Step-Id": quote(step, safe=_IN_HEADER) if step else BODY_STEP,
        "X-Request-Id": request_id,
        "X-Run-Id": run,
    }
    url = call_url(target.url, effect.function, step) if step else _body_url(target.url, effect.function)
    return Call(url, headers, _body(view, context, target.version))


@lru_cache(maxsize=1_024)
def _body_url(url: str, function: str) -> str:
    return call_url(url, function)


def _lost(view: RunView, step: str) -> int:
    """How often this dispatch was lost before."""
    return next((row.lost for row in view.steps if row.step == step), 0) if step else view.run.lost


def _body(view: RunView, context: Context, version: int) -> bytes:
    """The body, its keys in order."""
    steps, shown = memos(view.steps), view.events
    events = event_objects(shown, user=True)
    use_api = 2 * len(events) + len(steps) > USE_API_BYTES
    if use_api:
        steps = b"{}"
        if len(events) > EVENTS_BESIDE_API_BYTES:
            shown = tuple(replace(event, data=b"{}") for event in view.events[:1])
            events = event_objects(shown, user=True)
    first = events[1:-1] if len(shown) == 1 else event_objects(shown[:1], user=True)[1:-1]
    ctx = _encode(replace(context, use_api=True) if use_api else context)
    flag = b"true" if use_api else b"false"
    return b'{"ctx":%b,"defers":{},"event":%b,"events":%b,"steps":%b,"use_api":%b,"version":%d}' % (
        ctx, first, events, steps, flag, version,
    )  # fmt: skip
