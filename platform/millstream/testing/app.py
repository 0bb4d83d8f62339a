"""``TestApp``: an app under test. Lane, core and executor are the real ones; the log is in memory, time is virtual.

What is *not* as in production: time stands still while code executes, so a function's ``step_timeout`` never runs out
by itself (stub the step with TimeoutError to see what follows); and events are not checked against Avro schemas.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

import msgspec

from millstream.errors import FunctionError
from millstream.log.port import Produced
from millstream.model.commands import InvokeFunction, ResolveCallback, SendSignal
from millstream.model.event import FUNCTION_INVOKED, Envelope, Event
from millstream.model.ids import ulid
from millstream.model.invocation import MEMBER, of_request
from millstream.model.messages import InboxRecord, Message
from millstream.model.run_requests import CancelRun, FailRun, ResumeRun
from millstream.model.text.durations import Duration, instant_ms, to_ms
from millstream.model.text.storable import shown
from millstream.model.waits.awaited import AwaitedPost
from millstream.model.waits.callback_token import PATH, callback_id, mark_of
from millstream.sdk.app import App
from millstream.sdk.function import Handler
from millstream.sdk.outgoing import envelope_of, several
from millstream.sdk.outside.client import Client
from millstream.sdk.payloads import encode
from millstream.testing.clock import VirtualClock
from millstream.testing.expectations import NotAsExpected
from millstream.testing.record import Published
from millstream.testing.rig import EVENTS, CrashPoint, Rig
from millstream.testing.stubs import Stub, StubbedApp, Stubs
from millstream.testing.views import Run, Sent, report
from millstream.wire.messages import encode_envelope, encode_inbox

START: Final = datetime(2026, 1, 5, tzinfo=UTC)
"""When tests begin if they don't say: a Monday, midnight in UTC."""
PATIENCE_S: Final = 5.0
COPIES_MAX: Final = 1_000

Which = str | Handler
"""A function: its id with or without the app's, or the handler itself."""


class TestApp:
    """One or more apps under test, on the event loop the test runs on.

        async with TestApp(app) as t:
            t.stub("charge", {"id": 7})
            run = await t.send(Event("order/placed", {"order": 1}))
            await t.advance("3d")
            assert run.status == "Completed"
            assert run.steps["charge"].result == {"id": 7}

    Every call that sets something off returns when nothing more can happen at the present virtual time. ``start`` is
    the time it begins at, with a zone. ``patience_s`` is how long real waiting in user code may take without anything
    happening. Leaving raises NotAsExpected if a stub or a crash point was never reached.
    """

    __test__ = False  # Its name must not make test runners collect it.

    def __init__(self, *apps: App, start: datetime = START, patience_s: float = PATIENCE_S) -> None:
        if not apps:
            raise FunctionError("TestApp refused: expected at least one App, got none.")
        self._clock = VirtualClock(datetime.fromtimestamp(instant_ms(start, "TestApp(start=)") / 1_000, UTC))
        self._apps = apps
        self._stubs = Stubs()
        self._rig = Rig([StubbedApp(app, self._stubs) for app in apps], self._clock, patience_s)
        self._clients: list[Client | None] = []
        self._events = 0
        self._entered = False

    async def __aenter__(self) -> TestApp:
        """Start. Raises FunctionError outside of an asyncio event loop."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise FunctionError("TestApp refused: expected a running asyncio event loop, got another one.") from None
        if self._entered:
            raise FunctionError("TestApp refused: it was entered before. Make another one for another test.")
        self._entered = True
        await self._rig.start()
        self._clients = [app._client for app in self._apps]
        for app in self._apps:
            app._client = _Loopback(self)
        await self.settle()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; after a test that went well, see that all that was prepared was reached."""
        for app, client in zip(self._apps, self._clients, strict=True):
            app._client = client
        await self._rig.stop()
        if kind is not None:
            return
        self._stubs.check()
        missed = [point.step for point in self._rig.crash_points if not point.reached]
        if missed:
            raise NotAsExpected(f"crash_after was never reached: no step {missed} ended in this test. Check the ids.")

    # --- what happens -----------------------------------------------------------------------------

    async def send(self, events: Event | Sequence[Event], *, copies: int = 1) -> Sent:
        """Send one event or several, in this order; return when what they set off has come to rest.

        ``copies`` delivers each that many times, as a producer does that hears no answer. Where one run was started,
        the answer speaks for it: ``sent.status``, ``sent.result``, ``sent.steps``; else choose from ``sent.runs``.
        Raises BadRequest or LimitExceeded for an event that the door would refuse.
        """
        if not 1 <= copies <= COPIES_MAX:
            raise FunctionError(f"send refused: expected 1 to {COPIES_MAX} copies, got {copies}.")
        sent = await self._accept(events, copies)
        await self.settle()
        return sent

    async def invoke(self, function: Which, data: Mapping[str, Any] | None = None) -> Sent:
        """Start a function directly, whatever its triggers, on an event ``inngest/function.invoked`` with this data."""
        slug, now_ms, id = self._slug(function), self._clock.now_ms(), self._new_id()
        body = msgspec.json.encode({**(data or {}), MEMBER: of_request(slug)})
        event = Envelope(id, id, False, FUNCTION_INVOKED, body, now_ms, now_ms)
        await self._ask(InvokeFunction(slug, event, id))
        return Sent(self._rig.record, (id,))

    async def cancel(self, run: Run | Sent) -> None:
        """Cancel a run, as ``DELETE /v1/runs/{id}`` does. One that is over stays as it is."""
        await self._ask(CancelRun(run.id, "cancelled over the API", self._new_id()))

    async def resume(self, run: Run | Sent) -> None:
        """Try again what is held of a run, as ``millstream runs resume`` does. Raises NotAsExpected for none."""
        self._check_held(run)
        await self._ask(ResumeRun(run.id, self._new_id()))

    async def fail(self, run: Run | Sent) -> None:
        """Let what is held of a run fail, as ``millstream runs fail`` does. Raises NotAsExpected for none."""
        self._check_held(run)
        await self._ask(FailRun(run.id, self._new_id()))

    async def signal(self, name: str, data: object = None) -> None:
        """Send a signal to the step that waits for it, as ``POST /v1/signals`` does; ``data`` is what the step returns.

        Raises NotAsExpected, naming the signals that are waited for, where nobody waits for this one.
        """
        await self.settle()
        awaited = self._rig.signals_awaited
        if name not in awaited:
            raise NotAsExpected(
                f"no step waits for the signal {shown(name)}: waited for are {', '.join(map(repr, awaited)) or 'none'}."
            )
        await self._ask(SendSignal(name, encode(data, f"the data of signal {name!r}"), self._new_id()))

    async def callback(self, which: str, data: object = None) -> None:
        """Post to a callback of an open run, as somebody does who has its URL; ``data`` is what ``result()`` returns.

        ``which`` is the callback's ``url`` or ``id``, or the id of its step where only one open run has made such a
        one. Raises NotAsExpected where there is none, and where it takes no post: the second, or one too late.
        """
        await self.settle()
        made = {callback_id(row.run, row.step): row for row in self._rig.callbacks}
        id = which.rpartition(PATH)[2]
        fits = [row for name, row in made.items() if which == row.step or name == id or id.startswith(f"{name}.")]
        if len(fits) != 1:
            known = ", ".join(f"{row.step!r} ({name})" for name, row in made.items()) or "none"
            raise NotAsExpected(f"callback {shown(which)} is {len(fits)} callbacks: open runs have made {known}.")
        (row,) = fits
        holds = row.awaits
        assert isinstance(holds, AwaitedPost), "the rig lists no others"
        if holds.is_used or self._clock.now_ms() >= holds.until_ms:
            why = "somebody has posted to it before" if holds.is_used else "its time is over"
            raise NotAsExpected(f"the callback of step {row.step!r} takes no post (over HTTP: 410): {why}.")
        body = encode(data, f"what is posted to callback {row.step!r}")
        await self._ask(ResolveCallback(row.run, mark_of(row.step), body, self._new_id()))

    async def advance(self, by: Duration | datetime) -> None:
        """Move time on by a length (``"3d"``), or up to a datetime.

        Sleeps, retries, crons and delayed events up to then happen, each at its own time, and what one sets off comes
        to rest before the next. Raises NotAsExpected for a time that is past.
        """
        now_ms = self._clock.now_ms()
        to = instant_ms(by, "advance") if isinstance(by, datetime) else now_ms + to_ms(by, "advance")
        if to < now_ms:
            raise NotAsExpected(f"time cannot go back: it is {self.now}, asked for was {by}.")
        await self._rig.advance(to)

    async def settle(self) -> None:
        """Return when nothing more can happen at this time. Needed only after ``app.send`` in the test itself."""
        await self._rig.settle()

    async def crash(self) -> None:
        """The worker dies now, as with ``kill -9``, and another takes over from the log.

        Called in a stub it kills that very attempt. Code below ``finally`` and ``except`` of dropped handlers still
        runs, and a thread cannot be stopped: what it returns goes nowhere.
        """
        self._rig.crash()
        await self.settle()

    def crash_after(self, step: str, *, function: Which = "") -> None:
        """The worker dies right after this step's end is durable, once. The run goes on; the step is not done again."""
        self._rig.crash_points.append(CrashPoint(step, self._slug(function) if function else ""))

    def stub(self, step: str, reply: object = None, *, function: Which = "", optional: bool = False) -> Stub:
        """From now on, ``reply`` stands in for the function of the step with this id (for a loop's ``id:1`` … as well).

        Of a step that invokes a function, ``reply`` stands in for the run: none is started, an exception is its
        failure, a callable is given its data. The step is recorded as one of kind ``run``.

        ``reply`` is what the step returns; or an exception that it raises; or a callable, plain or async, that is
        given the step's arguments; or ``sequence([...])`` of those. It counts as an attempt like any other, and is
        recorded. The answer knows the ``calls``. Where the step is never run, leaving raises NotAsExpected, unless
        ``optional``.
        """
        placed = Stub(step, reply, self._slug(function) if function else "", optional)
        self._stubs.put(placed)
        return placed

    # --- what one sees ----------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The virtual time, in UTC."""
        return self._clock.now

    @property
    def runs(self) -> list[Run]:
        """All runs, in order of their start."""
        return [Run(self._rig.record, id) for id in self._rig.record.runs]

    @property
    def sent_events(self) -> list[Event]:
        """The events that steps have sent (``ctx.step.send_event``), in order and as they were written."""
        return list(self._rig.record.sent)

    @property
    def published(self) -> list[Published]:
        """The records that steps have published, in order."""
        return list(self._rig.record.published)

    def report(self) -> str:
        """All runs with steps and errors as text; the pytest fixture shows it with a test that failed."""
        return report(self.runs)

    # --- inside -----------------------------------------------------------------------------------

    async def _accept(self, events: Event | Sequence[Event], copies: int) -> Sent:
        """What the door does: ids, and durable when it returns. A millisecond after what was sent before.

        Time stands still between, and which of two events came first must be seen: waits look no further back than to
        their run's own.
        """
        if self._events:
            self._clock.leap(self._clock.now_ms() + 1)
        now_ms, catalogue = self._clock.now_ms(), await self._rig.catalogue_end()
        envelopes = []
        for event in several(events):
            envelope, id = envelope_of(event, now_ms), self._new_id()
            envelopes.append(
                msgspec.structs.replace(envelope, internal_id=id, id=envelope.id or id, catalogue=catalogue)
            )
        records = [Produced(encode_envelope(envelope)) for envelope in envelopes for _ in range(copies)]
        if records:
            await self._rig.append(EVENTS, records)
        return Sent(self._rig.record, tuple(envelope.internal_id for envelope in envelopes))

    async def _ask(self, message: Message) -> None:
        await self._rig.append("inbox", [Produced(encode_inbox(InboxRecord(-1, 0, message)))])
        await self.settle()

    def _check_held(self, run: Run | Sent) -> None:
        seen = Run(self._rig.record, run.id)
        if not seen.is_held:
            steps = ", ".join(map(repr, seen.steps.values())) or "none yet"
            raise NotAsExpected(f"{seen!r} is not held: no step of it is, nor its body. Its steps: {steps}.")

    def _new_id(self) -> str:
        self._events += 1
        return ulid(self._clock.now_ms(), self._events.to_bytes(10, "big"))

    def _slug(self, function: Which) -> str:
        known = {slug: (app, declared) for app in self._apps for slug, declared in app.functions.items()}
        fits = [
            slug
            for slug, (app, declared) in known.items()
            if function in (slug, slug.removeprefix(f"{app.id}-")) or declared.handler is function
        ]
        if len(fits) != 1:
            raise NotAsExpected(f"function {function!r} is {fits or 'not there'}: expected one of {sorted(known)}.")
        return fits[0]


class _Loopback(Client):
    """What ``app.send`` uses during a test: the events go into the test's log, not over a network."""

    def __init__(self, test: TestApp) -> None:
        super().__init__()
        self._test = test
        self._loop = asyncio.get_running_loop()

    async def send(self, events: Event | Sequence[Event]) -> list[str]:
        """See ``Client``."""
        return list((await self._test._accept(events, 1)).events)

    def send_sync(self, events: Event | Sequence[Event]) -> list[str]:
        """See ``Client``. Raises FunctionError on the test's own loop, which would wait for itself."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run_coroutine_threadsafe(self.send(events), self._loop).result()
        raise FunctionError("send_sync refused: it would block the loop that it waits for. Write: await app.send(…)")
