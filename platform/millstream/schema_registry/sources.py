"""The schemas of foreign values, by where they come from: files alone, or files and a registry.

Both are ``lane.port.Schemas``. A lane reads with what is known, and asks for the rest before it queues a record.
"""

from __future__ import annotations

from typing import Final

from millstream.errors import ConfigError, NotFound
from millstream.schema_registry.client import SchemaRegistry
from millstream.wire.formats.framing import SchemaRef
from millstream.wire.formats.known import KnownSchemas

BY_FINGERPRINT: Final = "fingerprint"
BY_NAME: Final = "name"


def _nobody_has(ref: SchemaRef, where: str) -> ConfigError:
    return ConfigError(
        f"the schema by the {ref} is not known: expected it {where}. Give it, and start this process again; nothing is "
        "lost meanwhile. Or subscribe with format='raw' to take the topic without it."
    )


class FileSchemas:
    """The schemas of files, and no registry."""

    def __init__(self, known: KnownSchemas | None = None) -> None:
        self.known = known or KnownSchemas()

    async def fetch(self, ref: SchemaRef) -> None:
        """Raises ConfigError: files are read once, and it is in none of them."""
        if ref.kind in (BY_FINGERPRINT, BY_NAME):
            raise _nobody_has(ref, "among the files of --schemas")
        raise _nobody_has(ref, "in a registry, and none is set (--registry)")

    async def look(self) -> None:
        """Files are read once."""


class RegistrySchemas:
    """The schemas of files, and of a registry for whatever they have not."""

    def __init__(self, known: KnownSchemas, registry: SchemaRegistry) -> None:
        assert known.has_registry
        self.known = known
        self._registry = registry

    async def fetch(self, ref: SchemaRef) -> None:
        """Ask the registry. Raises LogUnavailable when it does not answer; ConfigError when the schema is to come from
        elsewhere, or the subscription names one that is nowhere. That it has no such id is the record's fault alone."""
        if ref.kind == BY_FINGERPRINT:
            raise _nobody_has(ref, "among the files of --schemas")
        try:
            self.known.learn(ref, await self._registry.schema(ref.kind, ref.value))
        except NotFound as error:
            if ref.kind == BY_NAME:
                raise _nobody_has(ref, f"among the files of --schemas or in the registry ({error})") from error
            self.known.miss(ref, str(error))

    async def look(self) -> None:
        """Ask again for what may have changed. Raises LogUnavailable: what is known stays known, absent ones too.

        What is not there is forgotten, and asked for when a record names it again, only by a registry that answers:
        else records that are letters at once would hold up their source as long as it is away.
        """
        names = self.known.names
        for ref in names:
            try:
                await self.fetch(ref)
            except ConfigError:
                continue  # Its subject was deleted: what it meant holds.
        if not names:
            await self._registry.subjects()
        self.known.forget_absent()
