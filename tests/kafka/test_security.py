"""Brokers that want to know who is there: TLS, mutual TLS, SASL PLAIN and SCRAM, through the log that a worker uses.

Each way in is shown by writing, reading, being a member and a transaction; each way out by words that say what to do,
within seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from millstream.errors import BrokersUnreachable, ConfigError, MillstreamError
from millstream.log.kafka.log import KafkaLog
from millstream.log.kafka.settings import KafkaSettings
from millstream.log.port import Produced, TopicKind, TopicSpec
from tests.kafka.broker import Broker, fresh, own_broker
from tests.kafka.logs import Member, opened, until
from tests.kafka.secured import secured

SOON_S = 20.0
"""Far below librdkafka's own patience, which is minutes."""


@pytest.fixture(scope="module", params=["tls", "mtls", "sasl-plain", "sasl-scram"])
def way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Broker]]:
    with own_broker(tmp_path_factory.mktemp("secured"), 1, "--security", request.param) as broker:
        yield request.param, broker


async def refused(settings: KafkaSettings) -> MillstreamError:
    """What opening the log says."""
    began_s = time.monotonic()
    with pytest.raises(MillstreamError) as raised:
        await KafkaLog.open(settings)
    assert time.monotonic() - began_s < SOON_S
    return raised.value


async def test_everything_a_worker_does_is_let_in(way: tuple[str, Broker]) -> None:
    kind, broker = way
    group = fresh("safe")
    async with opened(secured(broker, kind, group_protocol="classic")) as log, asyncio.timeout(60):
        topics = [TopicSpec(f"{group}.inbox", 1), TopicSpec(f"{group}.keys", 1, TopicKind.COMPACTED)]
        await log.create_topics(topics)
        writer = log.writer(f"{group}.inbox", 0)
        assert await writer.append([Produced(b"hello")]) == 0
        reader = log.reader(f"{group}.inbox", 0, 0)
        (record,) = await reader.read(max_records=10, max_bytes=1 << 20, wait_s=10)
        assert record.value == b"hello"
        member = Member(log, group, lanes=1)
        await member.join()
        await until(lambda: member.held == {0})
        assert await member.membership.still_owns(0, inbox_position=1)
        transaction = await log.transaction("checkpoint")
        await transaction.send(f"{group}.keys", 0, [Produced(b"row", b"key")])
        await transaction.commit({0: 1})
        assert await log.end_offset(f"{group}.keys", 0) >= 1
        await member.membership.leave()
        await reader.close()
        await writer.close()


async def test_an_authority_that_signed_nothing_is_named(way: tuple[str, Broker]) -> None:
    kind, broker = way
    error = await refused(secured(broker, kind, ca_file=str(broker.security / "other-ca.pem")))
    assert isinstance(error, ConfigError)
    assert "no secure connection" in str(error)
    assert "--ca-file" in str(error)


async def test_talking_in_the_clear_is_no_hang(way: tuple[str, Broker]) -> None:
    _, broker = way
    error = await refused(KafkaSettings(brokers=broker.bootstrap, replication_factor=1, min_insync=1))
    assert isinstance(error, BrokersUnreachable)
    assert "--security-protocol" in str(error)


@pytest.mark.parametrize("way", ["sasl-plain", "sasl-scram"], indirect=True)
async def test_a_wrong_password_is_named(way: tuple[str, Broker]) -> None:
    kind, broker = way
    wrong = broker.security / "wrong.password"
    wrong.write_text("hunter2\n")
    error = await refused(secured(broker, kind, sasl_password_file=str(wrong)))
    assert isinstance(error, ConfigError)
    assert "the login was refused" in str(error)
    assert "--sasl-password-file" in str(error)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize("way", ["mtls"], indirect=True)
async def test_a_client_without_a_certificate_is_told(way: tuple[str, Broker]) -> None:
    kind, broker = way
    error = await refused(secured(broker, kind, cert_file="", key_file=""))
    assert isinstance(error, ConfigError)
    assert "--cert-file" in str(error)
