"""What a step waits for: events, a signal, a run, or a post to a callback. It stands in the fact that begins the wait,
and in the step's row.

An event is found by its **place**: a hash of the event's name, a path into it, and the value there. Whoever waits for
``order/shipped`` with one order id waits at one place, however many wait for others; the lane that is the place's home
decides who waits there (``core/waits``). Where no equality is asked the path is empty, and all waits for events of that
name share one place.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec

from millstream.model.event import Envelope
from millstream.model.ids import SLOTS

NO_PLACE: Final = ""
"""The place of a condition that no event can meet: the run's own event has no such value."""
MARK_BYTES: Final = 8
"""The length of the marks by which a run knows what it has taken."""


class AwaitedEvent(msgspec.Struct, frozen=True, gc=False):
    """One condition of a wait.

    ``place``       where such events are found; NO_PLACE: no event can meet it.
    ``path``        where the value lies that must be equal, such as ``data.order_id``; empty: no equality is asked.
    ``expression``  CEL over ``event`` (the run's own) and ``async`` (the one that comes); empty: nothing more is asked.
    ``came``        the event that came, as JSON, where others are still awaited.
    ``is_over``     its home has said that nothing came in time.
    """

    event: str
    place: str
    path: str = ""
    expression: str = ""
    came: bytes = b""
    is_over: bool = False


class AwaitedEvents(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A wait for the first of several events, or for all of them. ``since_ms``: those received before do not count."""

    conditions: tuple[AwaitedEvent, ...]
    is_all: bool
    since_ms: int


class AwaitedSignal(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A wait for a signal by its name. ``came``: it was sent, and is the step's result; this stays beside that then."""

    signal: str
    came: bool = False


class AwaitedRun(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A wait for the end of a run that this step has started. ``is_detached``: it goes on without its parent."""

    function: str
    run: str
    is_detached: bool


class AwaitedCallback(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A wait for what is posted to a callback of the run. ``callback``: the step that has made it."""

    callback: str


class AwaitedPost(msgspec.Struct, frozen=True, gc=False, tag=True):
    """What a callback holds: until when it takes a post; and the one that it has taken.

    ``data``     the posted body as JSON, kept for the step that will wait for it; empty: there is none, or it has it.
    ``taken_by`` the step that has it.
    """

    until_ms: int
    data: bytes = b""
    taken_by: str = ""

    @property
    def is_used(self) -> bool:
        """Whether somebody has posted."""
        return bool(self.data or self.taken_by)


Awaited = AwaitedEvents | AwaitedSignal | AwaitedRun | AwaitedCallback | AwaitedPost
"""They carry a tag, since a step's row travels to executor processes."""


def place_of(event: str, path: str, value: str) -> str:
    """The place of events of this name with this value (as ``value_text`` writes it) at this path."""
    text = f"{event}\x00{path}\x00{value}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).hexdigest()


def home_of_place(place: str, lanes: int) -> int:
    """The lane that decides who waits at a place."""
    return int(place[:4], 16) % SLOTS % lanes


def event_mark(event: Envelope) -> bytes:
    """What stands for an event among those that a run has taken; the same for one that was sent twice with one id."""
    id = event.id if event.id_is_clients else event.internal_id
    return blake2b(id.encode("utf-8", "surrogatepass"), digest_size=MARK_BYTES).digest()


def condition_mark(condition: AwaitedEvent) -> bytes:
    """What stands for a condition: the same for two waits of a run that ask for the same."""
    text = f"{condition.event}\x00{condition.place}\x00{condition.expression}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=MARK_BYTES).digest()


def taken_by(taken: bytes, condition: bytes) -> bytes:
    """The marks of the events that waits with this condition have taken, out of ``RunRow.taken``."""
    step = 2 * MARK_BYTES
    pairs = (taken[at : at + step] for at in range(0, len(taken), step))
    return b"".join(pair[MARK_BYTES:] for pair in pairs if pair.startswith(condition))


def is_marked(marks: bytes, mark: bytes) -> bool:
    """Whether a mark is among others."""
    return any(marks.startswith(mark, at) for at in range(0, len(marks), MARK_BYTES))
