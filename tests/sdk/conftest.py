"""The stages of the behaviours: one server a test process, and each host once, shared by all tests of the process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kafka.broker import Broker
from tests.sdk.rig.on_kafka import staged_on_kafka
from tests.sdk.rig.stage import FAST_RETRIES, ON_KAFKA, Host, Stage, staged


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A server that retries at once, in dev mode."""
    with staged(tmp_path_factory.mktemp("sdk"), *FAST_RETRIES) as made:
        yield made


@pytest.fixture(scope="session")
def stage_on_kafka(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The same on a broker, in signed mode."""
    with staged_on_kafka(kafka, tmp_path_factory.mktemp("sdk-on-kafka")) as made:
        yield made


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Host:
    """The host of ``over``."""
    name = str(request.param)
    stage: Stage = request.getfixturevalue("stage_on_kafka" if name.startswith(ON_KAFKA) else "stage")
    return stage.host(name.removeprefix(ON_KAFKA))
