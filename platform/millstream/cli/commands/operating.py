"""Commands for who operates a group: its topics, lanes and schemas."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from millstream.cli.commands.groups import lanes, schemas, topics
from millstream.cli.support.flags import settings as takes
from millstream.cli.support.kafka_flags import KAFKA, REGISTRY, SHAPE
from millstream.config import Settings

LANES: Final = ("group", *KAFKA)


@topics.command("plan")
@takes(*SHAPE, *KAFKA, "accept_loss", "output")
def topics_plan(
    settings: Settings,
    *,
    acls: Annotated[bool, typer.Option("--acls", help="Print what each role must be allowed instead.")] = False,
    source: Annotated[list[str] | None, typer.Option("--source", help="--acls: a topic that functions read.")] = None,
    target: Annotated[list[str] | None, typer.Option("--target", help="--acls: a topic that steps publish to.")] = None,
) -> int:
    """Say what the topics of the group lack. Exit code 6 if something is unsafe."""
    from millstream.cli.operating.topics import show_acls, show_plan

    return show_acls(settings, source or (), target or ()) if acls else show_plan(settings)


@topics.command("apply")
@takes(*SHAPE, *KAFKA, "accept_loss", "output")
def topics_apply(
    settings: Settings,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Alter settings of topics that exist, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> int:
    """Create the topics that are missing; never deletes, never shrinks. Exit code 6 if something unsafe is left."""
    from millstream.cli.operating.topics import carry_out

    return carry_out(settings, yes=yes, dry_run=dry_run)


@lanes.command("list")
@takes("data", *LANES, "output")
def lanes_list(settings: Settings) -> int:
    """Show who owns each lane and since when, its lag, its journal's length, its last checkpoint."""
    from millstream.cli.operating.lanes.listing import list_lanes

    return list_lanes(settings)


@lanes.command("inspect")
@takes("data", *LANES, "output")
def lanes_inspect(settings: Settings) -> int:
    """Show each lane's journal, owner, open runs, timers and lag."""
    from millstream.cli.operating.lanes.inspection import inspect

    return inspect(settings)


@lanes.command("verify")
@takes("data", *LANES, "output")
def lanes_verify(settings: Settings) -> int:
    """Check every stored byte and every open run. Exit code 6 with what was found."""
    from millstream.cli.operating.lanes.inspection import verify

    return verify(settings)


@schemas.command("list")
@takes(*REGISTRY)
def schemas_list(settings: Settings) -> int:
    """List the schemas of the folders, and what the registry has of them."""
    from millstream.cli.operating.schemas import list_schemas

    return list_schemas(settings)


@schemas.command("check")
@takes(*REGISTRY)
def schemas_check(
    settings: Settings,
    *,
    against: Annotated[list[str] | None, typer.Option("--against", help="A folder of earlier schemas.")] = None,
) -> int:
    """Check that each schema reads all that its earlier versions wrote. Exit code 6 if one does not."""
    from millstream.cli.operating.schemas import check as run

    return run(settings, against or ())


@schemas.command("push")
@takes(*REGISTRY)
def schemas_push(
    settings: Settings,
    *,
    names: Annotated[list[str] | None, typer.Argument(metavar="[EVENT…]", show_default=False)] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> int:
    """Register new and changed schemas, once all of them are compatible."""
    from millstream.cli.operating.schemas import push

    return push(settings, names or (), yes=yes, dry_run=dry_run)


@schemas.command("gen")
@takes("schemas")
def schemas_gen(
    settings: Settings,
    *,
    target: Annotated[str, typer.Argument(metavar="MODULE:APP|EVENT", show_default=False)],
    out: Annotated[
        str, typer.Option("--out", help="Write there instead of printing: a folder, or for Python a file.")
    ] = "",
) -> int:
    """Make schemas of the types an app declares, or Python classes of an event's schema."""
    from millstream.cli.operating.schemas import generate

    return generate(settings, target, out)
