"""Asking a Kafka about itself: its brokers, topics, groups, settings; and errors in words that say what to do.

librdkafka keeps trying for ever where trying cannot help (a wrong password, a certificate of somebody else) and then
says that time is up. What it complained about meanwhile is kept here, and told instead.

Every call blocks, for ``ANSWER_S`` at most: call them in a thread.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConsumerGroupDescription,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from millstream.errors import BrokersUnreachable, ConfigError, MillstreamError, NotAllowed, NotFound, OperatorError
from millstream.log.kafka.settings import KafkaSettings

ANSWER_S: Final = 10.0
POLL_S: Final = 0.05
MOVED_S: Final = 1.0
"""How long a group is looked for elsewhere; where nobody ever joined one, that is how long it takes to say so."""
FINAL_ERRORS_MIN: Final = 2
"""So often a login or a handshake must fail: one broker of several may be just starting."""
LOGIN_REFUSED: Final = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED})
NOT_REACHED: Final = frozenset(
    {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._RESOLVE,
     KafkaError.REQUEST_TIMED_OUT, KafkaError.BROKER_NOT_AVAILABLE, KafkaError.NETWORK_EXCEPTION}
)  # fmt: skip
FORBIDDEN: Final = frozenset(
    {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
     KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED}
)  # fmt: skip
ABSENT: Final = frozenset(
    # Where no group was ever joined, there are no coordinators yet.
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND, KafkaError.NOT_COORDINATOR}
)
LOADING: Final = frozenset(
    {KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError._WAIT_COORD}
)
Answer = TypeVar("Answer")


class Absent(NotFound):
    """Kafka has no such topic or group."""


class Loading(OperatorError):
    """The broker that looks after a group is still reading what it knows of it, or is none yet: a moment after a start
    or a move."""


class Moved(Absent):
    """The broker that was asked looks after the group no longer, or nobody does, since nobody ever joined it."""


@dataclass(frozen=True, slots=True)
class TopicFound:
    """A topic as it is. ``operations``: what this user may do with it."""

    name: str
    partitions: int
    replication_factor: int
    settings: Mapping[str, str]
    operations: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class MemberFound:
    """A member of a group: its client id, its machine's address, and the partitions it holds."""

    client_id: str
    host: str
    partitions: frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class GroupFound:
    """A consumer group as it is. ``operations``: what this user may do with it."""

    members: tuple[MemberFound, ...] = ()
    operations: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ClusterFound:
    """A cluster as it is: broker id → host:port."""

    id: str
    brokers: Mapping[int, str]


@dataclass(slots=True)
class Complaints:
    """What a client complained about while it kept trying; give ``take`` as its ``error_cb``."""

    brokers: str
    last: list[KafkaError] = field(default_factory=list)

    def take(self, error: KafkaError) -> None:
        """Keep it, and the last few only."""
        self.last = [*self.last[-7:], error]

    def explained(self, error: KafkaError, doing: str) -> MillstreamError:
        """The error in words; of what was complained about before, what matters most."""
        final_error = next((one for one in reversed(self.last) if _is_final(one)), error)
        return explained(final_error, doing, self.brokers)

    @property
    def are_final(self) -> bool:
        """Whether trying again cannot help."""
        return sum(map(_is_final, self.last)) >= FINAL_ERRORS_MIN


class Admin:
    """One connection for questions. ``close`` is not needed: it ends with the object."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self.complaints = Complaints(settings.brokers)
        try:
            config: dict[str, Any] = {**settings.admin(), "error_cb": self.complaints.take, "log_level": 0}
            self._client = AdminClient(config)
        except KafkaException as error:
            raise ConfigError(
                f"the settings for Kafka were refused: {error.args[0].str()}. Check --security-protocol, --ca-file, "
                "--cert-file, --key-file and the --sasl settings."
            ) from error

    def cluster(self) -> ClusterFound:
        """The brokers. Raises BrokersUnreachable, or ConfigError for a login or certificate that was refused."""
        found = self._answer("asking for the brokers", self._client.describe_cluster(request_timeout=ANSWER_S))
        return ClusterFound(str(found.cluster_id), {one.id: f"{one.host}:{one.port}" for one in found.nodes})

    def topics(self, names: Sequence[str]) -> dict[str, TopicFound]:
        """Those of them that are there. Raises NotAllowed for one that this user may not see."""
        asked = self._client.describe_topics(
            TopicCollection(list(names)), include_authorized_operations=True, request_timeout=ANSWER_S
        )
        found: dict[str, Any] = {}
        for name, future in asked.items():
            try:
                found[name] = self._answer(f"describing topic {name!r}", future)
            except Absent:
                continue
        settings = self._settings(ResourceType.TOPIC, found)
        return {
            name: TopicFound(
                name,
                len(one.partitions),
                min((len(partition.replicas) for partition in one.partitions), default=0),
                settings[name],
                frozenset(operation.name for operation in one.authorized_operations or ()),
            )
            for name, one in found.items()
        }

    def create(self, name: str, partitions: int, replication_factor: int, settings: Mapping[str, str]) -> None:
        """Make a topic; returns when it can be seen."""
        topic = NewTopic(name, partitions, replication_factor, config=dict(settings))
        made = self._client.create_topics([topic], request_timeout=ANSWER_S)
        self._answer(f"creating topic {name!r} with replication factor {replication_factor}", made[name])
        self._seen(lambda: name in self.topics([name]))

    def grow(self, name: str, partitions: int) -> None:
        """Give a topic more partitions."""
        grown = self._client.create_partitions([NewPartitions(name, partitions)], request_timeout=ANSWER_S)
        self._answer(f"giving topic {name!r} {partitions} partitions", grown[name])
        self._seen(lambda: self.topics([name])[name].partitions >= partitions)

    def set_topic(self, name: str, settings: Mapping[str, str]) -> None:
        """Change some settings of a topic; the others stay."""
        self._set(ResourceType.TOPIC, name, settings)

    def group_settings(self, group: str) -> Mapping[str, str]:
        """The settings of a consumer group (KIP-848)."""
        return self._settings(ResourceType.GROUP, [group])[group]

    def set_group(self, group: str, settings: Mapping[str, str]) -> None:
        """Change some settings of a consumer group."""
        self._set(ResourceType.GROUP, group, settings)

    def committed(self, group: str) -> dict[tuple[str, int], int]:
        """The positions that the group has committed."""

        def ask() -> ConsumerGroupTopicPartitions:
            asked = self._client.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=ANSWER_S
            )
            answer: ConsumerGroupTopicPartitions = self._answer(
                f"asking for the offsets of group {group!r}", asked[group]
            )
            return answer

        try:
            found = _once_loaded(ask)
        except Absent:
            return {}
        return {(one.topic, one.partition): one.offset for one in found.topic_partitions or () if one.offset >= 0}

    def ends(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The end offset of each partition."""
        latest = OffsetSpec.latest()
        wanted = {TopicPartition(topic, partition): latest for topic, partition in partitions}
        if not wanted:
            return {}
        asked = self._client.list_offsets(wanted, request_timeout=ANSWER_S)
        return {
            (one.topic, one.partition): self._answer(f"asking for the end of {one.topic!r}", future).offset
            for one, future in asked.items()
        }

    def group(self, group: str) -> GroupFound | None:
        """The members of a group; None for a group that never had one."""

        def ask() -> ConsumerGroupDescription:
            asked = self._client.describe_consumer_groups(
                [group], include_authorized_operations=True, request_timeout=ANSWER_S
            )
            answer: ConsumerGroupDescription = self._answer(f"describing group {group!r}", asked[group])
            return answer

        try:
            found = _once_loaded(ask)
        except Absent:
            return None
        members = (
            MemberFound(
                one.client_id,
                one.host.lstrip("/"),
                frozenset((held.topic, held.partition) for held in (one.assignment.topic_partitions or ())),
            )
            for one in found.members
        )
        return GroupFound(tuple(members), frozenset(one.name for one in found.authorized_operations or ()))

    def _settings(self, kind: ResourceType, names: Iterable[str]) -> dict[str, Mapping[str, str]]:
        resources = [ConfigResource(kind, name) for name in names]
        if not resources:
            return {}
        asked = self._client.describe_configs(resources, request_timeout=ANSWER_S)
        found: dict[str, Mapping[str, str]] = {}
        for resource, future in asked.items():
            entries = self._answer(f"reading the settings of {kind.name.lower()} {resource.name!r}", future)
            found[resource.name] = {name: entry.value or "" for name, entry in entries.items()}
        return found

    def _set(self, kind: ResourceType, name: str, settings: Mapping[str, str]) -> None:
        entries = [
            ConfigEntry(one, value, incremental_operation=AlterConfigOpType.SET) for one, value in settings.items()
        ]
        resource = ConfigResource(kind, name, incremental_configs=entries)
        asked = self._client.incremental_alter_configs([resource], request_timeout=ANSWER_S)
        shown = ", ".join(f"{one}={value}" for one, value in settings.items())
        self._answer(f"setting {shown} of {kind.name.lower()} {name!r}", next(iter(asked.values())))
        self._seen(lambda: settings.items() <= self._settings(kind, [name])[name].items())

    def _seen(self, is_there: Callable[[], bool]) -> None:
        """Wait until what the controller has decided is what brokers say: each hears of it a moment later.

        Of several brokers one may know it already and the next one that is asked not yet.
        """
        until = time.monotonic() + ANSWER_S
        while time.monotonic() < until:
            with suppress(Absent):
                if is_there():
                    return
            time.sleep(POLL_S)

    def _answer(self, doing: str, future: Future[Answer]) -> Answer:
        """Wait for an answer; give up early once the client complains about something that waiting cannot mend."""
        for _ in range(round(ANSWER_S / POLL_S)):
            self._client.poll(0)
            if wait((future,), POLL_S).done or self.complaints.are_final:
                break
        if not future.done():
            raise self.complaints.explained(KafkaError(KafkaError._TIMED_OUT), doing)
        try:
            return future.result()
        except KafkaException as error:
            self._client.poll(0)
            raise self.complaints.explained(error.args[0], doing) from error


def _once_loaded(ask: Callable[[], Answer]) -> Answer:
    """Ask a group's coordinator, again while it is loading or has moved: that passes by itself, and soon."""
    began = time.monotonic()
    while True:
        try:
            return ask()
        except (Loading, Moved) as passing:
            if time.monotonic() - began > (MOVED_S if isinstance(passing, Moved) else ANSWER_S):
                raise
            time.sleep(POLL_S)


def explained(error: KafkaError, doing: str, brokers: str) -> MillstreamError:
    """An error of Kafka's as one of ours: what happened while doing what, and what to do."""
    text = re.sub(r"\s+", " ", error.str()).strip().rstrip(".")
    if _is_login(error):
        return ConfigError(
            f"the login was refused by Kafka at {brokers}: {text}. Check --sasl-mechanism, --sasl-username and the "
            "password (--sasl-password-file), and that the broker knows this user."
        )
    if _is_tls(error):
        return ConfigError(
            f"no secure connection to Kafka at {brokers}: {text}. Check --ca-file (the authority that signed the "
            "broker's certificate), --cert-file and --key-file (what the broker asks of clients), and that this port "
            "speaks TLS."
        )
    if error.code() in ABSENT:
        absent = Moved if error.code() == KafkaError.NOT_COORDINATOR else Absent
        return absent(f"{doing}: Kafka said {text}.")
    if error.code() in FORBIDDEN:
        return NotAllowed(
            f"{doing} is not allowed: Kafka said {text}. Give this user the access that "
            "`millstream topics plan --acls` lists."
        )
    if error.code() in NOT_REACHED:
        return BrokersUnreachable(
            f"{doing}: no answer from Kafka at {brokers} ({text}). Check --brokers, that they run, and that "
            "--security-protocol is what this port speaks."
        )
    if error.code() == KafkaError.INVALID_REPLICATION_FACTOR:
        return ConfigError(
            f"{doing} was refused: {text}. There must be as many brokers as copies: start more, or give "
            "--replication-factor and --min-insync (1 and 1 for a broker alone)."
        )
    kind = Loading if error.code() in LOADING else OperatorError
    return kind(f"{doing} failed: Kafka said {error.name()}: {text}.")


def _is_final(error: KafkaError) -> bool:
    return _is_login(error) or _is_tls(error)


def _is_login(error: KafkaError) -> bool:
    return error.code() in LOGIN_REFUSED


def _is_tls(error: KafkaError) -> bool:
    text = error.str().lower()  # A broker that refuses our certificate only closes the connection, with an alert.
    return error.code() == KafkaError._SSL or ("ssl" in text and ("handshake" in text or "alert" in text))
