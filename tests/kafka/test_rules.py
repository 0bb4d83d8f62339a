"""Rules of a lane that only a broker can show (lanes.md rules 7 and 16): a fault in each, which a test here notices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from millstream.log.kafka.admin import topics
from millstream.log.kafka.settings import KafkaSettings
from tests.kafka import test_members, test_topics
from tests.kafka.broker import Broker, fresh
from tests.sim.mutants.mutant import Mutant, Patch
from tests.sim.mutants.noticing import noticed


@dataclass(frozen=True, slots=True)
class OnBroker:
    """A fault, and the test that notices it on a broker."""

    mutant: Mutant
    test: Callable[[Broker], None]


def _fix_members(patch: Patch) -> None:
    """Each member has a name of its own that it may come back under: its lanes wait for that."""
    real = KafkaSettings.member

    def member(self: KafkaSettings, group: str, name: str) -> dict[str, Any]:
        return real(self, group, name) | {"group.instance.id": fresh("fixed")}

    patch.set(KafkaSettings, "member", member)


def _find_no_problem(patch: Patch) -> None:
    patch.set(topics, "problems", lambda steps: [])


def _a_leaver(kafka: Broker) -> None:
    asyncio.run(test_members.test_members_share_the_lanes_and_a_leaver_gives_its_own_back(kafka, "consumer"))


def _an_unsafe_topic(kafka: Broker) -> None:
    test_topics.test_a_worker_refuses_an_unsafe_topic_and_names_the_setting(
        kafka, "journal", "retention_ms", "86400000", "retention.ms is 86400000, expected -1"
    )


FAULTS = (
    OnBroker(Mutant("fix members to lanes", "7", _fix_members), _a_leaver),
    OnBroker(Mutant("start on any topic", "16", _find_no_problem), _an_unsafe_topic),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"rule {fault.mutant.rule}: {fault.mutant.name}")
def test_a_broken_rule_is_noticed_on_a_broker(kafka: Broker, fault: OnBroker) -> None:
    assert noticed(replace(fault.mutant, example=partial(fault.test, kafka)))
