"""The messages of flow control: what lanes send to the homes of gates, and what those answer."""

from __future__ import annotations

import msgspec

from millstream.model.event import Envelope
from millstream.model.gates.declared import RunFlow


class AdmitStart(msgspec.Struct, frozen=True):
    """Start a function on an event, where its gates let it: goes from home to home, and last to the lane of the run.

    ``admits``    the places of the gates that say whether it starts; ``passed``: how many have said yes.
    ``flow``      the gates of the run that it becomes.
    ``lane``      where that run lives.
    ``at_ms``     when the run is handed out; 0: at once.
    ``topic``, ``partition``, ``offset``  where the event was read.
    """

    function: str
    event: Envelope
    cause: str
    at_ms: int
    admits: tuple[str, ...]
    passed: int
    flow: RunFlow | None
    lane: int
    topic: str = ""
    partition: int = 0
    offset: int = 0
    request: str = ""
    reply_to: int = -1


class AskGate(msgspec.Struct, frozen=True, gc=False):
    """A run's body (``step`` empty) or step wants to pass a gate. ``number`` says which of its asks this is."""

    place: str
    function: str
    run: str
    step: str
    number: int
    score_ms: int


class LeaveGate(msgspec.Struct, frozen=True, gc=False):
    """What has asked at the gate counts there no more, and waits there no more."""

    place: str
    run: str
    step: str
    number: int


class GateOpen(msgspec.Struct, frozen=True, gc=False):
    """The gate lets it pass, under the number that it has asked with."""

    place: str
    run: str
    step: str
    number: int
