"""What the tests of a deployment share: a secured broker, started by the first test that asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kafka.broker import Broker, own_broker


@pytest.fixture(scope="session")
def secured_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One that asks for TLS and SCRAM, and lets nobody do anything but ``admin``, until somebody is allowed to."""
    with own_broker(tmp_path_factory.mktemp("secured"), 1, "--security", "sasl-scram", "--authorizer") as broker:
        yield broker
