"""A schema registry (Confluent's HTTP API; Apicurio, Karapace and Redpanda speak it too), asked in threads.

    schema(kind, value)    a schema that a record's mark names (``wire.formats.framing.SchemaRef``)
    subjects, versions     what is registered           register   a new version of a subject
    latest                 the newest version of a subject

The subject of an event's schema is the event's name, ``order/placed``: it is what the door looks up.

The rule: "there is none" and "nobody answered" are told apart. The first is final for a record, which becomes a dead
letter; the second is LogUnavailable, and the reader waits and asks again: an outage must lose nothing.

Needs the extra ``millstream[registry]``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from millstream.errors import BadRequest, ConfigError, LogUnavailable, NotFound
from millstream.wire.formats.foreign_schema import ForeignSchema
from millstream.wire.schema_files import standing_alone

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

R = TypeVar("R")

TIMEOUT_S: Final = 10.0
RETRIES: Final = 1
LATEST_KEPT_S: Final = 1
"""How long the client may answer from memory which version is the latest: it would for ever."""
COMPATIBILITY: Final = "BACKWARD_TRANSITIVE"
SUBJECTS_MAX: Final = 10_000
REFERENCES_MAX: Final = 1_000
REFERENCES_DEEP_MAX: Final = 32
AVRO: Final = "AVRO"
PROTOBUF: Final = "PROTOBUF"
SERIALIZED: Final = "serialized"
_REFUSED: Final = (409, 422)
_NOT_ALLOWED: Final = (401, 403)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """Where the registry is and who we are there. ``ca`` is a file of trusted certificates; "": the system's."""

    url: str
    user: str = ""
    password: str = ""
    ca: str = ""

    def client(self) -> SchemaRegistryClient:
        """A client of it; no request is made. Raises ConfigError: the extra is not installed, the URL is none."""
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient
        except ImportError as error:
            raise ConfigError(
                f"a schema registry needs the extra 'registry', which is not installed ({error}). "
                "Install it: pip install 'millstream[registry]'."
            ) from error
        conf: dict[str, object] = {
            "url": self.url, "timeout": TIMEOUT_S, "max.retries": RETRIES, "cache.latest.ttl.sec": LATEST_KEPT_S,
        }  # fmt: skip
        if self.user:
            conf["basic.auth.user.info"] = f"{self.user}:{self.password}"
        if self.ca:
            conf["ssl.ca.location"] = self.ca
        try:
            return SchemaRegistryClient.new_client(conf)
        except (ValueError, TypeError, OSError) as error:
            raise ConfigError(f"--registry was refused: expected the URL of a registry, got {error}.") from error


@dataclass(frozen=True, slots=True)
class Registered:
    """One version of a subject. ``text`` is its Avro schema as JSON, with the types of other subjects in it."""

    subject: str
    version: int
    id: int
    text: str


class SchemaRegistry:
    """See the module. Safe to use from one event loop; every call runs in a thread."""

    def __init__(self, settings: RegistrySettings) -> None:
        """Raises ConfigError."""
        self.url: Final = settings.url
        self._settings = settings
        self._client = settings.client()
        self._clients = {"": self._client}
        """By the form in which they ask for schemas: what a client has kept in one form it gives for any."""

    async def schema(self, kind: str, value: str) -> ForeignSchema:
        """The schema by its "id", its "guid", or the latest of the subject of this "name", with its references.

        Raises NotFound when there is none, LogUnavailable when nobody answered.
        """
        return await self._call(lambda: self._foreign(kind, value))

    async def subjects(self) -> list[str]:
        """Every subject, sorted. At most SUBJECTS_MAX. Raises LogUnavailable."""
        return sorted(await self._call(self._client.get_subjects))[:SUBJECTS_MAX]

    async def versions(self, subject: str) -> list[Registered]:
        """Every version of a subject, the oldest first; empty where there is no such subject."""
        try:
            numbers = await self._call(lambda: self._client.get_versions(subject))
        except NotFound:
            return []
        return [await self._version(subject, number) for number in sorted(numbers)]

    async def latest(self, subject: str) -> Registered | None:
        """The newest version of a subject, or None."""
        found = await self.versions(subject)
        return found[-1] if found else None

    async def register(self, subject: str, text: str) -> Registered:
        """Make this the subject's newest version; the same text twice is one version.

        Raises BadRequest with the registry's words where it refuses, LogUnavailable.
        """
        from confluent_kafka.schema_registry import Schema

        await self._call(lambda: self._client.register_schema(subject, Schema(text, "AVRO")))
        found = await self._call(lambda: self._client.lookup_schema(subject, Schema(text, "AVRO")))
        assert found.version is not None
        assert found.schema_id is not None
        return Registered(subject, found.version, found.schema_id, text)

    async def require_backward(self, subject: str) -> None:
        """From now on each new version of the subject must read what every earlier one wrote."""
        await self._call(lambda: self._client.set_compatibility(subject, COMPATIBILITY))

    async def _version(self, subject: str, number: int) -> Registered:
        found = await self._call(lambda: self._client.get_version(subject, number))
        schema = found.schema
        if schema.schema_str is None or found.schema_id is None:
            raise NotFound(f"registry {self.url} gave version {number} of {subject} without a schema.")
        try:
            references = await self._call(lambda: self._references(schema, ""))
        except NotFound:  # Its own trouble, which whoever parses it will name; the other subjects are fine.
            references = ()
        return Registered(subject, number, found.schema_id, standing_alone(schema.schema_str, references))

    def _foreign(self, kind: str, value: str) -> ForeignSchema:
        schema = self._by(kind, value, "")
        type_ = schema.schema_type or AVRO
        form = SERIALIZED if type_ == PROTOBUF else ""
        if form:  # The file's text would need a compiler; the registry has one.
            schema = self._by(kind, value, form)
        if schema.schema_str is None:
            raise NotFound(f"registry {self.url} has no schema by the {kind} {value}.")
        return ForeignSchema(type_, schema.schema_str, self._references(schema, form))

    def _by(self, kind: str, value: str, form: str) -> Schema:
        client, format = self._client_for(form), form or None
        match kind:
            case "id":
                return client.get_schema(int(value), fmt=format)
            case "guid":
                return client.get_schema_by_guid(value, fmt=format)
            case "name":
                return client.get_version(value, "latest", fmt=format).schema
        raise NotFound(f"registry {self.url} knows no schema by its {kind}, {value}.")

    def _client_for(self, form: str) -> SchemaRegistryClient:
        if form not in self._clients:
            self._clients[form] = self._settings.client()
        return self._clients[form]

    def _references(self, schema: Schema, form: str) -> tuple[str, ...]:
        """The texts of all schemas that this one uses, each once and behind those that it uses itself."""
        found: dict[tuple[str, int], str] = {}

        def add(held: Schema, depth: int) -> None:
            for reference in held.references or ():
                place = (reference.subject or "", reference.version or 0)
                if place in found:
                    continue
                if depth > REFERENCES_DEEP_MAX or len(found) >= REFERENCES_MAX:
                    raise NotFound(f"registry {self.url} gave a schema with too many references: {place}.")
                used = self._client_for(form).get_version(*place, fmt=form or None).schema
                if used.schema_str is None:
                    raise NotFound(f"registry {self.url} gave version {place[1]} of {place[0]} without a schema.")
                add(used, depth + 1)
                found[place] = used.schema_str

        add(schema, 1)
        return tuple(found.values())

    async def _call(self, call: Callable[[], R]) -> R:
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            return await asyncio.to_thread(call)
        except SchemaRegistryError as error:
            raise self._error(error.http_status_code, str(error)) from error
        except (NotFound, AssertionError):
            raise
        except Exception as error:  # Whatever its HTTP library raises, which changes with releases, is no answer.
            raise LogUnavailable(
                f"schema registry {self.url} did not answer: {type(error).__name__}: {error}. "
                "Nothing is lost: what waits for a schema goes on when it does."
            ) from error

    def _error(self, status: int, text: str) -> Exception:
        if status == 404:
            return NotFound(f"registry {self.url} has none: {text}")
        if status in _REFUSED:
            return BadRequest(f"registry {self.url} refused the schema: {text}")
        if status in _NOT_ALLOWED:
            return ConfigError(
                f"registry {self.url} refused us: {text}. Set --registry-user and --registry-password-file."
            )
        return LogUnavailable(f"registry {self.url} answered {status}: {text}")
