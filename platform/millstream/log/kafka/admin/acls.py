"""Who must be allowed what, as data: the least that each role needs, one line each with the reason.

    role       what it is
    worker     owns lanes, runs functions
    api        takes events and requests over HTTP
    history    follows the journals into its index
    producer   any program that writes events to the topic itself
    operator   `millstream topics apply`, `doctor`, `lanes`

`millstream topics plan --acls` prints them, as commands of Kafka's own `kafka-acls.sh` and as rows; ``doctor`` compares
them with what Kafka says that it may do. Reading, writing, deleting and altering each allow describing too, but not
describing settings: everybody who opens a topic looks at those, for how large a record may be.

Add an access: one line in ``accesses``.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final

from millstream.log.group_topics import GroupShape, topics_of
from millstream.model.messages import group_topic

ROLES: Final = ("worker", "api", "history", "producer", "operator")
TOPIC: Final = "topic"
GROUP: Final = "group"
TRANSACTIONS: Final = "transactional-id"
_FLAGS: Final = {TOPIC: "--topic", GROUP: "--group", TRANSACTIONS: "--transactional-id"}


@dataclass(frozen=True, slots=True)
class Access:
    """``operations`` on one resource, for one role. ``prefixed``: on everything whose name begins so."""

    role: str
    kind: str
    name: str
    operations: tuple[str, ...]
    why: str
    prefixed: bool = False

    def command(self, brokers: str) -> str:
        """The line that grants it to the user of the role's name."""
        words = ["kafka-acls.sh", "--bootstrap-server", brokers, "--add", "--allow-principal", f"User:{self.role}"]
        for operation in self.operations:
            words += ["--operation", operation]
        words += [_FLAGS[self.kind], self.name]
        words += ["--resource-pattern-type", "prefixed"] if self.prefixed else []
        return shlex.join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Besides:
    """What the accesses depend on besides the group.

    ``sources``    other topics that functions read.
    ``targets``    other topics that steps publish to.
    ``client_id``  of the workers: their transactional ids begin with it.
    """

    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    client_id: str = "millstream"


def accesses(shape: GroupShape, besides: Besides | None = None) -> tuple[Access, ...]:
    """What each role needs."""
    events, besides = shape.events_topic, besides or Besides()
    transactions = Access("worker", TRANSACTIONS, f"{besides.client_id}-", ("Write",), "checkpoints", prefixed=True)
    return (
        transactions,
        *_worker(shape.group, (events, *besides.sources), (events, *besides.targets)),
        *_api(shape.group, events),
        *_history(shape.group, events),
        Access("producer", TOPIC, events, ("Write",), "events"),
        *_operator(shape),
    )


def _worker(group: str, sources: tuple[str, ...], targets: tuple[str, ...]) -> list[Access]:
    def own(which: str, *operations: str, why: str) -> Access:
        return Access("worker", TOPIC, group_topic(group, which), operations, why)

    found = [
        Access(
            "worker", GROUP, group, ("Read", "DescribeConfigs"), "to be a member; doctor asks for its session timeout"
        ),
        own("journal", "Read", "Write", "Delete", "DescribeConfigs", why="facts; Delete trims what is not needed"),
        own("inbox", "Read", "Write", "Delete", "DescribeConfigs", why="messages between lanes; Delete trims"),
        *(
            own(which, "Read", "Write", "DescribeConfigs", why="checkpoints and restores")
            for which in ("steps", "timers", "keys")
        ),
        own("functions", "Read", "Write", "DescribeConfigs", why="to register its apps, and to see others"),
        own("replies", "Write", "DescribeConfigs", why="answers to apis"),
        own("dead-letters", "Write", "DescribeConfigs", why="records that cannot be taken"),
    ]
    for topic in dict.fromkeys((*sources, *targets)):
        reads = ("Read",) if topic in sources else ()
        writes = ("Write",) if topic in targets else ()
        why = " and ".join(["what starts functions"] * bool(reads) + ["what steps send"] * bool(writes))
        found.append(Access("worker", TOPIC, topic, (*reads, *writes, "DescribeConfigs"), why))
    return found


def _api(group: str, events: str) -> list[Access]:
    def own(which: str, *operations: str, why: str) -> Access:
        return Access("api", TOPIC, group_topic(group, which), (*operations, "DescribeConfigs"), why)

    return [
        Access("api", TOPIC, events, ("Write", "DescribeConfigs"), "events"),
        own("journal", "Describe", why="how many lanes there are"),
        own("inbox", "Write", why="requests to lanes"),
        own("replies", "Read", why="their answers"),
        own("functions", "Read", "Write", why="which functions there are; functions limit"),
        own("dead-letters", "Read", why="millstream dead-letters"),
    ]


def _history(group: str, events: str) -> list[Access]:
    """It reads everything, and its page and API act on runs as an api's do."""

    def own(which: str, *operations: str, why: str) -> Access:
        return Access("history", TOPIC, group_topic(group, which), (*operations, "DescribeConfigs"), why)

    return [
        own("journal", "Read", why="what happened"),
        *(own(which, "Read", why="to begin where the journal was trimmed") for which in ("steps", "timers", "keys")),
        Access("history", TOPIC, events, ("Read", "Write", "DescribeConfigs"), "events, also those sent to it"),
        own("inbox", "Write", why="requests to lanes"),
        own("replies", "Read", why="their answers"),
        own("functions", "Read", "Write", why="which functions there are; functions limit"),
        own("dead-letters", "Read", why="millstream dead-letters"),
    ]


def _operator(shape: GroupShape) -> list[Access]:
    prefix = group_topic(shape.group, "")
    own = ("Create", "Read", "Alter", "AlterConfigs", "DescribeConfigs")
    found = [
        Access("operator", TOPIC, prefix, own, "topics apply; lanes", prefixed=True),
        Access("operator", TOPIC, shape.events_topic, ("Create", "Describe", "DescribeConfigs"), "topics apply"),
        Access("operator", GROUP, shape.group, ("Describe", "AlterConfigs", "DescribeConfigs"), "session timeout; lag"),
    ]
    strays = [spec.name for spec in topics_of(shape) if not spec.name.startswith(prefix)]
    assert strays == [shape.events_topic], f"topics outside the group's prefix need their own line: {strays}"
    return found
