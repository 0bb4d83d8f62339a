"""What a topic of a group must be on Kafka: its settings, each with what goes wrong without it.

    want            meets                        a topic that does not meet it
    unsafe          the worker starts            a worker refuses to start on it (lanes.md rule 16)
    otherwise       it works                     ``topics apply`` sets it, and until then it only costs

The events topic belongs to its owner: what is here is what it is made with, and an existing one is left as it is.
Add a setting: one line in a table.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from millstream.log.group_topics import REPLIES_KEPT_MS
from millstream.log.port import TopicKind, TopicSpec
from millstream.model.limits import DAY_MS, HOUR_MS

MESSAGE_BYTES: Final = 8 << 20
"""A record holds at most a step's result or an event, and what goes with it; twice that is allowed for."""
TRIMMED_SEGMENT_BYTES: Final = 64 << 20
COMPACTED_SEGMENT_BYTES: Final = 128 << 20
REPLIES_SEGMENT_BYTES: Final = 16 << 20
FOR_EVER: Final = "-1"


class Meets(enum.Enum):
    """When a value that is there will do."""

    SAME = "same"
    AT_LEAST = "at least"  # -1 is for ever, more than any number.


@dataclass(frozen=True, slots=True)
class Want:
    """One setting of one topic. ``unsafe``: what goes wrong without it; empty: it only costs."""

    name: str
    value: str
    meets: Meets = Meets.SAME
    unsafe: str = ""

    def met_by(self, found: str) -> bool:
        """Whether the value that is there will do."""
        if self.meets is Meets.SAME:
            return found == self.value
        return found == FOR_EVER or (self.value != FOR_EVER and int(found or 0) >= int(self.value))


@dataclass(frozen=True, slots=True)
class Safety:
    """How many copies of each record there must be, and how many of them before it counts as written."""

    replication_factor: int
    min_insync: int


_TRIMMED: Final = (
    Want("cleanup.policy", "delete", unsafe="compaction removes records that are not superseded"),
    Want("retention.ms", FOR_EVER, unsafe="records that are still needed disappear with time"),
    Want("retention.bytes", FOR_EVER, unsafe="records that are still needed disappear when there are many"),
    Want("segment.bytes", str(TRIMMED_SEGMENT_BYTES)),  # Trimming frees whole segments only.
    Want("segment.ms", str(HOUR_MS)),
)
_COMPACTED: Final = (
    Want("cleanup.policy", "compact", unsafe="rows that are still alive disappear with time"),
    Want("segment.bytes", str(COMPACTED_SEGMENT_BYTES)),
    Want("segment.ms", str(HOUR_MS)),
    Want("min.cleanable.dirty.ratio", "0.2"),
    Want("delete.retention.ms", str(DAY_MS), Meets.AT_LEAST),  # A restore slower than this can miss a deletion.
    Want("max.compaction.lag.ms", str(DAY_MS)),
)
_REPLIES: Final = (
    Want("cleanup.policy", "delete"),
    Want("retention.ms", str(REPLIES_KEPT_MS), Meets.AT_LEAST),
    Want("segment.bytes", str(REPLIES_SEGMENT_BYTES)),
    Want("segment.ms", str(HOUR_MS // 6)),
)
_BROKER_TIME: Final = Want("message.timestamp.type", "LogAppendTime")
_ROOM: Final = Want(
    "max.message.bytes", str(MESSAGE_BYTES), Meets.AT_LEAST, unsafe="a large event or step result can never be recorded"
)
STATE: Final = frozenset({"journal", "inbox", "steps", "timers", "keys", "functions"})
"""What a group cannot lose."""


def wants(role: str, spec: TopicSpec, safety: Safety) -> tuple[Want, ...]:
    """The settings of the topic that is this to its group."""
    lost = "a broker that is lost takes acknowledged records with it" if role in STATE else ""
    copies = (
        Want("min.insync.replicas", str(safety.min_insync), Meets.AT_LEAST, unsafe=lost),
        Want("unclean.leader.election.enable", "false", unsafe=lost),
        _ROOM,
        _BROKER_TIME,
    )
    if role == "replies":
        return _REPLIES + copies
    if spec.kind is TopicKind.COMPACTED:
        return _COMPACTED + copies
    if role in STATE:
        return _TRIMMED + copies
    return (Want("cleanup.policy", "delete"), Want("retention.ms", str(spec.retention_ms), Meets.AT_LEAST), *copies)


def made_with(role: str, spec: TopicSpec, safety: Safety) -> Mapping[str, str]:
    """The settings a new topic gets."""
    return {want.name: want.value for want in wants(role, spec, safety)}
