"""Does a registry tell "there is none" from "nobody answered"? On the client's in-memory registry, and a dead port."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from pathlib import Path

import pytest

from millstream.errors import BadRequest, ConfigError, LogUnavailable, MillstreamError, NotFound
from millstream.log.passwords import password_in
from millstream.schema_registry import boundary as module
from millstream.schema_registry.boundary import Boundary
from millstream.schema_registry.client import RegistrySettings, SchemaRegistry

FIRST = json.dumps({"type": "record", "name": "Order", "fields": [{"name": "id", "type": "string"}]})
SECOND = json.dumps(
    {
        "type": "record",
        "name": "Order",
        "fields": [{"name": "id", "type": "string"}, {"name": "note", "type": "string", "default": ""}],
    }
)


@pytest.fixture
def registry() -> SchemaRegistry:
    return SchemaRegistry(RegistrySettings(url=f"mock://{uuid.uuid4()}"))


async def test_what_is_registered_is_found_by_id_and_by_name(registry: SchemaRegistry) -> None:
    first = await registry.register("order/placed", FIRST)
    second = await registry.register("order/placed", SECOND)
    assert (first.version, second.version) == (1, 2)
    assert json.loads((await registry.schema("id", str(first.id))).text) == json.loads(FIRST)
    assert json.loads((await registry.schema("name", "order/placed")).text) == json.loads(SECOND)
    assert await registry.subjects() == ["order/placed"]
    assert [one.version for one in await registry.versions("order/placed")] == [1, 2]


async def test_the_same_schema_twice_is_one_version(registry: SchemaRegistry) -> None:
    assert await registry.register("a", FIRST) == await registry.register("a", FIRST)


async def test_what_is_not_there_is_not_found(registry: SchemaRegistry) -> None:
    with pytest.raises(NotFound):
        await registry.schema("id", "77")
    with pytest.raises(NotFound):
        await registry.schema("name", "nothing")
    assert await registry.versions("nothing") == []
    assert await registry.latest("nothing") is None


async def test_nobody_answering_is_not_the_same_as_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    registry = SchemaRegistry(RegistrySettings(url=f"http://127.0.0.1:{port}"))
    with pytest.raises(LogUnavailable, match="Nothing is lost"):
        await registry.schema("id", "1")


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="--registry"):
        SchemaRegistry(RegistrySettings(url="registry:8081"))


def test_a_password_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    assert password_in(str(tmp_path / "password")) == "secret"
    with pytest.raises(ConfigError, match="missing"):
        password_in(str(tmp_path / "missing"))


@pytest.mark.parametrize("refusal", [LogUnavailable("503"), NotFound("404"), BadRequest("422")])
async def test_looking_goes_on_whatever_the_registry_refuses_with(
    refusal: MillstreamError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 404 of something in front of it ended the looking for good."""
    registry = SchemaRegistry(RegistrySettings(url=f"mock://{uuid.uuid4()}"))
    looked = 0

    async def subjects() -> list[str]:
        nonlocal looked
        looked += 1
        raise refusal

    monkeypatch.setattr(registry, "subjects", subjects)
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.001)
    looking = asyncio.create_task(Boundary.made((), registry).keep_looking())
    while looked < 3:
        assert not looking.done()
        await asyncio.sleep(0.001)
    looking.cancel()
