"""What librdkafka says, in the port's words: which error is whose, and what to do about it.

One table decides what a code means; the callers add what they were doing. An error that is not in the table means that
the log is unavailable: trying again later is the right answer to nearly everything a cluster can say.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from millstream.errors import Corruption, LimitExceeded, LogUnavailable, MillstreamError
from millstream.telemetry import say

LOG: Final = logging.getLogger("millstream.log.kafka")
QUIET_S: Final = 30.0

ADVICE: Final = {
    KafkaError._ALL_BROKERS_DOWN: "No broker answers: check --brokers, and that the cluster runs.",
    KafkaError._TRANSPORT: "The connection broke: check --brokers and --security-protocol.",
    KafkaError._TIMED_OUT: "The brokers did not answer in time: check --brokers, and that the cluster runs.",
    KafkaError._RESOLVE: "A broker's name has no address: check --brokers.",
    KafkaError._SSL: "TLS failed: check --ca-file, --cert-file and --key-file.",
    KafkaError._AUTHENTICATION: "The brokers refused the login: check --sasl-username and the password.",
    KafkaError.SASL_AUTHENTICATION_FAILED: "The brokers refused the login: check --sasl-username and the password.",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "Allow this user to read and write the topic (kafka-acls).",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "Allow this user to read the group (kafka-acls).",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "Allow this user IdempotentWrite on the cluster (kafka-acls).",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "Allow this user the transactional id (kafka-acls).",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "The topic is not there: run millstream topics apply.",
    KafkaError._UNKNOWN_TOPIC: "The topic is not there: run millstream topics apply.",
    KafkaError._UNKNOWN_PARTITION: "The partition is not there: run millstream topics apply.",
    KafkaError.MSG_SIZE_TOO_LARGE: "Raise max.message.bytes of the topic, or send less.",
    KafkaError.NOT_ENOUGH_REPLICAS: "Fewer replicas are in sync than min.insync.replicas: look at the brokers.",
    KafkaError.UNSUPPORTED_VERSION: "The brokers are too old for this: with --group-protocol classic, 3.x will do.",
    KafkaError.INVALID_REPLICATION_FACTOR: "There are fewer brokers than --replication-factor.",
}

CORRUPT: Final = frozenset({KafkaError._BAD_MSG, KafkaError.INVALID_MSG, KafkaError._BAD_COMPRESSION})

NOT_WRITTEN: Final = frozenset(
    {
        KafkaError._PURGE_QUEUE,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.POLICY_VIOLATION,
    }
)
"""A record that was reported failed with one of these is certainly not in the log."""

NO_MEMBER: Final = frozenset(
    {
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
    }
)
"""The group does not know this member as it knows itself; now or for good, the callers find out."""


class Complaints:
    """Logs what a client of librdkafka complains about, a kind at most once in ``QUIET_S``. Called in any thread."""

    def __init__(self, of: str) -> None:
        self._of = of
        self._last: dict[int, float] = {}

    def take(self, error: KafkaError) -> None:
        """An ``error_cb``."""
        now_s = time.monotonic()
        if now_s - self._last.get(error.code(), -QUIET_S) < QUIET_S:
            return
        self._last[error.code()] = now_s
        what = ADVICE.get(error.code(), "")
        say(LOG, "brokers not reached", level=logging.WARNING, by=self._of, why=error.str(), advice=what)


def error_of(raised: KafkaException | KafkaError) -> KafkaError:
    """The error inside an exception."""
    if isinstance(raised, KafkaError):
        return raised
    found = raised.args[0]
    assert isinstance(found, KafkaError), f"a KafkaException without its error: {raised!r}"
    return found


def message_of(raised: KafkaException | KafkaError, what: str) -> str:
    """The message of an error: ``what`` happened, why, and what to do."""
    error = error_of(raised)
    advice = ADVICE.get(error.code(), "It is tried again as long as it makes sense; look at the brokers' logs.")
    return f"{what}: {error.str()} ({error.name()}). {advice}"


def mapped(raised: KafkaException | KafkaError, what: str) -> MillstreamError:
    """The port's error for one of librdkafka's: Corruption, LimitExceeded, else LogUnavailable."""
    code = error_of(raised).code()
    if code in CORRUPT:
        return Corruption(message_of(raised, what))
    if code == KafkaError.MSG_SIZE_TOO_LARGE:
        return LimitExceeded(message_of(raised, what))
    return LogUnavailable(message_of(raised, what))
