"""The schemas at the boundary of one process: of events, and of values in foreign topics; from files and a registry.

    files      ``--schemas DIR``: they win, and what they say never changes while the process lives; a new file of a
               foreign value is taken when a record wants it
    registry   ``--registry URL``: the subjects that are names of events, and whatever schema a foreign record names;
               what a name stands for, and what was not there, is asked for again every half minute

The rule: a registry that is away makes nothing fail and nothing unchecked. What is known stays in force; a foreign
record whose schema is not known yet waits. So do events while it has not answered since the start, as far as no file
has their schema and no door has checked them: nobody knows whether they have one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from millstream.config import Settings
from millstream.errors import ConfigError, LogUnavailable, MillstreamError
from millstream.files import text_of
from millstream.lane.port import Schemas
from millstream.log.passwords import password_in
from millstream.schema_registry.client import RegistrySettings, SchemaRegistry
from millstream.schema_registry.sources import FileSchemas, RegistrySchemas
from millstream.telemetry import say
from millstream.wire.formats.known import KnownSchemas
from millstream.wire.schemas import EventSchema, EventSchemas, event_schema

LOG: Final = logging.getLogger("millstream.schema_registry")
LOOK_EVERY_S: Final = 30.0
LOOK_FIRST_S: Final = 2.0
"""Until the registry has answered for the first time."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """``events`` check what comes in; ``foreign`` read the values of other people's topics."""

    events: EventSchemas
    foreign: Schemas
    files: tuple[EventSchema, ...] = ()
    registry: SchemaRegistry | None = None

    @classmethod
    def of(cls, settings: Settings) -> Boundary:
        """As the settings say; nothing is asked yet. Raises ConfigError."""
        return cls.made(settings.texts("schemas"), registry_of(settings))

    @classmethod
    def made(cls, folders: Sequence[str], registry: SchemaRegistry | None) -> Boundary:
        """Of these folders and this registry. Raises ConfigError."""
        paths = [Path(folder).absolute() for folder in folders]
        events = EventSchemas.from_directories(paths)
        known = KnownSchemas(paths, has_registry=registry is not None)
        foreign = FileSchemas(known) if registry is None else RegistrySchemas(known, registry)
        events.complete = registry is None
        files = tuple(schema for name in events.names if (schema := events.get(name)) is not None)
        return cls(events, foreign, files, registry)

    async def look(self) -> None:
        """Take what the registry has now. Raises LogUnavailable when it does not answer, and what it refuses with."""
        if self.registry is None:
            return
        try:
            await self.foreign.look()
        finally:  # A refusal there says nothing of the events' own schemas.
            await self._look_for_events(self.registry)

    async def _look_for_events(self, registry: SchemaRegistry) -> None:
        found = {schema.name: schema for schema in self.files}
        for subject in await registry.subjects():
            if subject in found:
                continue
            latest = await registry.latest(subject)
            if latest is None:
                continue
            try:
                found[subject] = event_schema(subject, latest.text, str(latest.version))
            except ConfigError as error:  # The schema of something else, such as a key: no event has this name.
                LOG.debug("subject passed over subject=%s why=%s", subject, error)
        self.events.replace(found.values())
        self.events.complete = True

    async def look_first(self) -> None:
        """At the start: as ``look``, but a registry that is away keeps nobody waiting who needs no schema of it."""
        try:
            await self.look()
        except LogUnavailable as away:
            say(LOG, "registry not reached", level=logging.ERROR, why=str(away), meaning="events without a schema in "
                "a file are answered 503, and those of other programs wait, until it answers")  # fmt: skip

    async def keep_looking(self) -> None:
        """Look again and again, for ever; for a task beside everything else."""
        while self.registry is not None:
            await asyncio.sleep(LOOK_EVERY_S if self.events.complete else LOOK_FIRST_S)
            try:
                await self.look()
            except MillstreamError as error:  # Also a refusal: what is known stays known.
                say(LOG, "registry not readable", level=logging.WARNING, why=str(error))


def registry_of(settings: Settings) -> SchemaRegistry | None:
    """The registry that the settings name, or None. Raises ConfigError."""
    url = settings.text("registry")
    if not url:
        return None
    if ca := settings.text("registry_ca"):
        text_of(Path(ca), "--registry-ca, expected in PEM format:")
    return SchemaRegistry(
        RegistrySettings(
            url=url,
            user=settings.text("registry_user"),
            password=password_in(settings.text("registry_password_file")),
            ca=settings.text("registry_ca"),
        )
    )
