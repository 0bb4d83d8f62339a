"""Disasters of the group's own things on Kafka: its offsets, its topics. docs/guarantees.md has the table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from millstream.model.facts import RunStarted
from tests.kafka.broker import Broker, kafka
from tests.kafka.fleet import Fleet, stop, until

__all__ = ["kafka"]


@pytest.fixture
def fleet(kafka: Broker, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(kafka, tmp_path, lanes=2)
    yield made
    made.close()


def admin(fleet: Fleet) -> AdminClient:
    return AdminClient({"bootstrap.servers": fleet.brokers})


def test_a_group_whose_offsets_were_deleted_goes_on_where_it_was(fleet: Fleet) -> None:
    fleet.door()
    worker = fleet.worker("a")
    for n in range(10):
        fleet.send("fleet/quick", n=n)
    fleet.until_noted("quick", 10)
    stop(worker)
    assert worker.ended(40) == 0
    for n in range(10, 20):
        fleet.send("fleet/quick", n=n)
    client = admin(fleet)
    client.delete_consumer_groups([fleet.group])[fleet.group].result(60)
    fleet.worker("a")
    fleet.until_noted("quick", 20)
    facts = fleet.check_promises()
    assert sum(isinstance(fact, RunStarted) for fact in facts) == 20, "what was read before was read again"


def test_a_worker_without_its_journal_refuses_to_start_and_says_so(fleet: Fleet) -> None:
    worker = fleet.worker("a")
    stop(worker)
    assert worker.ended(40) == 0
    journal = f"{fleet.group}.journal"
    client = admin(fleet)
    client.delete_topics([journal])[journal].result(60)
    until("the journal is gone", lambda: journal not in client.list_topics(timeout=10).topics)
    again = fleet.worker("a", wait=False)
    assert again.ended(60) != 0
    assert journal in again.said() and "topics apply" in again.said()
