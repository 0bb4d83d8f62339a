"""Registration: the apps of a worker that are new or changed go into the functions topic."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from millstream.errors import ConfigError, Corruption
from millstream.log.port import Log, Produced
from millstream.model.function import AppSpec
from millstream.model.messages import group_topic
from millstream.telemetry import say
from millstream.wire.callback_key import is_groups_own
from millstream.wire.messages import decode_app, encode_app, fingerprint, replaced_by

LOG: Final = logging.getLogger("millstream.worker")
REPLACED_MAX: Final = 50
"""How many earlier versions of an app are remembered, so that none of them rolls the catalogue back."""
CATALOGUE_BYTES_MAX: Final = 64 * 1024 * 1024


async def register(log: Log, group: str, specs: Sequence[AppSpec], when: str = "always") -> int:
    """Put apps that are new or changed into the functions topic; the offset behind it that lanes must have seen.

    ``when`` is always, never, or newer: not those that were the known ones before and have been replaced since. A
    worker that is started again with the code of yesterday must not roll the catalogue back (lanes.md rule 23).
    Raises ConfigError when two apps have one id, or one function.
    """
    ids = [spec.id for spec in specs]
    if len(set(ids)) != len(ids):
        raise ConfigError(f"two apps have the same id: got {sorted(ids)}. Give each App its own id.")
    _refuse_shared_functions(specs)
    topic = group_topic(group, "functions")
    known: dict[str, AppSpec] = {}
    replaced: dict[str, tuple[str, ...]] = {}
    end = await log.end_offset(topic, 0)
    reader = log.reader(topic, 0, await log.start_offset(topic, 0))
    try:
        while reader.position < end:
            page = await reader.read(max_records=1_000, max_bytes=CATALOGUE_BYTES_MAX, wait_s=0.05)
            for record in page:  # An empty page says nothing; the position says how far it was read.
                if record.value is not None and not is_groups_own(record.key):
                    with suppress(Corruption):  # The lanes say so, and keep the app as it was before.
                        app = decode_app(record.value)
                        known[app.id] = app
                        replaced[app.id] = replaced_by(record.value)
    finally:
        await reader.close()
    _say_shared_functions(specs, known)
    changed = [spec for spec in specs if known.get(spec.id) != spec]
    if when == "newer":
        for spec in changed:
            if fingerprint(spec) in replaced.get(spec.id, ()):
                say(LOG, "older code started", level=logging.WARNING, app=spec.id, kept=known[spec.id].version)
        changed = [spec for spec in changed if fingerprint(spec) not in replaced.get(spec.id, ())]
    if changed and when != "never":
        writer = log.writer(topic, 0)
        for spec in changed:
            before = known.get(spec.id)
            history = (*((fingerprint(before),) if before is not None else ()), *replaced.get(spec.id, ()))
            earlier = tuple(one for one in history if one != fingerprint(spec))[:REPLACED_MAX]
            await writer.append([Produced(encode_app(spec, earlier), spec.id.encode())])
        with suppress(Exception):
            await writer.close()
    return await log.end_offset(topic, 0)


def _refuse_shared_functions(specs: Sequence[AppSpec]) -> None:
    """A run knows its function by the slug alone: with two of one slug it gets the code of either."""
    homes: dict[str, str] = {}
    for spec in specs:
        for function in spec.functions:
            home = homes.setdefault(function.slug, spec.id)
            if home != spec.id:
                raise ConfigError(
                    f"the apps {home!r} and {spec.id!r} both have the function {function.slug!r}. Rename one."
                )


def _say_shared_functions(specs: Sequence[AppSpec], known: Mapping[str, AppSpec]) -> None:
    """Not refused: an app that was renamed, and keeps its functions, leaves its old name in the catalogue."""
    ours = {function.slug: spec.id for spec in specs for function in spec.functions}
    started = {spec.id for spec in specs}
    for other in known.values():
        for function in other.functions if other.id not in started else ():
            if function.slug in ours:
                fields = {"function": function.slug, "app": ours[function.slug], "other": other.id}
                say(LOG, "function is known from another app", level=logging.WARNING, **fields)
