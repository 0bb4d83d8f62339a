"""Apps: what the functions topic says of them, as this lane takes it in; with their crons and topics."""

from __future__ import annotations

from collections.abc import Sequence

from millstream.core.flow.sweeping import swept
from millstream.core.handles import Handler, Handles
from millstream.core.intake import crons, topics
from millstream.core.tables import Tables
from millstream.model.commands import SeeCatalogue
from millstream.model.effects import Effect
from millstream.model.facts import CatalogueSeen, Fact
from millstream.model.function import decode_app_spec, encode_app_spec
from millstream.model.rows import AppRow


def see_catalogue(tables: Tables, command: SeeCatalogue, now_ms: int) -> list[Fact]:
    """Take a version of an app, with its crons that live here and its topics."""
    held = tables.apps.get(command.app_id)
    if held is not None and held.offset >= command.offset:
        return []
    spec = command.app
    seen = CatalogueSeen(command.app_id, encode_app_spec(spec) if spec is not None else b"", command.offset)
    before = decode_app_spec(held.spec) if held is not None and held.spec else None
    crons_changed = crons.changed(tables, before, spec, now_ms)
    return [seen, *crons_changed, *topics.subscribed(tables, spec), *swept(before, spec)]


def fold_catalogue_seen(tables: Tables, f: CatalogueSeen, at_ms: int) -> Sequence[Effect]:
    """From here on this lane knows the app so."""
    tables.apps.put(f.app, AppRow(f.app, f.spec, f.offset))
    return ()


HANDLES = Handles(
    commands={SeeCatalogue: Handler(see_catalogue)},
    facts={CatalogueSeen: fold_catalogue_seen},
)
