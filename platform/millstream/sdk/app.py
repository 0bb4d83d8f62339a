"""``App``: the functions one team deploys together, and the decorator that declares them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, TypeVar

from millstream.errors import FunctionError
from millstream.model import limits
from millstream.model.event import Event
from millstream.model.function import AppSpec, FunctionSpec
from millstream.model.text.durations import Duration
from millstream.sdk.backoff import Shape
from millstream.sdk.bounds import CancelOn, Timeouts
from millstream.sdk.flow import Batch, Concurrency, Debounce, FlowOptions, RateLimit, Singleton, Throttle
from millstream.sdk.function import Function, Handler, On, Options, declare
from millstream.sdk.outside.client import Client

H = TypeVar("H", bound=Handler)


class App:
    """An app: ``app = App("shop")``, then ``@app.function(on="order/placed")`` above each function.

    ``client`` is what ``send`` uses; without one, the environment says (MILLSTREAM_URL, MILLSTREAM_EVENT_KEY).
    """

    def __init__(self, id: str, *, version: str = "", client: Client | None = None) -> None:
        if not 1 <= len(id) <= limits.FUNCTION_ID_CHARS_MAX:
            raise FunctionError(
                f"app refused: the id must have 1 to {limits.FUNCTION_ID_CHARS_MAX} characters, got {id!r:.80}."
            )
        self.id = id
        self.version = version
        self._client = client
        self._functions: dict[str, Function] = {}

    def function(
        self,
        *,
        on: On = (),
        if_: str = "",
        cron: str | Sequence[str] = (),
        id: str | None = None,
        name: str | None = None,
        retries: int | str = limits.RETRIES_DEFAULT,
        backoff: Shape | None = None,
        step_timeout: Duration = "2h",
        on_failure: Handler | None = None,
        cancel_on: CancelOn | Sequence[CancelOn] = (),
        timeouts: Timeouts | None = None,
        concurrency: int | Concurrency | Sequence[int | Concurrency] = (),
        throttle: Throttle | None = None,
        rate_limit: RateLimit | None = None,
        debounce: Debounce | None = None,
        batch: Batch | None = None,
        singleton: Singleton | None = None,
        priority: str = "",
        idempotency: str = "",
        ordered_by: str = "",
        on_exhausted: Literal["fail", "hold"] = "fail",
    ) -> Callable[[H], H]:
        """Declare a function of this app. The function stays what it is and may be called by a test.

        ``on``            the events it starts on: names, wildcards (``order/*``), EventTriggers; or existing topics,
                          ``Topic("payments")``; one or several of them.
        ``if_``           a CEL expression over ``event`` that must hold: ``event.data.amount > 100``.
        ``cron``          times it starts at: ``"TZ=Europe/Paris 0 9 * * 1-5"``; one or several.
        ``id``, ``name``  default: the Python function's name. ``<app>-<id>`` must never change: open runs know it.
        ``retries``       attempts after the first, per step and for the body; a number or ``"unlimited"``.
        ``backoff``       the delays between attempts: Exponential, Linear, Table.
        ``step_timeout``  how long one attempt of a step may take.
        ``on_failure``    called as a function of its own, ``<id>-failure``, when a run has failed.

        ``cancel_on``     events that cancel a run: ``CancelOn("order/cancelled", match="data.order_id")``; at most 5.
        ``timeouts``      ``Timeouts(start=, finish=)``: when a run is cancelled that has not begun, or is not over.
        ``on_exhausted``  what becomes of a run where a step or the body has failed for good: ``"fail"``, or ``"hold"``:
                          it waits at that place until an operator resumes it or lets it fail.

        Flow control (docs/flow-control.md); keys are CEL over ``event``:

        ``rate_limit``    drops what is above ``RateLimit(limit, period, key=)``.
        ``idempotency``   CEL: drops an event with a value that has come in the last 24 hours.
        ``debounce``      starts on the last event only: ``Debounce(period, key=, timeout=)``.
        ``batch``         starts on many events at once: ``Batch(max_size, timeout, key=, if_=)``.
        ``singleton``     one open run: ``Singleton("skip" | "cancel" | "latest", key=)``.
        ``throttle``      queues what is above ``Throttle(limit, period, burst=, key=)``.
        ``concurrency``   what may execute at once: a number, ``Concurrency(limit, key=, scope=, per=)``, or two.
        ``priority``      CEL: by how many seconds, -600 to 600, a run goes before others in a queue.
        ``ordered_by``    CEL: events with one value run one after another, in order.

        Raises FunctionError when an option is wrong.
        """
        options = Options(
            on=on,
            if_=if_,
            cron=cron,
            id=id,
            name=name,
            retries=retries,
            backoff=backoff,
            step_timeout=step_timeout,
            on_failure=on_failure,
            cancel_on=cancel_on,
            timeouts=timeouts,
            flow=FlowOptions(
                concurrency=concurrency,
                throttle=throttle,
                rate_limit=rate_limit,
                debounce=debounce,
                batch=batch,
                singleton=singleton,
                priority=priority,
                idempotency=idempotency,
                ordered_by=ordered_by,
            ),
            on_exhausted=on_exhausted,
        )

        def register(handler: H) -> H:
            for declared in declare(self.id, handler, options):
                self._add(declared)
            return handler

        return register

    def _add(self, function: Function) -> None:
        slug = function.spec.slug
        if slug in self._functions:
            raise FunctionError(f"function {slug!r} refused: app {self.id!r} has one of that id. Give it another id=.")
        if len(self._functions) >= limits.FUNCTIONS_PER_APP_MAX:
            raise FunctionError(
                f"function {slug!r} refused: an app has at most {limits.FUNCTIONS_PER_APP_MAX} functions. Make two."
            )
        self._functions[slug] = function

    @property
    def functions(self) -> Mapping[str, Function]:
        """The declared functions by slug, in order of declaration."""
        return MappingProxyType(self._functions)

    def spec(self) -> AppSpec:
        """The app as it is registered."""
        specs: tuple[FunctionSpec, ...] = tuple(f.spec for f in self._functions.values())
        return AppSpec(id=self.id, functions=specs, version=self.version)

    async def send(self, events: Event | Sequence[Event]) -> list[str]:
        """Send events through the app's client; their internal ids. Durable when it returns."""
        return await self._sender().send(events)

    def send_sync(self, events: Event | Sequence[Event]) -> list[str]:
        """``send`` for code without an event loop (Flask, Django, Celery): it blocks until the events are durable."""
        return self._sender().send_sync(events)

    def _sender(self) -> Client:
        if self._client is None:
            self._client = Client()
        return self._client
