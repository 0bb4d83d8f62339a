"""``log/kafka/settings.py``: what a user says becomes what librdkafka is told, and nonsense is refused before it."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from millstream.config import Settings
from millstream.errors import ConfigError
from millstream.log.kafka.settings import KafkaSettings


def of(**variables: str) -> KafkaSettings:
    return KafkaSettings.of(Settings({}, {f"MILLSTREAM_{name.upper()}": value for name, value in variables.items()}))


def test_the_defaults_of_the_table_are_the_defaults_of_the_value() -> None:
    assert of() == KafkaSettings()


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_librdkafka_takes_every_configuration(protocol: str) -> None:
    settings = KafkaSettings(brokers="127.0.0.1:1", group_protocol=protocol)
    AdminClient(settings.admin())
    for producer in (settings.lane_producer(), settings.stream_producer(), settings.small_producer()):
        Producer(producer)
    Producer(settings.transactional_producer("w"))
    for committed in (True, False):
        for bulk in (True, False):
            Consumer(settings.reader(committed=committed, bulk=bulk)).close()
    Consumer(settings.member("g", "a")).close()


def test_a_password_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("s3cret\n")
    log_in = {"security_protocol": "sasl_ssl", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "millstream"}
    settings = of(**log_in, sasl_password_file=str(file))
    config = settings.connection()
    assert config["sasl.password"] == "s3cret"
    assert config["sasl.mechanism"] == "SCRAM-SHA-512"
    assert config["security.protocol"] == "sasl_ssl"
    with pytest.raises(ConfigError, match="given twice"):
        of(**log_in, sasl_password_file=str(file), sasl_password="other")


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"min_insync": "3", "replication_factor": "2"}, "can never be met"),
        ({"security_protocol": "sasl_ssl"}, "--sasl-mechanism"),
        ({"sasl_mechanism": "PLAIN"}, "nobody would be asked"),
        ({"security_protocol": "tls"}, "expected one of plaintext, ssl"),
        ({"ca_file": "/nowhere.pem"}, "--ca-file"),
        ({"sasl_password_file": "/nowhere", "sasl_username": "x"}, "password file '/nowhere' cannot be read"),
        ({"group_protocol": "eager"}, "expected one of consumer, classic"),
    ],
)
def test_what_does_not_fit_together_is_refused(variables: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        of(**variables)


def test_a_producers_record_never_times_out_but_in_a_transaction() -> None:
    settings = KafkaSettings()
    assert settings.lane_producer()["message.timeout.ms"] == 0
    assert settings.lane_producer()["linger.ms"] == 0
    assert settings.transactional_producer("w")["message.timeout.ms"] != 0
