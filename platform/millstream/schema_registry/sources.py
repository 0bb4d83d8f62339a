"""The schemas of foreign values, by where they come from: files alone, or files and a registry.

Both are ``lane.port.Schemas``. A lane reads with what is known, and asks for the rest before it queues a record.
"""

from __future__ import annotations

from millstream.errors import NotFound
from millstream.schema_registry.client import SchemaRegistry
from millstream.wire.formats.framing import SchemaRef
from millstream.wire.formats.known import KnownSchemas


class FileSchemas:
    """The schemas of files, and no registry."""

    def __init__(self, known: KnownSchemas | None = None) -> None:
        self.known = known or KnownSchemas()

    async def fetch(self, ref: object) -> None:
        """Without a registry nothing is wanted."""

    async def look(self) -> None:
        """Files are read once."""


class RegistrySchemas:
    """The schemas of files, and of a registry for whatever they have not."""

    def __init__(self, known: KnownSchemas, registry: SchemaRegistry) -> None:
        assert known.has_registry
        self.known = known
        self._registry = registry

    async def fetch(self, ref: SchemaRef) -> None:
        """Ask the registry. Raises LogUnavailable when it does not answer."""
        try:
            self.known.learn(ref, await self._registry.text(ref.kind, ref.value))
        except NotFound as error:
            self.known.miss(ref, str(error))

    async def look(self) -> None:
        """Ask again for what may have changed. Raises LogUnavailable: what is known stays known, absent ones too.

        What is not there is forgotten, and asked for when a record names it again, only by a registry that answers:
        else records that are letters at once would hold up their source as long as it is away.
        """
        names = self.known.names
        for ref in names:
            await self.fetch(ref)
        if not names:
            await self._registry.subjects()
        self.known.forget_absent()
