"""What a step waits for, as people are shown it: in the history, over the API, on the page, in tests.

Stored as JSON in the trail of a run (``model/trail.py``), and answered as it is by ``GET /v1/runs/{id}``: fields are
only ever added.
"""

from __future__ import annotations

from typing import Final

import msgspec

from millstream.model.waits.awaited import (
    NO_PLACE,
    Awaited,
    AwaitedCallback,
    AwaitedEvents,
    AwaitedPost,
    AwaitedSignal,
)

TEXT_CHARS_MAX: Final = 400


class EventAwaited(msgspec.Struct, frozen=True, omit_defaults=True, rename={"expression": "if"}):
    """One of the events. ``match``: where the value lies that must be the same; ``came``: this one is there already.

    ``never``: no event can meet it, since the run's own event has no value there. Long paths and expressions are shown
    by their beginning (TEXT_CHARS_MAX).
    """

    event: str
    match: str = ""
    expression: str = ""
    came: bool = False
    never: bool = False


class WaitsFor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Events (one of them, or ``all``), or a signal, or the end of a run of a function, or a post to the callback of a
    step. ``came``: the signal was sent."""

    events: tuple[EventAwaited, ...] = ()
    all: bool = False
    signal: str = ""
    function_id: str = ""
    run_id: str = ""
    detached: bool = False
    callback: str = ""
    came: bool = False


_decoder: Final = msgspec.json.Decoder(WaitsFor)


def waits_for(awaits: Awaited) -> WaitsFor:
    """What is shown of it."""
    if isinstance(awaits, AwaitedSignal):
        return WaitsFor(signal=awaits.signal, came=awaits.came)
    if isinstance(awaits, AwaitedEvents):
        events = tuple(
            EventAwaited(c.event, _cut(c.path), _cut(c.expression), bool(c.came), c.place == NO_PLACE)
            for c in awaits.conditions
        )
        return WaitsFor(events, awaits.is_all)
    if isinstance(awaits, AwaitedCallback):
        return WaitsFor(callback=awaits.callback)
    assert not isinstance(awaits, AwaitedPost), "a callback waits for nothing: a step of its run does"
    return WaitsFor(function_id=awaits.function, run_id=awaits.run, detached=awaits.is_detached)


def written(awaits: Awaited) -> str:
    """As it is stored."""
    return msgspec.json.encode(waits_for(awaits)).decode()


def read(stored: str) -> WaitsFor:
    """What was stored."""
    return _decoder.decode(stored)


def in_words(shown: WaitsFor) -> str:
    """In one line, for people: ``event order/paid (data.order_id)``."""
    if shown.signal:
        text = f"signal {shown.signal}"
    elif shown.callback:
        text = f"a post to callback {shown.callback}"
    elif shown.function_id:
        text = f"run {shown.run_id} of {shown.function_id}"
    else:
        open_ = [event for event in shown.events if not event.came]
        head = "event " if len(open_) == 1 else ("all of " if shown.all else "any of ")
        text = head + ", ".join(map(_event, open_))
        text += (
            f"; {len(shown.events) - len(open_)} of {len(shown.events)} came" if len(open_) < len(shown.events) else ""
        )
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 1] + "…"


def _event(event: EventAwaited) -> str:
    if event.never:
        return f"{event.event} (never: the run's own event has no {event.match or 'such value'})"
    asked = " and ".join(part for part in (event.match, event.expression) if part)
    return f"{event.event} ({asked})" if asked else event.event
