"""``millstream functions invoke``: one function started by its id, whatever it subscribes to."""

from __future__ import annotations

from millstream.cli.runs import watch
from millstream.cli.support.api_client import Server
from millstream.cli.support.arguments import object_of
from millstream.cli.support.exits import OK
from millstream.cli.support.output import show_rows
from millstream.config import Settings


def invoke(settings: Settings, function: str, data: str | None, *, until_it_ends: bool) -> int:
    """Start it; 0 once the run exists. Watched, the exit code is that of ``runs watch``. Raises NotFound."""
    wanted = object_of(data, "--data") if data is not None else {}
    with Server(settings) as server:
        answer = server.invoke(function, wanted)
    if until_it_ends:
        return watch(settings, str(answer["run_id"]))
    show_rows(settings, [{"run_id": answer["run_id"], "event_id": answer["id"]}], ("run_id", "event_id"))
    return OK
