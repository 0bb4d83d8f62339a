"""The access that `millstream topics plan --acls` lists is enough for each role, and each line of it is needed.

What a role does to a topic, a group or its transactions is done here through the log that it uses, as a user who may do
just that; then one access is taken away, and the error names the resource.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Producer

from millstream.errors import MillstreamError
from millstream.log.group_topics import GroupShape
from millstream.log.kafka.admin.acls import GROUP, TOPIC, TRANSACTIONS, Access, accesses
from millstream.log.kafka.log import KafkaLog
from millstream.log.kafka.settings import KafkaSettings
from millstream.log.port import Produced
from tests.kafka.broker import Broker, own_broker
from tests.kafka.logs import Member, opened, until
from tests.kafka.secured import grant, revoke, secured
from tests.kafka.test_topics import made, shape_of

KIND = "sasl-scram"
Doing = Callable[[KafkaLog, Access, GroupShape], Awaitable[None]]


async def write(log: KafkaLog, access: Access, shape: GroupShape) -> None:
    key = b"key" if access.name.endswith((".steps", ".timers", ".keys", ".functions")) else None
    writer = log.writer(access.name, 0)
    try:
        await writer.append([Produced(b"value", key)])
    finally:
        await writer.close()


async def read(log: KafkaLog, access: Access, shape: GroupShape) -> None:
    start, end = await log.start_offset(access.name, 0), await log.end_offset(access.name, 0)
    reader = log.reader(access.name, 0, start)
    try:
        while reader.position < end:
            await reader.read(max_records=10, max_bytes=1 << 20, wait_s=0.5)
    finally:
        await reader.close()


async def describe(log: KafkaLog, access: Access, shape: GroupShape) -> None:
    assert await log.topic(access.name) is not None


async def trim(log: KafkaLog, access: Access, shape: GroupShape) -> None:
    await log.trim(access.name, 0, await log.end_offset(access.name, 0))


async def be_a_member(log: KafkaLog, access: Access, shape: GroupShape) -> None:
    member = Member(log, shape.group, lanes=shape.lanes)
    await member.join()
    try:
        await until(lambda: len(member.held) == shape.lanes, within_s=20)
        if not await member.membership.still_owns(0, inbox_position=0):
            raise AssertionError("the commit was refused")
    finally:
        await member.membership.leave()


async def checkpoint(log: KafkaLog, access: Access, shape: GroupShape) -> None:
    transaction = await log.transaction("any")
    await transaction.send(f"{shape.group}.keys", 0, [Produced(b"row", b"key")])
    await transaction.commit({})


def doings(access: Access) -> dict[str, Doing]:
    """What each operation of an access is needed for; describing settings is needed by all of them."""
    if access.kind == GROUP:
        return {"Read": be_a_member}
    if access.kind == TRANSACTIONS:
        return {"Write": checkpoint}
    known: dict[str, Doing] = {"Write": write, "Read": read, "Delete": trim, "Describe": describe}
    return {operation: known[operation] for operation in access.operations if operation in known}


@asynccontextmanager
async def acting(user: KafkaSettings) -> AsyncIterator[KafkaLog]:
    """A fresh log: brokers and clients remember what was allowed."""
    async with opened(user) as log:
        yield log


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> object:
    folder: Path = tmp_path_factory.mktemp("acls")
    with own_broker(folder, 1, "--security", KIND, "--authorizer") as started:
        yield started


@pytest.mark.parametrize("role", ["worker", "api", "history"])
async def test_a_role_can_do_its_work_with_what_is_listed_and_not_with_less(broker: Broker, role: str) -> None:
    shape = shape_of(lanes=1)
    admin = (await asyncio.to_thread(made, broker, shape, secured(broker, KIND, group_protocol="classic"))).settings
    listed = [access for access in accesses(shape) if access.role == role]
    await asyncio.to_thread(grant, admin, listed)
    user = secured(broker, KIND, role, group_protocol="classic")
    async with opened(admin) as log:
        for access in accesses(shape):
            if access.kind == TOPIC and not access.prefixed:
                await write(log, access, shape)  # Something to read.
        for access in listed:
            for doing in doings(access).values():
                await attempt(user, doing, access, shape)
        for access in listed:
            for operation, doing in doings(access).items():
                if access.kind == TOPIC:
                    await write(log, access, shape)  # Something to read, and to trim.
                await asyncio.to_thread(revoke, admin, access, operation)
                with pytest.raises((MillstreamError, TimeoutError)) as refused:
                    await attempt(user, doing, access, shape)
                assert isinstance(refused.value, MillstreamError), f"{operation} on {access.name}: silence"
                assert access.name.rstrip("-") in str(refused.value), f"{operation} on {access.name}: {refused.value}"
                await asyncio.to_thread(grant, admin, [access])


async def test_a_producer_needs_to_write_and_nothing_else(broker: Broker) -> None:
    shape = shape_of(lanes=1)
    admin = (await asyncio.to_thread(made, broker, shape, secured(broker, KIND))).settings
    user = secured(broker, KIND, "producer")
    before = await asyncio.to_thread(produced, user, shape.events_topic)
    assert before is not None
    assert before.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    await asyncio.to_thread(grant, admin, [access for access in accesses(shape) if access.role == "producer"])
    assert await asyncio.to_thread(produced, user, shape.events_topic) is None


def produced(user: KafkaSettings, topic: str) -> KafkaError | None:
    """Write a record as any program would; the error of its report."""
    told: list[KafkaError | None] = []
    producer = Producer(user.stream_producer())
    producer.produce(topic, b"value", on_delivery=lambda error, message: told.append(error))
    producer.flush(20)
    return told[0]


async def attempt(user: KafkaSettings, doing: Doing, access: Access, shape: GroupShape) -> None:
    async with acting(user) as log, asyncio.timeout(25):
        await doing(log, access, shape)
