"""`millstream topics plan | apply` on a real broker: made once, mended, never shrunk; and what a worker refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from millstream.errors import BrokersUnreachable, OperatorError
from millstream.log.group_topics import GroupShape, topics_of
from millstream.log.kafka.admin.client import Admin
from millstream.log.kafka.admin.topics import (
    CHANGE,
    CREATE,
    LEAVE,
    UNSAFE,
    apply,
    check,
    plan,
    refuse_unsafe,
    refuse_unsafe_topics,
)
from millstream.log.kafka.settings import KafkaSettings
from millstream.log.memory.log import MemoryLog
from millstream.state.memory import MemoryStore
from millstream.worker.parts import WorkerParts
from millstream.worker.worker import Worker
from tests.cli.program import millstream
from tests.kafka.broker import Broker, fresh, own_broker


def shape_of(lanes: int = 2, group: str = "") -> GroupShape:
    group = group or fresh("group")
    return GroupShape(group=group, lanes=lanes, events_topic=f"{group}-events")


def settings_of(kafka: Broker, replication_factor: int = 1, min_insync: int = 1) -> KafkaSettings:
    return KafkaSettings(brokers=kafka.bootstrap, replication_factor=replication_factor, min_insync=min_insync)


def made(kafka: Broker, shape: GroupShape, settings: KafkaSettings | None = None) -> Admin:
    """All topics as they must be."""
    admin = Admin(settings or settings_of(kafka))
    done = apply(admin, shape, plan(admin, shape))
    assert {outcome for _, outcome in done} == {"done"}
    return admin


def alter(kafka: Broker, topic: str, **settings: str) -> None:
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in settings.items()
    ]
    client = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for future in client.incremental_alter_configs(
        [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)]
    ).values():
        future.result(10)


def test_what_is_missing_is_made_and_then_nothing_differs(kafka: Broker) -> None:
    shape = shape_of()
    admin = Admin(settings_of(kafka))
    first = plan(admin, shape)
    assert [step.name for step in first if step.action == CREATE] == [spec.name for spec in topics_of(shape)]
    assert {step.setting for step in first if step.about == "group"} == {
        "consumer.session.timeout.ms",
        "consumer.heartbeat.interval.ms",
    }
    apply(admin, shape, first)
    assert plan(admin, shape) == []
    assert admin.group_settings(shape.group)["consumer.session.timeout.ms"] == "6000"
    assert admin.group_settings(shape.group)["consumer.heartbeat.interval.ms"] == "500"


def test_a_worker_refuses_topics_that_are_not_there(kafka: Broker) -> None:
    with pytest.raises(OperatorError, match=r"journal' is not there.*millstream topics apply"):
        refuse_unsafe(settings_of(kafka), shape_of())


@pytest.mark.parametrize(
    ("which", "setting", "value", "expected"),
    [
        ("journal", "cleanup_policy", "compact", "cleanup.policy is compact, expected delete"),
        ("journal", "cleanup_policy", "compact,delete", "cleanup.policy is compact,delete, expected delete"),
        ("journal", "retention_ms", "86400000", "retention.ms is 86400000, expected -1"),
        ("inbox", "retention_bytes", "1000000", "retention.bytes is 1000000, expected -1"),
        ("inbox", "unclean_leader_election_enable", "true", "unclean.leader.election.enable is true, expected false"),
        ("steps", "cleanup_policy", "delete", "cleanup.policy is delete, expected compact"),
        ("timers", "max_message_bytes", "1000", "max.message.bytes is 1000, expected at least 8388608"),
    ],
)
def test_a_worker_refuses_an_unsafe_topic_and_names_the_setting(
    kafka: Broker, which: str, setting: str, value: str, expected: str
) -> None:
    shape = shape_of()
    admin = made(kafka, shape)
    assert check(settings_of(kafka), shape) == []
    alter(kafka, f"{shape.group}.{which}", **{setting: value})
    problems = check(settings_of(kafka), shape)
    assert len(problems) == 1
    problem = problems[0]
    assert f"topic '{shape.group}.{which}'" in problem
    assert expected in problem
    assert "millstream topics apply --yes" in problem
    (step,) = plan(admin, shape)
    assert step.action == CHANGE
    assert [outcome for _, outcome in apply(admin, shape, [step])] == ["done"]
    assert check(settings_of(kafka), shape) == []


def test_another_number_of_lanes_is_refused_and_not_made_so(kafka: Broker) -> None:
    shape = shape_of(lanes=2)
    admin = made(kafka, shape)
    for lanes in (1, 4):
        other = GroupShape(group=shape.group, lanes=lanes, events_topic=shape.events_topic)
        steps = plan(admin, other)
        assert {step.action for step in steps} == {UNSAFE}
        assert all("Say --lanes 2" in outcome for _, outcome in apply(admin, other, steps))
        assert len(check(settings_of(kafka), other)) == 5
    assert plan(admin, shape) == []


def test_too_few_copies_are_named(kafka: Broker) -> None:
    shape = shape_of()
    made(kafka, shape)
    problems = check(settings_of(kafka, replication_factor=3, min_insync=2), shape)
    assert len(problems) == 6
    assert all("replication factor is 1, expected 3" in problem for problem in problems)


def test_min_insync_below_the_setting_is_named(tmp_path: Path) -> None:
    with own_broker(tmp_path, 3) as cluster:
        shape = shape_of()
        admin = Admin(settings_of(cluster, 3, 2))
        apply(admin, shape, plan(admin, shape))
        assert check(settings_of(cluster, 3, 2), shape) == []
        alter(cluster, f"{shape.group}.journal", min_insync_replicas="1")
        (problem,) = check(settings_of(cluster, 3, 2), shape)
        assert "min.insync.replicas is 1, expected at least 2" in problem


def test_replies_grow_with_the_apis(kafka: Broker) -> None:
    shape = shape_of()
    admin = made(kafka, shape)
    more = GroupShape(group=shape.group, lanes=2, events_topic=shape.events_topic, apis=3)
    apply(admin, more, plan(admin, more))
    assert plan(admin, more) == []
    assert plan(admin, shape) == []  # Fewer apis need no fewer partitions.


def test_the_events_topic_is_left_as_its_owner_wants_it(kafka: Broker) -> None:
    shape = shape_of()
    client = AdminClient({"bootstrap.servers": kafka.bootstrap})
    client.create_topics([NewTopic(shape.events_topic, 5, 1, config={"retention.ms": "1000"})])[
        shape.events_topic
    ].result(10)
    admin = Admin(settings_of(kafka))
    apply(admin, shape, plan(admin, shape))
    left = plan(admin, shape)
    assert {(step.action, step.name) for step in left} == {(LEAVE, shape.events_topic)}
    assert "retention.ms" in {step.setting for step in left}
    assert check(settings_of(kafka), shape) == []


def test_nobody_at_the_address_is_said_so() -> None:
    with pytest.raises(BrokersUnreachable, match=r"no answer from Kafka at 127.0.0.1:1 .*--brokers"):
        Admin(KafkaSettings(brokers="127.0.0.1:1")).cluster()


def test_the_commands(kafka: Broker, tmp_path: Path) -> None:
    group = fresh("cli")
    options = ("--brokers", kafka.bootstrap, "--group", group, "--events-topic", f"{group}-events", "--lanes", "2",
               "--replication-factor", "1", "--min-insync", "1")  # fmt: skip
    planned = millstream("topics", "plan", *options, cwd=tmp_path)
    assert (planned.code, {row["action"] for row in planned.rows}) == (0, {CREATE, CHANGE})
    assert millstream("topics", "apply", "--dry-run", *options, cwd=tmp_path).rows == planned.rows
    applied = millstream("topics", "apply", *options, cwd=tmp_path)
    assert applied.code == 0
    assert all(row["outcome"] == "done" for row in applied.rows)
    again = millstream("topics", "apply", "--yes", *options, cwd=tmp_path)
    assert (again.code, [row["about"] for row in again.rows]) == (0, ["group", "group"])
    nothing = millstream("topics", "apply", *options, cwd=tmp_path)
    assert (nothing.code, nothing.out) == (0, "")
    alter(kafka, f"{group}.journal", retention_ms="1000")
    unsafe = millstream("topics", "plan", *options, cwd=tmp_path)
    assert unsafe.code == 0  # It can be mended.
    held = millstream("topics", "apply", *options, cwd=tmp_path)
    assert held.code == 6
    assert "retention.ms is 1000, expected -1" in held.err
    assert millstream("topics", "apply", "--yes", *options, cwd=tmp_path).code == 0
    assert millstream("topics", "plan", *options[:-8], "--lanes", "4", cwd=tmp_path).code == 6
    assert millstream("topics", "plan", "--brokers", "127.0.0.1:1", cwd=tmp_path).code == 3


async def test_a_worker_that_refuses_has_started_nothing(kafka: Broker) -> None:
    shape = shape_of(lanes=1)
    log = MemoryLog()
    worker = Worker(
        WorkerParts(
            log=log,
            group=shape.group,
            lanes=1,
            apps=(),
            make_store=lambda lane: MemoryStore(),
            events_topic=shape.events_topic,
            make_topics=lambda shape: refuse_unsafe_topics(settings_of(kafka), shape),
        )
    )
    with pytest.raises(OperatorError, match="so nothing was started"):
        await worker.start()
    assert worker.lanes == {}
