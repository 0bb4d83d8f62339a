"""The schemas of foreign values, by where they come from: files alone, or files and a registry.

Both are ``lane.port.Schemas``. A lane reads with what is known, and asks for the rest before it queues a record.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from millstream.errors import ConfigError, NotFound
from millstream.schema_registry.client import SchemaRegistry
from millstream.telemetry import say
from millstream.wire.formats.framing import SchemaRef
from millstream.wire.formats.known import KnownSchemas

BY_FINGERPRINT: Final = "fingerprint"
BY_NAME: Final = "name"


LOG: Final = logging.getLogger("millstream.schema_registry")
LOOK_AT_FILES_S: Final = 1.0
GOES_ON: Final = "and the topic goes on by itself"
START_AGAIN: Final = "set it and start this process again"


def _nobody_has(ref: SchemaRef, where: str, what_to_do: str) -> ConfigError:
    return ConfigError(
        f"the schema by the {ref} is not known: expected it {where}; {what_to_do}. Nothing is lost meanwhile. "
        "Or subscribe with format='raw' to take the topic without it."
    )


class _Files:
    """The files of ``--schemas``, looked at again while a topic waits for a schema that is in none of them."""

    def __init__(self, known: KnownSchemas) -> None:
        self._known = known
        self._looked_s = -LOOK_AT_FILES_S

    def has(self, ref: SchemaRef) -> bool:
        """Whether one has it now. Files that cannot be used are said, and change nothing."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._looked_s >= LOOK_AT_FILES_S:  # Many partitions may ask.
            self._looked_s = now_s
            try:
                self._known.look_at_files()
            except ConfigError as error:
                say(LOG, "schema files refused", level=logging.ERROR, why=str(error))
        return self._known.has_file(ref)

    def nobody_has(self, ref: SchemaRef) -> ConfigError:
        """The error for a schema that no file has."""
        if not self._known.directories:
            return _nobody_has(ref, "among files, and no directory of them is given (--schemas)", START_AGAIN)
        folders = ", ".join(str(folder) for folder in self._known.directories)
        return _nobody_has(ref, f"among the files of {folders} (--schemas)", f"put it there, {GOES_ON}")


class FileSchemas:
    """The schemas of files, and no registry."""

    def __init__(self, known: KnownSchemas | None = None) -> None:
        self.known = known or KnownSchemas()
        self._files = _Files(self.known)

    async def fetch(self, ref: SchemaRef) -> None:
        """Look whether a file has it by now. Raises ConfigError where none has, or no file could."""
        if ref.kind not in (BY_FINGERPRINT, BY_NAME):
            raise _nobody_has(ref, "in a registry, and none is given (--registry)", START_AGAIN)
        if not self._files.has(ref):
            raise self._files.nobody_has(ref)

    async def look(self) -> None:
        """Files are looked at when one is missing."""


class RegistrySchemas:
    """The schemas of files, and of a registry for whatever they have not."""

    def __init__(self, known: KnownSchemas, registry: SchemaRegistry) -> None:
        assert known.has_registry
        self.known = known
        self._files = _Files(known)
        self._registry = registry

    async def fetch(self, ref: SchemaRef) -> None:
        """Look at the files, and ask the registry. That the registry has no such id is the record's fault alone.

        Raises LogUnavailable when it does not answer; ConfigError when the schema is to come from elsewhere, or the
        subscription names one that is nowhere.
        """
        if ref.kind in (BY_FINGERPRINT, BY_NAME) and self._files.has(ref):
            return
        if ref.kind == BY_FINGERPRINT:
            raise self._files.nobody_has(ref)
        try:
            self.known.learn(ref, await self._registry.schema(ref.kind, ref.value))
        except NotFound as error:
            if ref.kind == BY_NAME:
                where = f"among the files of --schemas or in the registry ({error})"
                raise _nobody_has(ref, where, f"give it to either, {GOES_ON}") from error
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
