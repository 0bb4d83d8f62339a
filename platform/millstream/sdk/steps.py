"""The step tools: ``ctx.step.run(…)`` and its siblings. Types and checks; the work is the driver's (an executor).

There is one implementation. ``SyncStepTools`` is a face on it for handlers that are not coroutines: each call waits, in
the handler's thread, for the same coroutine. Add a step kind: a method on each of the two faces, written with
``Driver.ask``. No executor and no test tool changes for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, cast, overload

from msgspec import structs

from millstream.errors import FunctionError
from millstream.model import limits
from millstream.model.event import TOMBSTONE, Envelope, Event
from millstream.model.operations import (
    InvokeFound,
    Operation,
    PublishFound,
    SendFound,
    SignalWaitFound,
    SleepFound,
    WaitFound,
)
from millstream.model.text.durations import Duration, instant_ms, to_ms
from millstream.model.text.storable import is_storable, shown, type_name
from millstream.sdk import callback, checks, waiting
from millstream.sdk.callback import Callback, SyncCallback
from millstream.sdk.declared import declared_slug
from millstream.sdk.outgoing import envelope_of, several
from millstream.sdk.payloads import Reader, decode, encode, read, result_reader
from millstream.sdk.received import Received
from millstream.sdk.retry import Retry
from millstream.sdk.retrying import Retrying, SyncRetrying
from millstream.sdk.unawaited import Unawaited
from millstream.sdk.waiting import On

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Async = Coroutine[object, object, R]


class Driver(Protocol):
    """Carries out the steps of one body. Every id is the user's; the driver makes it unique within the run."""

    @property
    def replaying(self) -> bool:
        """Whether the body is still being led over steps that were finished earlier."""
        ...

    def now_ms(self) -> int:
        """Unix milliseconds, by the clock of the run."""
        ...

    def run(
        self,
        id: str,
        call: Callable[..., object],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        retry: Retry | None = None,
    ) -> Async[object]:
        """Run and remember; the result as decoded from its JSON. ``retry`` None: as the function has it."""
        ...

    def ask(self, id: str, kind: str, make: Callable[[str], Operation]) -> Async[bytes]:
        """Ask for a step that the engine carries out; the step's result as its recorded JSON.

        ``make`` gets the step's unique id and gives the operation to report; ``kind`` is what the step is recorded as.
        """
        ...

    def wait(self, call: Async[R]) -> R:
        """For handlers in threads: wait for the coroutine on the loop."""
        ...


class StepTools:
    """What a coroutine handler does durably. An id names a step; used again, it becomes ``id:1``, ``id:2`` …"""

    __slots__ = ("_driver", "unawaited")

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.unawaited = Unawaited()

    @overload
    def run(self, id: str, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Async[R]: ...
    @overload
    def run(self, id: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Async[R]: ...
    def run(self, id: str, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Async[object]:
        """Call ``fn`` and remember what it returns; a step that has a result is never called again.

        The result must be JSON (at most 4 MiB) and is handed back as decoded from it, into the return type where that
        is a dataclass, TypedDict or Struct. A plain function runs in a thread. An exception leads to another attempt,
        after a delay; StepError is raised here when none are left.

        Warning: at least once. The worker may die between the call and the record; for the outside world there is
        ``millstream.current().idempotency_key``.
        """
        id = checks.step_id(id)
        checks.step_call(id, fn)
        step = self._driver.run(id, fn, args, kwargs)
        self.unawaited.add(step)
        return step

    def retrying(self, retry: Retry) -> Retrying:
        """``run`` with attempts of its own: ``ctx.step.retrying(Retry(attempts=8)).run("ask", ask)``."""
        return Retrying(self._driver.run, self.unawaited, retry)

    def sleep(self, id: str, length: Duration) -> Async[None]:
        """Sleep, at most 366 days, holding nothing: ``await ctx.step.sleep("cool-off", "1h")``."""
        id = checks.step_id(id)
        length_ms = to_ms(length, f"sleep {id!r}")
        if length_ms > limits.SLEEP_MS_MAX:
            raise FunctionError(f"sleep {id!r} refused: at most 366 days, got {shown(length)}.")
        self.unawaited.add(step := self._sleep(id, length_ms, -1))
        return step

    def sleep_until(self, id: str, at: datetime | str) -> Async[None]:
        """Sleep until a time with a zone, a datetime or ISO 8601 text; a time that is past ends at once."""
        id = checks.step_id(id)
        self.unawaited.add(step := self._sleep(id, 0, max(0, instant_ms(at, f"sleep {id!r}"))))
        return step

    def send_event(self, id: str, events: Event | Sequence[Event]) -> Async[list[str]]:
        """Send events once the step is recorded; their ids. Repeated attempts send nothing a second time."""
        now_ms = self._driver.now_ms()
        envelopes = tuple(envelope_of(event, now_ms) for event in several(events))
        self.unawaited.add(step := self._send_event(checks.step_id(id), envelopes))
        return step

    def publish(
        self,
        id: str,
        topic: str,
        key: str | bytes | None,
        value: object,
        *,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> Async[None]:
        """Write a record to a topic, at least once; bytes and text go as they are, anything else as JSON.

        ``value`` None is a tombstone: in a compacted topic it deletes what the key has. The group's own topics are not
        for this. A record may have 4 MiB; one that is too large for its topic fails the step.
        """
        id = checks.step_id(id)
        found = _record(id, checks.topic_name(id, topic), key, value, checks.record_headers(id, headers))
        self.unawaited.add(step := self._publish(id, found))
        return step

    def wait_for_event(
        self,
        id: str,
        *,
        event: str,
        match: str = "",
        if_: str = "",
        timeout: Duration,
        lookback: Duration | None = None,
        type_: type[T] | None = None,
    ) -> Async[Received[T] | None]:
        """Wait for an event, at most 366 days, holding nothing; None when the time is over.

        paid = await ctx.step.wait_for_event("paid", event="order/paid", match="data.order_id", timeout="3d")

        ``match``     a path that must hold the same value in it and in the run's own event.
        ``if_``       CEL over ``event``, the run's own, and ``async``, the one that comes.
        ``lookback``  how far back events count, from now. Default: those received since the run's own event, so that
                      one that came before the run waited for it is not missed.
        ``type_``     what its data is decoded into.
        """
        on = (On(event, match, if_, type_),)
        return self._wait(id, on, timeout, lookback)

    def wait_for_any(self, id: str, on: Sequence[On[Any]], *, timeout: Duration) -> Async[Received[Any] | None]:
        """Wait for the first of several events; ``.on`` of the result says which. None when the time is over."""
        return self._wait(id, on, timeout, None)

    def wait_for_all(self, id: str, on: Sequence[On[Any]], *, timeout: Duration) -> Async[list[Received[Any]] | None]:
        """Wait for one event of each; they come in the order of ``on``. None when not all have come in time."""
        id = checks.step_id(id)
        found = WaitFound("", id, waiting.conditions(id, on), waiting.timeout_ms(id, timeout), is_all=True)
        self.unawaited.add(step := self._wait_for_all(id, found, on))
        return step

    def wait_for_signal(
        self,
        id: str,
        signal: str,
        *,
        timeout: Duration,
        on_conflict: Literal["fail", "replace"] = "fail",
    ) -> Async[Any]:
        """Wait until somebody sends the signal by its name; what was sent with it, or None when the time is over.

        One run waits for a signal at a time. Where another does, the step fails (StepError); with
        ``on_conflict="replace"`` that one gets it no more.
        """
        id = checks.step_id(id)
        replaces = waiting.is_replacing(id, on_conflict)
        name = waiting.signal_name(id, signal)
        found = SignalWaitFound("", id, name, waiting.timeout_ms(id, timeout), replaces)
        self.unawaited.add(step := self._asked(id, "wait_for_signal", found, None))
        return step

    def callback(self, id: str, *, timeout: Duration) -> Async[Callback]:
        """Make a URL that takes one post from outside, within this time, at most 366 days.

        approval = await ctx.step.callback("approve", timeout="3d")
        await ctx.step.run("mail", send_mail, order, approval.url)
        answer = await approval.result()

        ``result()`` is what was posted, also before it was asked for; None when the time is over. Whoever has the URL
        may post; the history shows the callback's ``id`` only. The server must know its own address (--public-url).
        """
        id = checks.step_id(id)
        timeout_ms = waiting.timeout_ms(id, timeout)
        self.unawaited.add(step := callback.make(id, timeout_ms, self._driver.ask, self.unawaited))
        return step

    def invoke(
        self,
        id: str,
        function: Callable[..., Awaitable[R]] | Callable[..., R],
        *,
        data: Mapping[str, object] | None = None,
        timeout: Duration = waiting.INVOKE_TIMEOUT,
        detached: bool = False,
    ) -> Async[R]:
        """Start a run of another function of ours with this data, and wait for its result.

        Where it fails or is cancelled the step fails (StepError); InvokeTimeout when it is not over in time, and it
        goes on. A cancelled run cancels those that it waits for, but for ``detached`` ones.
        """
        id = checks.step_id(id)
        slug = declared_slug(f"step {id!r}", function)
        reader = result_reader(function)
        return self._invoke(id, slug, data, timeout=timeout, detached=detached, reader=reader)

    def invoke_by_id(
        self,
        id: str,
        function: str,
        *,
        data: Mapping[str, object] | None = None,
        timeout: Duration = waiting.INVOKE_TIMEOUT,
        detached: bool = False,
    ) -> Async[Any]:
        """As ``invoke``, for a function by its id ``<app>-<function>``, also of another app of the group."""
        id = checks.step_id(id)
        slug = checks.function_slug(id, function)
        return self._invoke(id, slug, data, timeout=timeout, detached=detached, reader=None)

    def _invoke(
        self,
        id: str,
        slug: str,
        data: Mapping[str, object] | None,
        *,
        timeout: Duration,
        detached: bool,
        reader: Reader | None,
    ) -> Async[Any]:
        found = InvokeFound(
            "", id, slug, waiting.invoked_data(id, data), waiting.timeout_ms(id, timeout), bool(detached)
        )
        self.unawaited.add(step := self._asked(id, "invoke", found, reader))
        return step

    def _wait(
        self, id: str, on: Sequence[On[Any]], timeout: Duration, lookback: Duration | None
    ) -> Async[Received[Any] | None]:
        id = checks.step_id(id)
        found = WaitFound(
            "", id, waiting.conditions(id, on), waiting.timeout_ms(id, timeout), False,
            waiting.lookback_ms(id, lookback),
        )  # fmt: skip
        self.unawaited.add(step := self._wait_for_any(id, found, on))
        return step

    async def _wait_for_any(self, id: str, found: WaitFound, on: Sequence[On[Any]]) -> Received[Any] | None:
        data = await self._driver.ask(id, "wait_for_event", lambda step: structs.replace(found, step=step))
        return waiting.first_of(data, on)

    async def _wait_for_all(self, id: str, found: WaitFound, on: Sequence[On[Any]]) -> list[Received[Any]] | None:
        data = await self._driver.ask(id, "wait_for_event", lambda step: structs.replace(found, step=step))
        return waiting.all_of(data, on)

    async def _asked(self, id: str, kind: str, found: SignalWaitFound | InvokeFound, reader: Reader | None) -> Any:
        data = await self._driver.ask(id, kind, lambda step: structs.replace(found, step=step))
        return decode(data) if reader is None else read(data, reader, "the result of step", id)

    async def _sleep(self, id: str, length_ms: int, until_ms: int) -> None:
        await self._driver.ask(id, "sleep", lambda step: SleepFound(step, id, length_ms, until_ms))

    async def _send_event(self, id: str, envelopes: tuple[Envelope, ...]) -> list[str]:
        sent = await self._driver.ask(id, "send_event", lambda step: SendFound(step, id, envelopes))
        return cast("dict[str, list[str]]", decode(sent))["ids"]

    async def _publish(self, id: str, found: PublishFound) -> None:
        await self._driver.ask(id, "publish", lambda step: structs.replace(found, step=step))


class SyncStepTools:
    """What a plain function does durably: as ``StepTools``, each call blocking the handler's own thread."""

    __slots__ = ("_driver", "_tools")

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._tools = StepTools(driver)

    @overload
    def run(self, id: str, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def run(self, id: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def run(self, id: str, fn: Callable[..., object], /, *args: object, **kwargs: object) -> object:
        """As ``StepTools.run``."""
        return self._driver.wait(self._tools.run(id, fn, *args, **kwargs))

    def retrying(self, retry: Retry) -> SyncRetrying:
        """As ``StepTools.retrying``."""
        return SyncRetrying(self._driver.wait, self._tools.retrying(retry))

    def sleep(self, id: str, length: Duration) -> None:
        """As ``StepTools.sleep``."""
        self._driver.wait(self._tools.sleep(id, length))

    def sleep_until(self, id: str, at: datetime | str) -> None:
        """As ``StepTools.sleep_until``."""
        self._driver.wait(self._tools.sleep_until(id, at))

    def send_event(self, id: str, events: Event | Sequence[Event]) -> list[str]:
        """As ``StepTools.send_event``."""
        return self._driver.wait(self._tools.send_event(id, events))

    def publish(
        self,
        id: str,
        topic: str,
        key: str | bytes | None,
        value: object,
        *,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> None:
        """As ``StepTools.publish``."""
        self._driver.wait(self._tools.publish(id, topic, key, value, headers=headers))

    def wait_for_event(
        self,
        id: str,
        *,
        event: str,
        match: str = "",
        if_: str = "",
        timeout: Duration,
        lookback: Duration | None = None,
        type_: type[T] | None = None,
    ) -> Received[T] | None:
        """As ``StepTools.wait_for_event``."""
        step = self._tools.wait_for_event(
            id, event=event, match=match, if_=if_, timeout=timeout, lookback=lookback, type_=type_
        )
        return self._driver.wait(step)

    def wait_for_any(self, id: str, on: Sequence[On[Any]], *, timeout: Duration) -> Received[Any] | None:
        """As ``StepTools.wait_for_any``."""
        return self._driver.wait(self._tools.wait_for_any(id, on, timeout=timeout))

    def wait_for_all(self, id: str, on: Sequence[On[Any]], *, timeout: Duration) -> list[Received[Any]] | None:
        """As ``StepTools.wait_for_all``."""
        return self._driver.wait(self._tools.wait_for_all(id, on, timeout=timeout))

    def wait_for_signal(
        self, id: str, signal: str, *, timeout: Duration, on_conflict: Literal["fail", "replace"] = "fail"
    ) -> Any:
        """As ``StepTools.wait_for_signal``."""
        return self._driver.wait(self._tools.wait_for_signal(id, signal, timeout=timeout, on_conflict=on_conflict))

    def callback(self, id: str, *, timeout: Duration) -> SyncCallback:
        """As ``StepTools.callback``."""
        return SyncCallback(self._driver.wait(self._tools.callback(id, timeout=timeout)), self._driver.wait)

    def invoke(
        self,
        id: str,
        function: Callable[..., Awaitable[R]] | Callable[..., R],
        *,
        data: Mapping[str, object] | None = None,
        timeout: Duration = waiting.INVOKE_TIMEOUT,
        detached: bool = False,
    ) -> R:
        """As ``StepTools.invoke``."""
        step: Async[R] = self._tools.invoke(id, function, data=data, timeout=timeout, detached=detached)
        return self._driver.wait(step)

    def invoke_by_id(
        self,
        id: str,
        function: str,
        *,
        data: Mapping[str, object] | None = None,
        timeout: Duration = waiting.INVOKE_TIMEOUT,
        detached: bool = False,
    ) -> Any:
        """As ``StepTools.invoke_by_id``."""
        return self._driver.wait(self._tools.invoke_by_id(id, function, data=data, timeout=timeout, detached=detached))


def _record(id: str, topic: str, key: object, value: object, headers: tuple[tuple[str, bytes], ...]) -> PublishFound:
    """The operation of a publish, its ``step`` still to be filled in."""
    if key is not None and not isinstance(key, str | bytes | bytearray | memoryview):
        raise FunctionError(
            f"step {id!r} refused: a record's key must be text, bytes or None, got {type_name(key)} {shown(key)}."
        )
    if value is None:
        if key is None:
            raise FunctionError(
                f"step {id!r} refused: a record without a value deletes what its key has, and got no key either. "
                'Give the key, or publish b"" or "null".'
            )
        headers = (*headers, TOMBSTONE)
    found = PublishFound(
        "",
        id,
        topic,
        b"" if key is None else _raw(key, "key", id),
        b"" if value is None else _raw(value, "value", id),
        headers,
    )
    return checks.record_size(found)


def _raw(value: object, what: str, id: str) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        if not is_storable(value):
            raise FunctionError(
                f"step {id!r} refused: the record's {what} must be Unicode text, got half a surrogate pair in "
                f'{shown(value)}. Encode it yourself: os.fsencode(name), or name.encode(errors="replace").'
            )
        return str.encode(value)
    return encode(value, f"what step {id!r} publishes")
