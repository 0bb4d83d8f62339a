"""``log/kafka/admin/client.py``: what passes by itself is asked again, and is no problem to report."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError

from millstream.errors import MillstreamError, OperatorError
from millstream.log.kafka.admin import client
from millstream.log.kafka.admin.client import Absent, explained

PASSING = [
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
]


def error(code: int) -> MillstreamError:
    return explained(KafkaError(code), "describing group 'g'", "127.0.0.1:1")


def answers(*codes: int) -> Iterator[str]:
    """Errors, and then the answer."""
    for code in codes:
        yield str(code)
    yield "answer"


def asked(codes: list[int]) -> str:
    coming = answers(*codes)

    def ask() -> str:
        one = next(coming)
        if one != "answer":
            raise error(int(one))
        return one

    return client._once_loaded(ask)


@pytest.mark.parametrize("code", PASSING)
def test_a_coordinator_that_is_not_ready_is_asked_again(code: int) -> None:
    assert asked([code, code]) == "answer"


def test_a_group_that_nobody_ever_joined_is_absent_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOVED_S", 0.1)
    with pytest.raises(Absent):
        asked([KafkaError.NOT_COORDINATOR] * 1_000)
    with pytest.raises(Absent):
        asked([KafkaError.GROUP_ID_NOT_FOUND])


def test_a_coordinator_that_never_gets_ready_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.1)
    with pytest.raises(OperatorError, match="COORDINATOR_LOAD_IN_PROGRESS"):
        asked([KafkaError.COORDINATOR_LOAD_IN_PROGRESS] * 1_000)
