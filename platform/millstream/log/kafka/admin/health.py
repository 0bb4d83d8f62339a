"""What is wrong between this process and its Kafka: a line for each problem, with what to do. Nothing: all is well.

    brokers      do they answer, log us in, and is each of them reachable where it says it is
    topics       are they there, and as they must be (``topics.py``)
    access       may this user do what its role needs (``acls.py``)
    clock        is ours the brokers'

Every call blocks. Add a check: a function that yields problems, a line in ``health``.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Collection, Iterator
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer, libversion

from millstream.errors import ConfigError, MillstreamError, NotAllowed
from millstream.log.group_topics import GroupShape, topics_of
from millstream.log.kafka.admin.acls import GROUP, ROLES, TOPIC, Access, Besides, accesses
from millstream.log.kafka.admin.client import Admin, ClusterFound, explained
from millstream.log.kafka.admin.topics import LEAVE, SESSION, Step, group_steps, shape_found, topic_steps
from millstream.log.kafka.settings import KafkaSettings
from millstream.model.messages import group_topic

LIBRARY_MIN: Final = 0x020C00
CONNECT_S: Final = 3.0
WRITTEN_WITHIN_S: Final = 10.0
CLOCK_OFF_MS_MAX: Final = 30_000
"""A lane whose clock is further off fires no timers (lanes.md rule 8)."""
NOTHING: Final[frozenset[str]] = frozenset()
IMPLIED: Final = {"DESCRIBE": {"READ", "WRITE", "DELETE", "ALTER"}, "DESCRIBE_CONFIGS": {"ALTER_CONFIGS"}}


def health(settings: KafkaSettings, shape: GroupShape, role: str, *, unsaid: Collection[str] = ()) -> Iterator[str]:
    """The problems, in an order in which mending them makes sense. Raises ConfigError for a role that is none.

    ``unsaid``: what of the shape nobody has said; it is taken from the group's topics.
    """
    if role not in ROLES:
        raise ConfigError(f"there is no role {role!r}: expected one of {', '.join(ROLES)}.")
    yield from _client()
    try:
        admin = Admin(settings)
        cluster = admin.cluster()
        shape = shape_found(admin, shape, unsaid)
    except MillstreamError as error:
        yield str(error)
        return
    yield from _brokers(cluster, settings)
    for check in (_topics, _group, _access, _clock):
        try:
            yield from check(admin, shape, role)
        except MillstreamError as error:
            yield str(error)


def _client() -> Iterator[str]:
    version, number = libversion()
    if number >> 8 < LIBRARY_MIN:
        yield (
            f"librdkafka {version} is too old: expected 2.12 or newer, which knows the consumer group protocol. "
            "Run: pip install --upgrade confluent-kafka."
        )


def _brokers(cluster: ClusterFound, settings: KafkaSettings) -> Iterator[str]:
    """A client is told by one broker where the others are; that may be an address that only they can use."""
    for id, address in cluster.brokers.items():
        host, _, port = address.rpartition(":")
        try:
            with socket.create_connection((host, int(port)), CONNECT_S):
                pass
        except OSError as error:
            yield (
                f"broker {id} says it is at {address}, where it cannot be reached from here ({error}). "
                "Check its advertised.listeners, and the network between."
            )
    if len(cluster.brokers) < settings.replication_factor:
        yield (
            f"{len(cluster.brokers)} brokers run, expected at least {settings.replication_factor}, one for each copy "
            "of a record. Start more, or give --replication-factor."
        )


def _topics(admin: Admin, shape: GroupShape, role: str) -> Iterator[str]:
    """Those that this role needs; what it may not see is said elsewhere."""
    needed = _needed(admin, shape, role)
    of_all = any(access.kind == TOPIC and access.prefixed for access in needed)
    names = [spec.name for spec in topics_of(shape) if of_all or spec.name in {access.name for access in needed}]
    visible = [name for name in names if _operations(admin, name) != NOTHING]
    for step in topic_steps(admin, shape, visible) if visible else ():
        if step.action != LEAVE:
            yield _finding(step)


def _operations(admin: Admin, topic: str) -> frozenset[str] | None:
    """What this user may do with a topic, NOTHING when it may not even see it; None when it is not there."""
    try:
        found = admin.topics([topic]).get(topic)
    except NotAllowed:
        return NOTHING
    return None if found is None else found.operations


def _group(admin: Admin, shape: GroupShape, role: str) -> Iterator[str]:
    if not any(access.kind == GROUP for access in _needed(admin, shape, role)):
        return  # It is no member, and may not ask.
    for step in group_steps(admin, shape.group):
        meanwhile = (
            f"a worker that is killed is replaced after {step.found} ms"
            if step.setting == SESSION
            else f"lanes that move may belong to nobody for up to {step.found} ms"
        )
        yield f"{_finding(step)} Until then {meanwhile}."


def _finding(step: Step) -> str:
    return f"{step}. {step.todo or 'Run: millstream topics apply --yes.'}"


def _access(admin: Admin, shape: GroupShape, role: str) -> Iterator[str]:
    """Kafka tells everybody what they may do with a topic or a group, but not with a transactional id."""
    needed = [access for access in _needed(admin, shape, role) if not access.prefixed]
    for access in needed:
        if access.kind == TOPIC:
            held = _operations(admin, access.name)
        else:
            group = admin.group(access.name)
            held = None if group is None else group.operations
        if held is None:
            continue  # Not there yet: that is said already, or no problem.
        lacking = [one for one in access.operations if not _is_held(one, held)]
        if lacking:
            yield (
                f"{' and '.join(lacking)} on {access.kind} {access.name!r} is not allowed to "
                f"{admin.settings.sasl_username or 'this user'}, who needs it for: {access.why}. "
                "Grant it as `millstream topics plan --acls` says."
            )


def _needed(admin: Admin, shape: GroupShape, role: str) -> list[Access]:
    besides = Besides(client_id=admin.settings.client_id)
    return [access for access in accesses(shape, besides) if access.role == role]


def _is_held(operation: str, held: frozenset[str]) -> bool:
    name = "".join(f"_{letter}" if letter.isupper() else letter for letter in operation).lstrip("_").upper()
    return bool({name, "ALL", *IMPLIED.get(name, ())} & held)


def _clock(admin: Admin, shape: GroupShape, role: str) -> Iterator[str]:
    """A record without a value, which readers of replies pass over; the broker says when it took it."""
    topic = group_topic(shape.group, "replies")
    if not _is_held("Write", _operations(admin, topic) or NOTHING):
        return  # A role that writes no replies arms no timers either.
    if admin.topics([topic])[topic].settings.get("message.timestamp.type") != "LogAppendTime":
        return  # Said already; and the time would be our own.
    problem = clock_problem(clock_off_ms(admin.settings, topic))
    if problem:
        yield problem


def clock_problem(off_ms: int) -> str:
    """What is wrong with a clock that is so far ahead of the brokers'; empty: nothing."""
    if abs(off_ms) <= CLOCK_OFF_MS_MAX:
        return ""
    return (
        f"this machine's clock is {abs(off_ms) / 1000:.0f} s {'ahead of' if off_ms > 0 else 'behind'} the broker's, "
        f"expected at most {CLOCK_OFF_MS_MAX // 1000} s. Timers would fire as much too early or too late: "
        "set the clock (NTP)."
    )


def clock_off_ms(settings: KafkaSettings, topic: str) -> int:
    """How far our clock is ahead of the broker's when it takes a record."""
    reports: list[tuple[KafkaError | None, Message]] = []

    def take(error: KafkaError | None, message: Message) -> None:
        reports.append((error, message))

    config: dict[str, Any] = {**settings.stream_producer(), "message.timeout.ms": WRITTEN_WITHIN_S * 1000}
    doing = f"writing to topic {topic!r}, to compare clocks"
    try:
        producer = Producer(config)
        producer.produce(topic, None, partition=0, on_delivery=take)
        producer.flush(WRITTEN_WITHIN_S + 1)
    except KafkaException as error:
        raise explained(error.args[0], doing, settings.brokers) from error
    now_ms = time.time_ns() // 1_000_000
    if not reports:
        raise explained(KafkaError(KafkaError._TIMED_OUT), doing, settings.brokers)
    failed, message = reports[0]
    if failed is not None:
        raise explained(failed, doing, settings.brokers)
    latency_ms = round((message.latency() or 0) * 1000)
    return now_ms - latency_ms // 2 - message.timestamp()[1]
