"""``millstream runs resume | fail``: held runs are tried again, or fail: those named, or all that fit a filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from millstream.cli.support.api_client import Server
from millstream.cli.support.arguments import run_of, time_of
from millstream.cli.support.exits import FAILED, NOT_FOUND, OK, USAGE, complain, note
from millstream.cli.support.output import show_rows
from millstream.config import Settings
from millstream.errors import Conflict, NotFound

RUNS_AT_ONCE_MAX: Final = 100_000
DONE: Final = {"resume": "resumed", "fail": "failed"}


def decide_held(
    settings: Settings, how: str, runs: Sequence[str], which: tuple[str, str, str, str], *, yes: bool, dry_run: bool
) -> int:
    """Resume runs, or let them fail; 0 when each was held, 1 when one was not, 4 when one is not there.

    ``which``: of which function and app, queued from and to when; empty where that is not asked.
    """
    function, app, since, until = which
    query = (("function", function), ("app", app), ("from", time_of(since, "--from")), ("to", time_of(until, "--to")))
    asked = [(name, value) for name, value in query if value]
    if bool(runs) == bool(asked):
        note(f"error: nothing was {DONE[how]}: name the runs, or say which: --function, --app, --from, --to")
        return USAGE
    if not yes and not dry_run:
        note(f"error: nothing was {DONE[how]}: say --yes to {how} them, or --dry-run to look at them")
        return USAGE
    for run in runs:
        run_of(run)
    with Server(settings) as server:
        if asked:
            held = list(server.runs([("status", "Held"), *asked], RUNS_AT_ONCE_MAX))
            if dry_run:
                show_rows(settings, held, ("run_id", "function_id", "queued_at", "reason"))
                return OK
            runs = [str(run["run_id"]) for run in held]
        return _each(settings, server, how, runs, dry_run=dry_run)


def _each(settings: Settings, server: Server, how: str, runs: Sequence[str], *, dry_run: bool) -> int:
    code, rows = OK, []
    for run in runs:
        try:
            if dry_run:
                seen = server.run(run)
                rows.append({"run_id": run, "outcome": str(seen["state"]), "reason": seen["reason"] or ""})
            else:
                rows.append({"run_id": run, "outcome": str(server.decide_held(run, how)["outcome"])})
        except NotFound as error:
            complain(error)
            code = NOT_FOUND
        except Conflict as error:
            complain(error)
            code = code or FAILED
    show_rows(settings, rows, ("run_id", "outcome", "reason") if dry_run else ("run_id", "outcome"))
    return code
