"""Are schemas of every kind fetched with those they refer to, and what is nowhere told from what is not answered?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from millstream.errors import ConfigError, NotFound
from millstream.schema_registry.boundary import Boundary
from millstream.schema_registry.client import RegistrySettings, SchemaRegistry
from millstream.schema_registry.sources import RegistrySchemas
from millstream.wire.formats.framing import SchemaRef
from millstream.wire.formats.known import KnownSchemas
from tests.log.registry_stub import registry_of

MONEY = {"type": "record", "name": "Money", "namespace": "shop", "fields": [{"name": "cents", "type": "long"}]}
CART = {"type": "record", "name": "Cart", "namespace": "shop", "fields": [{"name": "total", "type": "Money"}]}
ORDER = {
    "type": "record",
    "name": "Order",
    "namespace": "acme",
    "fields": [{"name": "id", "type": "int"}, {"name": "cart", "type": "shop.Cart"}],
}


def avro(schema: Any, id: int, *references: str) -> dict[str, Any]:
    used = [{"name": name, "subject": name, "version": 1} for name in references]
    return {"schema": json.dumps(schema), "id": id, "references": used}


SUBJECTS: dict[str, dict[str, Any]] = {
    "money": avro(MONEY, 1),
    "cart": avro(CART, 2, "money"),
    "order/placed": avro(ORDER, 3, "cart", "money"),
    "broken": avro(ORDER, 4, "nowhere"),
    "json": {"schema": "{}", "schemaType": "JSON", "id": 5},
    "xml": {"schema": "<x/>", "schemaType": "XML", "id": 6},
    "base": {"schema": "message A {}", "schemaType": "PROTOBUF", "id": 7, "serialized": "QQ=="},
    "proto": {
        "schema": "message B {}", "schemaType": "PROTOBUF", "id": 8, "serialized": "Qg==",
        "references": [{"name": "a.proto", "subject": "base", "version": 1}],
    },
}  # fmt: skip


def client(url: str) -> SchemaRegistry:
    return SchemaRegistry(RegistrySettings(url=url))


async def test_an_avro_schema_comes_with_the_schemas_it_refers_to() -> None:
    with registry_of(SUBJECTS) as url:
        known = KnownSchemas(has_registry=True)
        await RegistrySchemas(known, client(url)).fetch(SchemaRef("id", "3"))
        assert known.reader(SchemaRef("id", "3"))(b"\x02\x04") == {"id": 1, "cart": {"total": {"cents": 2}}}


async def test_the_door_checks_events_by_a_schema_with_references() -> None:
    with registry_of(SUBJECTS) as url:
        boundary = Boundary.made([], client(url))
        await boundary.look()
        schema = boundary.events.get("order/placed")
        assert schema is not None
        assert schema.problem({"id": 1, "cart": {"total": {"cents": 2}}}) is None
        assert schema.problem({"id": 1, "cart": {"total": {"cents": "2"}}}) is not None


async def test_a_protobuf_schema_comes_as_descriptors_in_the_order_of_their_use() -> None:
    with registry_of(SUBJECTS) as url:
        schema = await client(url).schema("id", "8")
        assert (schema.kind, schema.references, schema.text) == ("PROTOBUF", ("QQ==",), "Qg==")


async def test_a_json_schema_is_known_as_one() -> None:
    with registry_of(SUBJECTS) as url:
        assert (await client(url).schema("name", "json")).kind == "JSON"


async def test_a_reference_that_is_not_there_and_a_strange_kind_are_final_for_a_record() -> None:
    with registry_of(SUBJECTS) as url:
        known = KnownSchemas(has_registry=True)
        schemas = RegistrySchemas(known, client(url))
        with pytest.raises(NotFound):
            await client(url).schema("id", "4")
        for id in ("4", "6", "99"):
            await schemas.fetch(SchemaRef("id", id))
            assert known._absent[SchemaRef("id", id)]


async def test_a_name_that_the_registry_has_not_holds_the_topic() -> None:
    with registry_of(SUBJECTS) as url:
        schemas = RegistrySchemas(KnownSchemas(has_registry=True), client(url))
        for ref in (SchemaRef("name", "com.acme.Nobody"), SchemaRef("fingerprint", "00")):
            with pytest.raises(ConfigError, match="Nothing is lost"):
                await schemas.fetch(ref)
