"""``millstream schemas list | check | push | gen``: the Avro schemas of events, as files and in a registry.

The files are those of ``--schemas``; the registry is that of ``--registry``, where the subject of an event's schema is
the event's name. ``check`` asks whether each schema can read what every earlier version wrote (BACKWARD_TRANSITIVE):
against the registry's versions, or against another folder of schemas, such as the last release's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from millstream.cli.support.exits import CHECK_FAILED, OK, note
from millstream.cli.support.output import show_rows
from millstream.config import Settings
from millstream.disk import write_small_file
from millstream.errors import ConfigError, FunctionError
from millstream.model.function import EventTrigger
from millstream.schema_registry.boundary import registry_of
from millstream.schema_registry.client import Registered, SchemaRegistry
from millstream.sdk.context import declared_context
from millstream.sdk.schema_of import schema_of
from millstream.wire.compatibility import Named, backward
from millstream.wire.formats.framing import fingerprint
from millstream.wire.schema_files import SUFFIX, same_schema, schema_json
from millstream.wire.schemas import EventSchema, EventSchemas

LISTED: Final = ("event", "version", "file", "fingerprint", "registered", "in_registry")


def list_schemas(settings: Settings) -> int:
    """Every schema of the folders; with a registry, what it has of them."""
    schemas, registry = _files(settings), registry_of(settings)

    async def rows() -> list[dict[str, Any]]:
        return [await _row(schema, registry) for schema in schemas]

    show_rows(settings, asyncio.run(rows()), LISTED if registry is not None else LISTED[:4])
    return OK


def check(settings: Settings, against: Sequence[str]) -> int:
    """Compare each schema with its earlier versions; 6 with what does not fit."""
    schemas, registry = _files(settings), registry_of(settings)
    if registry is None and not against:
        raise ConfigError("nothing to compare with: name a registry (--registry) or earlier schemas (--against DIR).")
    earlier = EventSchemas.from_directories([Path(each) for each in against])

    async def rows() -> list[dict[str, Any]]:
        found = []
        for schema in schemas:
            old = await _earlier(schema, registry, earlier)
            new: Named = (f"{schema.name} ({schema.file})", schema_json(schema.avro))
            found += [
                {"event": schema.name, "earlier": problem.writer, "problem": problem.reason}
                for problem in backward(new, old)
            ]
        return found

    problems = asyncio.run(rows())
    if problems:
        show_rows(settings, problems, ("event", "earlier", "problem"))
        note(f"{len(problems)} incompatible: give new fields a default, and remove none that has been required.")
        return CHECK_FAILED
    note(f"{len(schemas)} schemas checked: each reads all that earlier versions wrote")
    return OK


def push(settings: Settings, names: Sequence[str], *, yes: bool, dry_run: bool) -> int:
    """Register schemas that are new or changed; only after all of them were found compatible."""
    registry = registry_of(settings)
    if registry is None:
        raise ConfigError("push needs a registry: name it with --registry or MILLSTREAM_REGISTRY.")
    wanted = [schema for schema in _files(settings) if not names or schema.name in names]
    missing = set(names) - {schema.name for schema in wanted}
    if missing:
        raise ConfigError(f"no schema of {sorted(missing)[0]!r} in the folders of --schemas: expected its file there.")
    return asyncio.run(_push(settings, registry, wanted, really=yes and not dry_run))


async def _push(settings: Settings, registry: SchemaRegistry, wanted: Sequence[EventSchema], *, really: bool) -> int:
    changed, problems = [], []
    for schema in wanted:
        held = await registry.versions(schema.name)
        if held and _same(held[-1].text, schema):
            continue
        new: Named = (f"{schema.name} ({schema.file})", schema_json(schema.avro))
        problems += backward(new, [_named(one) for one in held])
        changed.append((schema, not held))
    if problems:
        for problem in problems:
            note(f"refused: {problem}")
        return CHECK_FAILED
    rows = []
    for schema, is_new in changed:
        version: int | None = None
        if really:
            version = (await registry.register(schema.name, schema_json(schema.avro))).version
            if is_new:
                await registry.require_backward(schema.name)
        rows.append({"event": schema.name, "file": schema.file, "version": version, "new": is_new})
    show_rows(settings, rows, ("event", "file", "version", "new"))
    if changed and not really:
        note(f"{len(changed)} would be registered in {registry.url}. Do it with --yes.")
    return OK


def generate(settings: Settings, target: str, out: str) -> int:
    """Schemas of the types an app's functions declare (``module:app``), or Python of a schema (an event's name)."""
    if ":" in target:
        return _generate_schemas(target, out)
    schema = _schemas(settings).get(target)
    if schema is None:
        raise ConfigError(
            f"gen was refused: expected module:app, or an event with a schema in a folder of --schemas, got {target!r}."
        )
    from millstream.cli.operating.schema_types import python_of

    text = python_of(json.loads(schema_json(schema.avro)), schema.file)
    _write(text, Path(out) if out else None)
    return OK


def _generate_schemas(target: str, out: str) -> int:
    from millstream.cli.support.loading import load_app, put_working_directory_on_path

    put_working_directory_on_path()
    app = load_app(target)
    made: dict[str, str] = {}
    for function in app.functions.values():
        _, wanted = declared_context(function.handler)
        if wanted is None or not isinstance(wanted, type):
            continue
        for trigger in function.spec.triggers:
            if not isinstance(trigger, EventTrigger) or "*" in trigger.event:
                continue
            text = json.dumps(schema_of(wanted, namespace=app.id.replace("-", "_")), indent=2) + "\n"
            if made.setdefault(trigger.event, text) != text:
                raise FunctionError(
                    f"two functions declare different types for event {trigger.event!r}. Give both the same class."
                )
    if not made:
        note(f"no function of {target} declares a type for an event it names: annotate one with Context[YourClass]")
    for name, text in made.items():
        _write(text, Path(out) / f"{name}{SUFFIX}" if out else None)
    return OK


def _write(text: str, path: Path | None) -> None:
    if path is None:
        print(text, end="")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_small_file(path, text.encode(), mode=0o666)
    note(f"written: {path}")


def _schemas(settings: Settings) -> EventSchemas:
    return EventSchemas.from_directories([Path(each) for each in settings.texts("schemas")])


def _files(settings: Settings) -> list[EventSchema]:
    schemas = _schemas(settings)
    found = [schemas.get(name) for name in schemas.names]
    if not found:
        raise ConfigError("no schemas: name their folder with --schemas or MILLSTREAM_SCHEMAS.")
    return [schema for schema in found if schema is not None]


async def _row(schema: EventSchema, registry: SchemaRegistry | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "event": schema.name,
        "version": schema.version,
        "file": schema.file,
        "fingerprint": fingerprint(schema.avro),
    }
    if registry is not None:
        held = await registry.versions(schema.name)
        row["registered"] = held[-1].version if held else None
        row["in_registry"] = "no" if not held else "same" if _same(held[-1].text, schema) else "differs"
    return row


async def _earlier(schema: EventSchema, registry: SchemaRegistry | None, earlier: EventSchemas) -> list[Named]:
    old: list[Named] = []
    before = earlier.get(schema.name)
    if before is not None:
        old.append((f"{before.name} of --against", schema_json(before.avro)))
    if registry is not None:
        old += [_named(one) for one in await registry.versions(schema.name)]
    return old


def _named(one: Registered) -> Named:
    return f"{one.subject} version {one.version}", one.text


def _same(text: str, schema: EventSchema) -> bool:
    return same_schema(text, schema_json(schema.avro))
