"""Existing topics as sources: what a first subscription leads to, and which partitions are opened where (rule 18).

    CatalogueSeen with a new (function, topic) ─> FunctionSubscribed; ScanStarted for what the lane has read already
    a topic is looked at ─> TopicSeen; SourceOpened for partitions that are new here

A partition opens at the *latest* of the offsets that its functions want; those that want more get the rest by a scan up
to there. So each record reaches a function either by the scan or by the live source, never by both: the border is an
offset, and it is in the very record that makes the live source take over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from millstream.core.handles import Handler, Handles
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue
from millstream.model.commands import NoteGap, Opening, SeeTopic
from millstream.model.effects import Effect
from millstream.model.facts import Fact, FunctionSubscribed, ScanStarted, SourceGap, SourceOpened, TopicSeen
from millstream.model.function import SINCE_LATEST, AppSpec, TopicTrigger
from millstream.model.rows import PositionRow, SubscriptionRow, TopicRow

PARTITIONS_MAX = 100_000
SINCE = "since"
BACKFILL = "backfill"


def subscribed(tables: Tables, spec: AppSpec | None) -> list[Fact]:
    """What the topics of an app's new version lead to.

    A function that was there before and comes back begins nothing: what it missed meanwhile it has missed.
    """
    facts: list[Fact] = []
    for function in spec.functions if spec is not None else ():
        for trigger in function.triggers:
            if not isinstance(trigger, TopicTrigger):
                continue
            if tables.subscriptions.get((function.slug, trigger.topic)) is not None:
                continue
            facts.append(FunctionSubscribed(function.slug, trigger.topic, trigger.since_ms))
            if trigger.since_ms != SINCE_LATEST:
                facts += [
                    _since(function.slug, trigger.topic, trigger.since_ms, row.partition, (-1, row.offset))
                    for row in opened(tables, trigger.topic)
                ]
    return facts


def see_topic(tables: Tables, command: SeeTopic, now_ms: int) -> list[Fact]:
    """Open the partitions of a topic that are new here. No facts: the lane looks at the topic again."""
    held = tables.topics.get(command.topic)
    known = held.partitions if held is not None else -1
    subscribers = {function.slug: trigger for function, trigger in catalogue(tables).subscribers(command.topic)}
    facts: list[Fact] = []
    for opening in command.openings:
        if tables.positions.get((command.topic, opening.partition)) is not None:
            continue
        facts.append(SourceOpened(command.topic, opening.partition, opening.offset))
        if held is not None or command.topic == tables.place.events_topic:
            continue  # It is new, and opens at its beginning for everybody.
        starts = {start.function: start.offset for start in opening.starts}
        if not subscribers.keys() <= starts.keys():
            return []  # A function has subscribed between the look and this decision.
        facts += _earlier(command.topic, opening, subscribers)
    if known < command.partitions:
        facts.append(TopicSeen(command.topic, command.partitions))
    return facts


def _earlier(topic: str, opening: Opening, subscribers: dict[str, TopicTrigger]) -> Iterator[ScanStarted]:
    """The scans of those who want to begin before the partition opens."""
    for start in opening.starts:
        trigger = subscribers.get(start.function)
        if trigger is not None and start.offset < opening.offset:
            border = (start.offset, opening.offset)
            yield _since(start.function, topic, trigger.since_ms, opening.partition, border)


def _since(function: str, topic: str, since_ms: int, partition: int, border: tuple[int, int]) -> ScanStarted:
    return ScanStarted(since_scan(function, topic), partition, function, topic, SINCE, "", since_ms, *border)


def since_scan(function: str, topic: str) -> str:
    """The name of the scan with which a function's subscription begins."""
    return f"{SINCE}:{function}:{topic}"


def opened(tables: Tables, topic: str) -> list[PositionRow]:
    """How far the lane has read each of its partitions of a topic."""
    rows = tables.positions.scan((topic, 0), limit=PARTITIONS_MAX)
    return [row for (of, _), row in rows if of == topic]


def note_gap(tables: Tables, command: NoteGap, now_ms: int) -> list[Fact]:
    """The next record of a source is not there: go on behind the gap, or where a topic made anew begins."""
    position = tables.positions.get((command.topic, command.partition))
    anew = command.to_offset < command.from_offset
    if position is not None and anew and position.offset != command.from_offset:
        return []  # It was noted before, and reading has gone on in the new one.
    if position is not None and not anew and position.offset >= command.to_offset:
        return []  # It was noted before, and reading has gone on.
    return [SourceGap(command.topic, command.partition, command.from_offset, command.to_offset)]


# --- fold -----------------------------------------------------------------------------------------


def source_opened(tables: Tables, f: SourceOpened, at_ms: int) -> Sequence[Effect]:
    """A partition is read from here on."""
    tables.positions.put((f.topic, f.partition), PositionRow(f.topic, f.partition, f.offset))
    return ()


def source_gap(tables: Tables, f: SourceGap, at_ms: int) -> Sequence[Effect]:
    """A partition is read on behind a gap, or from the beginning of a topic made anew."""
    tables.positions.put((f.topic, f.partition), PositionRow(f.topic, f.partition, f.to_offset))
    return ()


def topic_seen(tables: Tables, f: TopicSeen, at_ms: int) -> Sequence[Effect]:
    """The number of a topic's partitions."""
    tables.topics.put(f.topic, TopicRow(f.topic, f.partitions))
    return ()


def function_subscribed(tables: Tables, f: FunctionSubscribed, at_ms: int) -> Sequence[Effect]:
    """A function's first subscription to a topic has begun."""
    tables.subscriptions.put((f.function, f.topic), SubscriptionRow(f.function, f.topic, f.since_ms))
    return ()


HANDLES = Handles(
    commands={SeeTopic: Handler(see_topic), NoteGap: Handler(note_gap)},
    facts={
        SourceOpened: source_opened,
        SourceGap: source_gap,
        TopicSeen: topic_seen,
        FunctionSubscribed: function_subscribed,
    },
)
