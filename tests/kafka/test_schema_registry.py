"""A real registry (Apicurio): pushing, checking at the door, and reading the values of other people's topics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from millstream import App, Context, Topic
from millstream.dev import DevServer, DevSettings
from millstream.errors import Corruption
from millstream.log.port import Produced, TopicSpec
from millstream.schema_registry.boundary import Boundary
from millstream.schema_registry.client import RegistrySettings, SchemaRegistry
from millstream.schema_registry.sources import RegistrySchemas
from millstream.wire.formats.framing import SchemaRef
from millstream.wire.formats.known import BY_NAME, KnownSchemas
from tests.cli.program import millstream
from tests.kafka.broker import fresh, schema_registry

__all__ = ["schema_registry"]

SOON_S = 20.0
PAYMENT = json.dumps(
    {"type": "record", "name": "Payment", "namespace": "com.acme", "fields": [{"name": "cents", "type": "long"}]}
)
app = App("registry-test")
paid: list[Any] = []


@app.function(on=Topic("payments"))
async def note(ctx: Context) -> None:
    """Notes what came."""
    paid.append(ctx.event.data)


def confluents(registry: str, value: dict[str, Any], schema: str = PAYMENT) -> bytes:
    """As Confluent's own serializer writes it, with its schema registered."""
    client = SchemaRegistryClient({"url": registry})
    context = SerializationContext("payments", MessageField.VALUE)
    data = AvroSerializer(client, schema)(value, context)
    assert data is not None
    return data


@pytest.fixture
async def server(schema_registry: str, tmp_path: Path) -> AsyncIterator[DevServer]:
    boundary = Boundary.made((), SchemaRegistry(RegistrySettings(url=schema_registry)))
    running = DevServer([app], DevSettings(data=tmp_path / "data", port=0, durability="os", boundary=boundary))
    await running.start()
    yield running
    await running.stop()


def schema_files(folder: Path, event: str, *fields: Any) -> Path:
    path = folder / f"{event}.avsc"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "record", "name": "Data", "fields": fields}))
    return folder


def test_only_compatible_schemas_are_pushed(schema_registry: str, tmp_path: Path) -> None:
    event = f"order/{fresh('placed')}"
    where = ("--schemas", str(tmp_path), "--registry", schema_registry)
    schema_files(tmp_path, event, {"name": "order", "type": "long"})
    assert millstream("schemas", "push", *where).rows[0]["version"] is None  # Without --yes.
    assert millstream("schemas", "push", *where, "--yes").rows[0]["version"] == 1
    assert millstream("schemas", "push", *where, "--yes").rows == []  # The same again is nothing new.
    schema_files(tmp_path, event, {"name": "order", "type": "long"}, {"name": "by", "type": "string", "default": ""})
    assert millstream("schemas", "check", *where).code == 0
    assert millstream("schemas", "push", *where, "--yes").rows[0]["version"] == 2
    schema_files(tmp_path, event, {"name": "order", "type": "string"})
    refused = millstream("schemas", "push", *where, "--yes")
    assert refused.code == 6 and "order" in refused.err
    assert millstream("schemas", "list", *where).rows[0]["in_registry"] == "differs"


async def test_the_door_checks_events_by_the_registry_s_schemas(schema_registry: str, tmp_path: Path) -> None:
    event = f"order/{fresh('placed')}"
    registry = SchemaRegistry(RegistrySettings(url=schema_registry))
    await registry.register(
        event, json.dumps({"type": "record", "name": "D", "fields": [{"name": "n", "type": "long"}]})
    )
    boundary = Boundary.made((), registry)
    await boundary.look()
    boundary.events.check(event, {"n": 1})
    with pytest.raises(Exception, match=f"version 1 of {event} in the registry"):
        boundary.events.check(event, {"n": "one"})


async def test_what_a_name_stands_for_is_asked_for_again(schema_registry: str) -> None:
    """A subscription whose values carry no mark names its schema; a new version of it counts without a restart."""
    subject = fresh("reading")
    registry = SchemaRegistry(RegistrySettings(url=schema_registry))
    field = {"name": "n", "type": "long"}
    await registry.register(subject, json.dumps({"type": "record", "name": "D", "fields": [field]}))
    schemas = RegistrySchemas(KnownSchemas(has_registry=True), registry)
    wanted = SchemaRef(BY_NAME, subject)
    await schemas.fetch(wanted)
    await schemas.look()
    later = [field, {"name": "unit", "type": "string", "default": ""}]
    await registry.register(subject, json.dumps({"type": "record", "name": "D", "fields": later}))
    assert schemas.known.named(subject)(b"\2") == {"n": 1}  # Until the registry is asked.
    async with asyncio.timeout(SOON_S):
        while not reads(schemas, subject, b"\2\4kg", {"n": 1, "unit": "kg"}):
            await schemas.look()
            await asyncio.sleep(0.2)


def reads(schemas: RegistrySchemas, name: str, value: bytes, expected: dict[str, Any]) -> bool:
    try:
        return schemas.known.named(name)(value) == expected
    except Corruption:
        return False


async def test_a_foreign_topic_s_values_are_read_by_the_ids_in_front_of_them(
    server: DevServer, schema_registry: str
) -> None:
    assert server.log is not None
    await server.log.create_topics([TopicSpec("payments", 1)])
    value = await asyncio.to_thread(confluents, schema_registry, {"cents": 4250})
    writer = server.log.writer("payments", 0)
    async with asyncio.timeout(SOON_S):
        while {"cents": 4250} not in paid:  # The topic is looked for every few seconds; its latest end counts.
            await writer.append([Produced(value)])
            await asyncio.sleep(0.5)
    unknown = b"\0\x7f\xff\xff\xff" + value[5:]
    await writer.append([Produced(unknown, headers=(("x", b"1"),)), Produced(value)])
    letters = "registry-test.dead-letters"
    async with asyncio.timeout(SOON_S):
        while await server.log.end_offset(letters, 0) == 0:  # noqa: ASYNC110 - no event of it
            await asyncio.sleep(0.1)
    (letter,) = await server.log.reader(letters, 0, 0).read(max_records=10, max_bytes=1 << 20, wait_s=1.0)
    assert letter.value == unknown and ("x", b"1") in letter.headers
