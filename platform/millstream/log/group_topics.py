"""The topics of a group, as data: which there are, how many partitions each has, what is kept of it.

    topic                 partitions        kept
    events topic          of its owner      retention of its owner
    <group>.journal       lanes             until the lane trims it
    <group>.inbox         lanes             until the lane trims it
    <group>.steps         lanes             last value of every key
    <group>.timers        lanes             last value of every key
    <group>.keys          lanes             last value of every key
    <group>.functions     1                 last value of every key
    <group>.replies       api instances     an hour
    <group>.dead-letters  1                 a week

What makes them (``millstream dev``, ``topics apply``) and what checks them (``topics plan``, a worker before it starts,
``doctor``) asks here. Add a topic: one line in ``topics_of``, its settings in
``kafka/admin/wants.py``, who may touch it in ``kafka/admin/acls.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from millstream.log.port import TopicKind, TopicSpec
from millstream.model.limits import DAY_MS, HOUR_MS
from millstream.model.messages import group_topic

GROUP_DEFAULT: Final = "millstream"
REPLIES_KEPT_MS: Final = HOUR_MS
KEPT_MS: Final = 7 * DAY_MS
OF_LANES: Final = ("journal", "inbox", "steps", "timers", "keys")
"""One partition per lane: their number is the number of lanes, for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupShape:
    """What the topics of a group depend on.

    ``kept_ms``  of the events topic and the dead letters, where they are made here; -1: for ever.
    ``apis``     how many api instances may run: each reads a partition of the replies.
    """

    group: str
    lanes: int
    events_topic: str = "events"
    kept_ms: int = KEPT_MS
    apis: int = 1


def topics_of(shape: GroupShape) -> list[TopicSpec]:
    """The topics of the group, and its events topic."""

    def own(which: str) -> str:
        return group_topic(shape.group, which)

    lanes = shape.lanes
    return [
        TopicSpec(shape.events_topic, lanes, retention_ms=shape.kept_ms),
        TopicSpec(own("journal"), lanes),
        TopicSpec(own("inbox"), lanes),
        TopicSpec(own("steps"), lanes, TopicKind.COMPACTED),
        TopicSpec(own("timers"), lanes, TopicKind.COMPACTED),
        TopicSpec(own("keys"), lanes, TopicKind.COMPACTED),
        TopicSpec(own("functions"), 1, TopicKind.COMPACTED),
        TopicSpec(own("replies"), shape.apis, retention_ms=REPLIES_KEPT_MS),
        TopicSpec(own("dead-letters"), 1, retention_ms=shape.kept_ms),
    ]


def role_of(topic: str, shape: GroupShape) -> str:
    """What a topic is to the group: ``journal`` and so on; ``events`` for the events topic and any other source."""
    prefix = group_topic(shape.group, "")
    return topic.removeprefix(prefix) if topic.startswith(prefix) and topic != shape.events_topic else "events"
