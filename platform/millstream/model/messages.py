"""Messages: what travels between lanes and apis through the topics ``<group>.inbox`` and ``<group>.replies``."""

from __future__ import annotations

from typing import Final

import msgspec

from millstream.model.commands import (
    AwaitEvent,
    AwaitSignal,
    BackfillFunction,
    CancelScan,
    ChildEnded,
    EventCame,
    EventsSought,
    ForgetSignal,
    ForgetWait,
    InvokeFunction,
    LoseDispatch,
    NothingCame,
    ParkDispatch,
    Report,
    ResolveCallback,
    SeekEvents,
    SendSignal,
    SignalCame,
    StillRunning,
    TakeEvent,
)
from millstream.model.gates.messages import AdmitStart, AskGate, GateOpen, LeaveGate
from millstream.model.run_requests import CancelRun, CancelRuns, FailRun, ResumeRun, StopCancelling

Message = (
    CancelRun
    | InvokeFunction
    | Report
    | ParkDispatch
    | LoseDispatch
    | StillRunning
    | BackfillFunction
    | CancelScan
    | ChildEnded
    | AwaitEvent
    | ForgetWait
    | TakeEvent
    | EventCame
    | NothingCame
    | SeekEvents
    | EventsSought
    | AwaitSignal
    | ForgetSignal
    | SignalCame
    | SendSignal
    | AdmitStart
    | AskGate
    | LeaveGate
    | GateOpen
    | ResolveCallback
    | CancelRuns
    | StopCancelling
    | ResumeRun
    | FailRun
)
"""Report to StillRunning are a former owner's of the lane, who still runs what it was handed (lanes.md rule 25)."""
Request = (
    CancelRun
    | InvokeFunction
    | BackfillFunction
    | CancelScan
    | SendSignal
    | ResolveCallback
    | CancelRuns
    | StopCancelling
    | ResumeRun
    | FailRun
)
"""Those that an api asks, and waits for the answer."""


class InboxRecord(msgspec.Struct, frozen=True):
    """One record of a lane's inbox.

    From a lane: ``from_lane`` and ``seq`` number it; the receiver takes exactly the next one. From an api or a worker:
    ``from_lane`` is −1, and duplicates are known by the request id or dispatch number inside the message.
    """

    from_lane: int
    seq: int
    message: Message


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What became of a request. ``reply`` is JSON; a read of ``lane`` at ``offset`` or later sees its effect."""

    request: str
    lane: int
    offset: int
    reply: bytes


OWN_TOPICS: Final = frozenset(("journal", "inbox", "steps", "timers", "keys", "functions", "replies", "dead-letters"))
"""The group's own topics, by the part behind its name. Only millstream writes there."""


def is_own_topic(group: str, topic: str) -> bool:
    """Whether the topic is one of the group's own."""
    return topic.startswith(f"{group}.") and topic[len(group) + 1 :] in OWN_TOPICS


GROUP_RECORD_KEY: Final = b"millstream:group"
"""The key of the group's own record among the apps of its functions topic; no app has such an id."""


def group_topic(group: str, which: str) -> str:
    """The name of one of the group's own topics: ``<group>.journal`` and so on."""
    return f"{group}.{which}"
