"""Registration: the apps of a worker that are new or changed go into the functions topic."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from millstream.apps.functions_topic import put_apps, read_known
from millstream.errors import ConfigError
from millstream.log.port import Log
from millstream.model.function import AppSpec
from millstream.model.messages import group_topic
from millstream.telemetry import say
from millstream.wire.messages import fingerprint

LOG: Final = logging.getLogger("millstream.worker")


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
    known = await read_known(log, group)
    _say_shared_functions(specs, known.apps)
    changed = [spec for spec in specs if known.apps.get(spec.id) != spec]
    if when == "newer":
        for spec in changed:
            if fingerprint(spec) in known.replaced.get(spec.id, ()):
                kept = known.apps[spec.id].version if spec.id in known.apps else ""
                say(LOG, "older code started", level=logging.WARNING, app=spec.id, kept=kept)
        changed = [spec for spec in changed if fingerprint(spec) not in known.replaced.get(spec.id, ())]
    if changed and when != "never":
        _say_taken_over(changed, known.apps)
        return await put_apps(log, group, known, changed)
    return await log.end_offset(group_topic(group, "functions"), 0)


def _say_taken_over(specs: Sequence[AppSpec], known: Mapping[str, AppSpec]) -> None:
    """Code that is here wins over an app of the same id that has registered over HTTP, which is refused from now on."""
    for spec in specs:
        before = known.get(spec.id)
        if before is not None and before.endpoint:
            say(LOG, "app over HTTP replaced", level=logging.WARNING, app=spec.id, was_at=before.endpoint)


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
