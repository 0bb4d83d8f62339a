"""`millstream doctor`: silent when all is well, one line with what to do for each problem."""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from millstream.cli.processes import doctor
from millstream.log.group_topics import GroupShape
from millstream.log.kafka.admin.acls import TOPIC, accesses
from millstream.log.kafka.admin.health import CLOCK_OFF_MS_MAX, clock_off_ms, clock_problem, health
from millstream.log.kafka.log import KafkaLog
from millstream.log.kafka.settings import KafkaSettings
from millstream.log.port import Produced, TopicSpec
from millstream.model.function import AppSpec, FunctionSpec, Reading, TopicTrigger
from millstream.worker.registration import register
from tests.cli.program import Ended, millstream
from tests.kafka.broker import Broker, fresh, own_broker
from tests.kafka.secured import grant, revoke, secured
from tests.kafka.test_topics import alter, made, settings_of, shape_of


def examined(kafka: Broker, group: str, cwd: Path, *more: str) -> Ended:
    return millstream(
        "doctor", "--brokers", kafka.bootstrap, "--group", group, "--events-topic", f"{group}-events", "--lanes", "2",
        "--replication-factor", "1", "--min-insync", "1", *more, cwd=cwd,
    )  # fmt: skip


def test_it_is_silent_when_all_is_well(kafka: Broker, tmp_path: Path) -> None:
    shape = shape_of()
    made(kafka, shape)
    found = examined(kafka, shape.group, tmp_path)
    assert (found.code, found.out, found.err) == (0, "", "")


def test_the_number_of_lanes_and_of_apis_is_read_from_the_group(kafka: Broker, tmp_path: Path) -> None:
    shape = replace(shape_of(), lanes=3, apis=2)
    made(kafka, shape)
    about = ("--brokers", kafka.bootstrap, "--group", shape.group, "--events-topic", shape.events_topic,
             "--replication-factor", "1", "--min-insync", "1")  # fmt: skip
    found = millstream("doctor", *about, cwd=tmp_path)
    assert (found.code, found.out, found.err) == (0, "", "")
    planned = millstream("topics", "plan", *about, cwd=tmp_path)
    assert (planned.code, planned.out) == (0, ""), planned
    other = millstream("topics", "plan", *about, "--lanes", "4", cwd=tmp_path)
    assert other.code == 6 and "partitions" in other.out


def test_it_names_what_is_missing_and_what_is_unsafe(kafka: Broker, tmp_path: Path) -> None:
    group = fresh("sick")
    missing = examined(kafka, group, tmp_path)
    assert missing.code == 6
    assert f"topic '{group}.journal' is not there. Run: millstream topics apply" in missing.out
    made(kafka, shape_of(group=group))
    alter(kafka, f"{group}.journal", retention_ms="5000")
    (problem,) = examined(kafka, group, tmp_path).out.splitlines()
    assert "retention.ms is 5000, expected -1" in problem
    assert examined(kafka, group, tmp_path, "-o", "jsonl").rows == [{"problem": problem}]


def test_too_few_brokers_for_the_copies(kafka: Broker) -> None:
    shape = shape_of()
    made(kafka, shape)
    assert any("1 brokers run, expected at least 3" in one for one in health(settings_of(kafka, 3, 2), shape, "worker"))


def test_nobody_answers(tmp_path: Path) -> None:
    found = millstream("doctor", "--brokers", "127.0.0.1:1", cwd=tmp_path)
    assert found.code == 6
    assert "no answer from Kafka at 127.0.0.1:1" in found.out


def test_a_role_that_is_none_is_a_wrong_use(kafka: Broker, tmp_path: Path) -> None:
    assert examined(kafka, "any", tmp_path, "--role", "cook").code == 2


def test_the_clocks_of_one_machine_agree(kafka: Broker) -> None:
    shape = shape_of()
    made(kafka, shape)
    assert abs(clock_off_ms(settings_of(kafka), f"{shape.group}.replies")) < 5_000


@pytest.mark.parametrize(("off_ms", "word"), [(CLOCK_OFF_MS_MAX + 1, "ahead of"), (-90_000, "behind")])
def test_a_clock_that_is_off_is_named(off_ms: int, word: str) -> None:
    assert word in clock_problem(off_ms)
    assert clock_problem(CLOCK_OFF_MS_MAX) == ""


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: (100 << 30, 99 << 30, 1 << 29))
    (problem,) = doctor.disk_problems(tmp_path / "not" / "there" / "yet")
    assert "0.5 GiB free of 100.0 GiB" in problem


def test_access_that_is_lacking_is_named_for_its_role(tmp_path: Path) -> None:
    with own_broker(tmp_path, 1, "--security", "sasl-plain", "--authorizer") as broker:
        shape = shape_of()
        admin = made(broker, shape, secured(broker, "sasl-plain")).settings
        for role in ("worker", "api", "history"):
            needed = [access for access in accesses(shape) if access.role == role]
            grant(admin, needed)
            user = secured(broker, "sasl-plain", role)
            until_silent(user, shape, role)
            access = next(one for one in needed if "Read" in one.operations and one.kind == TOPIC)
            revoke(admin, access, "Read")
            (problem,) = until_told(user, shape, role)
            assert problem.startswith("Read ")
            assert f"on topic {access.name!r} is not allowed to {role}" in problem
        refused = secured(broker, "sasl-plain", "nobody")
        assert any("is not allowed" in one for one in health(refused, shape, "worker"))


def until_silent(user: KafkaSettings, shape: GroupShape, role: str) -> None:
    """Brokers hear of new ACLs a moment later."""
    for _ in range(50):
        problems = list(health(user, shape, role))
        if not problems:
            return
        time.sleep(0.1)
    raise AssertionError(problems)


def until_told(user: KafkaSettings, shape: GroupShape, role: str) -> list[str]:
    """The same of ACLs that are gone."""
    for _ in range(50):
        problems = list(health(user, shape, role))
        if problems:
            return problems
        time.sleep(0.1)
    raise AssertionError("nothing was lacking")


HELD_SCHEMA = '{"type": "record", "name": "Payment", "fields": [{"name": "n", "type": "int"}]}'


async def held_topic(kafka: Broker, shape: GroupShape, topic: str) -> None:
    """What a worker leaves that waits for a schema: its function, a record, and the position in front of it."""
    settings = settings_of(kafka)
    trigger = TopicTrigger(topic, reading=Reading("avro", "Payment"))
    spec = AppSpec(id="shop", functions=(FunctionSpec(slug="shop-bill", name="bill", triggers=(trigger,)),))
    log = await KafkaLog.open(settings)
    try:
        await log.create_topics([TopicSpec(topic, 1)])
        await register(log, shape.group, [spec])
        await log.writer(topic, 0).append([Produced(b"\x02")])
    finally:
        await log.close()
    consumer = Consumer(settings.connection() | {"group.id": shape.group})
    consumer.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
    consumer.close()


async def test_a_partition_that_waits_for_a_schema_is_named(kafka: Broker, tmp_path: Path) -> None:
    shape, topic = shape_of(), fresh("payments")
    made(kafka, shape)
    await held_topic(kafka, shape, topic)
    found = await asyncio.to_thread(examined, kafka, shape.group, tmp_path)
    assert found.code == 6, found
    (line,) = found.out.splitlines()
    assert f"topic '{topic}' partition 0 is held at offset 0" in line and "Payment" in line and "--schemas" in line
    (tmp_path / "payment.avsc").write_text(HELD_SCHEMA)
    found = await asyncio.to_thread(examined, kafka, shape.group, tmp_path, "--schemas", str(tmp_path))
    assert (found.code, found.out, found.err) == (0, "", "")
