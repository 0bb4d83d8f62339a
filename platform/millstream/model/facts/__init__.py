"""Facts: what was decided, past tense. The journal is a sequence of them and the only truth.

    steps.py, runs.py    what happens to a run           events.py, sources.py   what comes in, and from where
    waits.py             what is waited for, and where        flow.py   what happens at gates
    waits.py             what is waited for, and where
    cancellations.py     many runs cancelled by one request
    lanes.py             what leaves a lane, and who owns it

Each class is a branch of ``schemas/journal/record.avsc``, field for field, where every field has its documentation; a
test compares the two. Flat on purpose: a fact is encoded once per decision, on the hot path. A fold that must treat a
fact differently from before is a new class (lanes.md rule 33), never a new meaning of an old one.

``discover`` on a fact says: with it, the body is handed out again (a *discovery*) to find what to do next.
"""

from __future__ import annotations

from msgspec.structs import replace

from millstream.model.facts.cancellations import CancellationAdvanced, CancellationEnded, CancellationStarted
from millstream.model.facts.events import (
    CatalogueSeen,
    CommandRefused,
    CronArmed,
    CronDisarmed,
    CronTicked,
    EventAccepted,
    EventDeduplicated,
    FunctionSkipped,
    LimitsSeen,
    SeenDropped,
)
from millstream.model.facts.flow import (
    BatchAdded,
    BatchOver,
    GateAsked,
    GateLeft,
    GateOpened,
    GatePassed,
    GateQueued,
    GateTimed,
    SingletonFreed,
    SingletonHeld,
    SingletonKept,
    SlotReturned,
    StartCounted,
    StartKept,
    StartReleased,
    StartsForgotten,
    SweepArmed,
    SweepTaken,
)
from millstream.model.facts.lanes import (
    HolderGone,
    LaneFenced,
    LaneReleased,
    MessagesDelivered,
    MessageSent,
    MessageTaken,
    Post,
    PublishesSent,
    PublishQueued,
    RequestAnswered,
    RequestsDropped,
)
from millstream.model.facts.runs import (
    BodyAttemptFailed,
    BodyHeld,
    DiscoveryAnswered,
    DispatchLost,
    DispatchParked,
    DispatchUnparked,
    HeldResumed,
    JointFound,
    RetryDue,
    RunBounded,
    RunCancelled,
    RunCompleted,
    RunDue,
    RunFailed,
    RunStarted,
    StartPassed,
)
from millstream.model.facts.sources import (
    FunctionSubscribed,
    ScanAdvanced,
    ScanBounded,
    ScanEnded,
    ScanStarted,
    SourceGap,
    SourceOpened,
    TopicSeen,
)
from millstream.model.facts.steps import (
    GatewayPlanned,
    SleepEnded,
    SleepStarted,
    StepAttemptFailed,
    StepCompleted,
    StepFailed,
    StepHeld,
    StepPlanned,
)
from millstream.model.facts.waits import (
    CallbackOpened,
    CallbackUsed,
    CoverageAnswered,
    CoverageAsked,
    CoverageDropped,
    CoverageWanted,
    EventKept,
    EventNoted,
    EventTaken,
    InterestDropped,
    InterestSeen,
    KeptDropped,
    MatchingPaused,
    SeekPassed,
    SeekStarted,
    SignalAwaited,
    SignalGone,
    SignalTaken,
    WaitClosing,
    WaiterAdded,
    WaiterGone,
    WaiterLooked,
    WaitOver,
    WaitPostponed,
    WaitStarted,
)

__all__ = [
    "FACTS",
    "BatchAdded",
    "BatchOver",
    "BodyAttemptFailed",
    "BodyHeld",
    "CallbackOpened",
    "CallbackUsed",
    "CancellationAdvanced",
    "CancellationEnded",
    "CancellationStarted",
    "CatalogueSeen",
    "CommandRefused",
    "CoverageAnswered",
    "CoverageAsked",
    "CoverageDropped",
    "CoverageWanted",
    "CronArmed",
    "CronDisarmed",
    "CronTicked",
    "DiscoveryAnswered",
    "DispatchLost",
    "DispatchParked",
    "DispatchUnparked",
    "EventAccepted",
    "EventDeduplicated",
    "EventKept",
    "EventNoted",
    "EventTaken",
    "Fact",
    "FunctionSkipped",
    "FunctionSubscribed",
    "GateAsked",
    "GateLeft",
    "GateOpened",
    "GatePassed",
    "GateQueued",
    "GateTimed",
    "GatewayPlanned",
    "HeldResumed",
    "HolderGone",
    "InterestDropped",
    "InterestSeen",
    "JointFound",
    "KeptDropped",
    "LaneFenced",
    "LaneReleased",
    "LimitsSeen",
    "MatchingPaused",
    "MessageSent",
    "MessageTaken",
    "MessagesDelivered",
    "Post",
    "PublishQueued",
    "PublishesSent",
    "Recorded",
    "RequestAnswered",
    "RequestsDropped",
    "RetryDue",
    "RunBounded",
    "RunCancelled",
    "RunCompleted",
    "RunDue",
    "RunFailed",
    "RunStarted",
    "ScanAdvanced",
    "ScanBounded",
    "ScanEnded",
    "ScanStarted",
    "SeekPassed",
    "SeekStarted",
    "SeenDropped",
    "SignalAwaited",
    "SignalGone",
    "SignalTaken",
    "SingletonFreed",
    "SingletonHeld",
    "SingletonKept",
    "SleepEnded",
    "SleepStarted",
    "SlotReturned",
    "SourceGap",
    "SourceOpened",
    "StartCounted",
    "StartKept",
    "StartPassed",
    "StartReleased",
    "StartsForgotten",
    "StepAttemptFailed",
    "StepCompleted",
    "StepFailed",
    "StepHeld",
    "StepPlanned",
    "SweepArmed",
    "SweepTaken",
    "TopicSeen",
    "WaitClosing",
    "WaitOver",
    "WaitPostponed",
    "WaitStarted",
    "WaiterAdded",
    "WaiterGone",
    "WaiterLooked",
    "with_discovery",
]

Recorded = (
    StepCompleted
    | EventAccepted
    | RunStarted
    | RunCompleted
    | StepPlanned
    | DiscoveryAnswered
    | SleepStarted
    | SleepEnded
    | StepAttemptFailed
    | StepFailed
    | BodyAttemptFailed
    | RetryDue
    | RunDue
    | RunFailed
    | RunCancelled
    | DispatchLost
    | DispatchParked
    | DispatchUnparked
    | PublishQueued
    | PublishesSent
    | MessageSent
    | MessageTaken
    | MessagesDelivered
    | CatalogueSeen
    | CronArmed
    | CronDisarmed
    | CronTicked
    | EventDeduplicated
    | FunctionSkipped
    | CommandRefused
    | RequestAnswered
    | RequestsDropped
    | SeenDropped
    | SourceOpened
    | SourceGap
    | LaneFenced
    | LaneReleased
    | HolderGone
    | TopicSeen
    | FunctionSubscribed
    | ScanStarted
    | ScanAdvanced
    | ScanEnded
    | WaitStarted
    | EventTaken
    | WaitClosing
    | WaitPostponed
    | WaitOver
    | WaiterAdded
    | WaiterLooked
    | WaiterGone
    | EventKept
    | MatchingPaused
    | KeptDropped
    | CoverageAsked
    | CoverageWanted
    | CoverageAnswered
    | CoverageDropped
    | InterestSeen
    | InterestDropped
    | SeekStarted
    | SeekPassed
    | ScanBounded
    | EventNoted
    | SignalAwaited
    | SignalGone
    | RunBounded
    | StartPassed
    | GateAsked
    | GatePassed
    | SlotReturned
    | GateQueued
    | GateOpened
    | GateLeft
    | GateTimed
    | SweepArmed
    | SweepTaken
    | StartCounted
    | StartsForgotten
    | SingletonHeld
    | SingletonKept
    | SingletonFreed
    | StartKept
    | StartReleased
    | BatchAdded
    | BatchOver
    | CallbackOpened
    | CallbackUsed
    | CancellationStarted
    | CancellationAdvanced
    | CancellationEnded
    | StepHeld
    | BodyHeld
    | HeldResumed
    | LimitsSeen
    | JointFound
    | GatewayPlanned
    | SignalTaken
)
"""What stands in the journal."""
Fact = Recorded | Post
"""What a decision says; a ``Post`` in it becomes a fact, or further facts, before it is recorded."""


def with_discovery(fact: StepCompleted | StepFailed) -> StepCompleted | StepFailed:
    """The same fact, with which the body is handed out again."""
    return replace(fact, discover=True)


FACTS: tuple[type[Recorded], ...] = Recorded.__args__
