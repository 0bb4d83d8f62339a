"""``millstream functions invoke``: one function started by its id, whatever it subscribes to."""

from __future__ import annotations

from millstream.cli.runs import watch
from millstream.cli.support.api_client import Server
from millstream.cli.support.arguments import object_of
from millstream.cli.support.exits import OK
from millstream.cli.support.output import show_rows
from millstream.config import Settings
from millstream.errors import NotStarted


def invoke(settings: Settings, function: str, data: str | None, *, until_it_ends: bool) -> int:
    """Start it; 0 once the run exists. Watched, the exit code is that of ``runs watch``.

    Raises NotFound; NotStarted where a gate has skipped it, or keeps it for later and there is nothing to watch yet.
    """
    wanted = object_of(data, "--data") if data is not None else {}
    with Server(settings) as server:
        answer = server.invoke(function, wanted)
    run = answer["run_id"]
    is_kept = bool(answer.get("kept"))
    if is_kept and until_it_ends:
        raise NotStarted(
            f"function {function!r} was not started yet: a run of it is open, and its singleton keeps this start until "
            f"that is over, as run {run}, unless a newer one comes. Then: millstream runs watch {run}"
        )
    if until_it_ends:
        return watch(settings, str(run))
    kept = {"kept": "until the open run is over"} if is_kept else {}
    show_rows(settings, [{"run_id": run, "event_id": answer["id"], **kept}], ("run_id", "event_id", *kept))
    return OK
