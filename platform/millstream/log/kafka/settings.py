"""How to reach a Kafka and how to use it: the settings as one value, and what each client of librdkafka is told.

Every figure here was measured or has a reason; where librdkafka's default is right, it is not repeated.

    lanes        journals, inboxes, compacted rows: acks=all, idempotent, no linger (its default of 5 ms is 15 appends)
    streams      events, replies, dead letters: the same with a short linger, since many come at once
    small        topics that take less than a whole request of ours: each record in a request of its own
    transactions checkpoints: one transactional producer a process
    reads        by ``assign``; ``auto.offset.reset=error``, so that a lost position is an error, never guessed
    the group    the member's consumer, read_committed

Add a setting of a user's: a field here, its line in ``config.SETTINGS``, its place in ``of`` and in a method below.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from millstream.config import Settings
from millstream.errors import ConfigError
from millstream.files import text_of
from millstream.log.passwords import password_in

Config = dict[str, str | int | float | bool]

BROKERS: Final = "127.0.0.1:9092"
REQUEST_S: Final = 10.0
"""How long one request may take before its connection is given up."""
STREAM_LINGER_MS: Final = 2
BATCH_BYTES: Final = 900_000
"""What a producer puts into one request for a partition: below the max.message.bytes that topics usually have."""
RECORD_BYTES_MAX: Final = 8 << 20
TRANSACTION_MS: Final = 45_000
"""A checkpoint may take so long. A dead worker's hides what lies behind it from readers for as long."""
TRIM_LAG_MS_MIN: Final = 60_000
"""Longer than a checkpoint may be hidden and a restore waits for it: the journal behind the last checkpoint that can be
read must still be there (lanes.md rule 13)."""
TRANSACTION_ROWS: Final = 20_000
"""Rows of a checkpoint under way at once; its sender waits for more room."""
POLL_INTERVAL_MS: Final = 120_000
FETCH_WAIT_MS: Final = 50
"""How late the end of a partition is noticed; an idle consumer asks the broker that often."""
QUEUED_BYTES: Final = 128 << 20
READ_AHEAD_KBYTES: Final = 16_384
BULK_READ_AHEAD_KBYTES: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """How to reach the brokers, and what a user may choose about it.

    ``brokers``             host:port, several with commas.
    ``security_protocol``   plaintext, ssl, sasl_plaintext, sasl_ssl; with ``sasl_…``, ``ca_file``, ``cert_file``,
                            ``key_file`` as it needs them.
    ``group_protocol``      consumer (KIP-848, brokers ≥ 4.0) or classic.
    ``session_timeout_ms``  of a member under the classic protocol; under consumer it is a setting of the group.
    ``client_id``           what brokers call this process in their logs and quotas.
    ``replication_factor``, ``min_insync``  what new topics get, and what existing ones must have at least.
    """

    brokers: str = BROKERS
    security_protocol: str = "plaintext"
    sasl_mechanism: str = ""
    sasl_username: str = ""
    sasl_password: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    group_protocol: str = "consumer"
    session_timeout_ms: int = 6_000
    client_id: str = "millstream"
    replication_factor: int = 3
    min_insync: int = 2

    def __post_init__(self) -> None:
        if not self.brokers.strip():
            raise ConfigError("no brokers were named: expected host:port. Give --brokers, or MILLSTREAM_BROKERS.")
        if self.min_insync > self.replication_factor:
            raise ConfigError(
                f"min-insync {self.min_insync} can never be met: expected at most the replication factor, which is "
                f"{self.replication_factor}. Change --min-insync or --replication-factor."
            )
        sasl = self.security_protocol.startswith("sasl")
        if sasl and not (self.sasl_mechanism and self.sasl_username and self.sasl_password):
            raise ConfigError(
                f"security protocol {self.security_protocol} needs a mechanism, a user and a password. Give "
                "--sasl-mechanism, --sasl-username and MILLSTREAM_SASL_PASSWORD or --sasl-password-file."
            )
        if self.sasl_mechanism and not sasl:
            raise ConfigError(
                f"SASL mechanism {self.sasl_mechanism} was given, but the security protocol is "
                f"{self.security_protocol}: nobody would be asked to log in. Use --security-protocol sasl_ssl."
            )

    @classmethod
    def of(cls, settings: Settings) -> KafkaSettings:
        """As the command line and the environment say. Raises ConfigError for what does not fit together."""
        return cls(
            brokers=settings.text("brokers"),
            security_protocol=settings.text("security_protocol"),
            sasl_mechanism=settings.text("sasl_mechanism"),
            sasl_username=settings.text("sasl_username"),
            sasl_password=_password(settings.text("sasl_password"), settings.text("sasl_password_file")),
            ca_file=_file(settings.text("ca_file"), "--ca-file"),
            cert_file=_file(settings.text("cert_file"), "--cert-file"),
            key_file=_file(settings.text("key_file"), "--key-file"),
            group_protocol=settings.text("group_protocol"),
            session_timeout_ms=settings.number("session_timeout", 6_000),
            client_id=settings.text("client_id"),
            replication_factor=settings.number("replication_factor", 3),
            min_insync=settings.number("min_insync", 2),
        )

    def connection(self) -> Config:
        """What every client is told: where the brokers are and how to talk to them."""
        config: Config = {
            "bootstrap.servers": self.brokers,
            "client.id": self.client_id,
            "security.protocol": self.security_protocol,
            "socket.timeout.ms": round(REQUEST_S * 1000),
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 500,
            "retry.backoff.ms": 20,
            "socket.nagle.disable": True,
            "log_level": 0,  # It would write to stderr by itself; what it has to say comes as errors too.
        }
        named = {
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.sasl_username,
            "sasl.password": self.sasl_password,
            "ssl.ca.location": self.ca_file,
            "ssl.certificate.location": self.cert_file,
            "ssl.key.location": self.key_file,
        }
        return config | {name: value for name, value in named.items() if value}

    def admin(self) -> Config:
        """The client that asks about topics and offsets."""
        return self.connection()

    def lane_producer(self) -> Config:
        """For journals, inboxes and rows. A record never times out: a failed report would not mean it is not there."""
        return self._producer() | {"linger.ms": 0}

    def stream_producer(self) -> Config:
        """For events and the like. Java's partitioner, should a record ever be left to it."""
        return self._producer() | {"linger.ms": STREAM_LINGER_MS, "partitioner": "murmur2_random"}

    def small_producer(self) -> Config:
        """For topics whose max.message.bytes is below ``BATCH_BYTES``: the brokers compare it with all that one request
        has for a partition, so records of several appends together would be refused, each of which the topic takes."""
        return self.stream_producer() | {"batch.num.messages": 1}

    def transactional_producer(self, name: str) -> Config:
        """For checkpoints. Its records do time out, with its transaction."""
        return self._producer() | {
            "linger.ms": STREAM_LINGER_MS,
            "transactional.id": name,
            "transaction.timeout.ms": TRANSACTION_MS,
            "message.timeout.ms": TRANSACTION_MS,
            "queue.buffering.max.messages": TRANSACTION_ROWS,
        }

    def reader(self, *, committed: bool, bulk: bool) -> Config:
        """A consumer that is told what to read. ``bulk``: one partition, as fast as it goes."""
        return self._consumer(committed) | {
            "group.id": f"{self.client_id}-reads",  # Asked for by the library; nobody joins it.
            "fetch.message.max.bytes": RECORD_BYTES_MAX if bulk else 1 << 20,
            "queued.min.messages": 100_000 if bulk else 5_000,
            "queued.max.messages.kbytes": BULK_READ_AHEAD_KBYTES if bulk else READ_AHEAD_KBYTES,
            "fetch.queue.backoff.ms": 5 if bulk else 10,
        }

    def member_id(self, name: str) -> str:
        """What the brokers call the member of a worker of this name; its transactional ids begin with it."""
        return f"{self.client_id}-{name}"

    def member(self, group: str, name: str) -> Config:
        """The consumer that is a member of the group and reads its lanes' input."""
        config = self._consumer(committed=True) | {
            "client.id": self.member_id(name),
            "group.id": group,
            "group.protocol": self.group_protocol,
            "max.poll.interval.ms": POLL_INTERVAL_MS,
            "queued.min.messages": 5_000,
            "queued.max.messages.kbytes": READ_AHEAD_KBYTES,
            "fetch.queue.backoff.ms": 10,
        }
        if self.group_protocol == "classic":
            config |= {
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": self.session_timeout_ms,
                "heartbeat.interval.ms": max(self.session_timeout_ms // 6, 100),
            }
        return config

    def _producer(self) -> Config:
        return self.connection() | {
            "acks": "all",
            "enable.idempotence": True,
            "max.in.flight.requests.per.connection": 5,
            "message.timeout.ms": 0,
            "message.max.bytes": RECORD_BYTES_MAX * 2,
            "batch.size": BATCH_BYTES,
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": QUEUED_BYTES * 2 // 1024,
            "compression.type": "none",
        }

    def _consumer(self, committed: bool) -> Config:
        return self.connection() | {
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.partition.eof": True,
            "check.crcs": True,
            "fetch.min.bytes": 1,
            "fetch.wait.max.ms": FETCH_WAIT_MS,
            "fetch.max.bytes": 64 << 20,
        }


def _password(given: str, file: str) -> str:
    if given and file:
        raise ConfigError("a SASL password was given twice: as a value and as a file. Give one of them.")
    return given or password_in(file)


def _file(path: str, flag: str) -> str:
    if path:
        text_of(Path(path), f"{flag}, expected in PEM format:")
    return str(Path(path).absolute()) if path else ""  # Clients are made later, too, wherever user code has gone then.
