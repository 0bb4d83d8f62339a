"""Commands about apps. They ask the HTTP API."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from millstream.cli.commands.groups import apps
from millstream.cli.support.flags import settings as takes
from millstream.config import Settings

CLIENT: Final = ("url", "output", "event_key")


@apps.command("list")
@takes(*CLIENT)
def apps_list(settings: Settings) -> int:
    """List the apps of a server, and whether those over HTTP answer; where one does not, why, and what to do."""
    from millstream.cli.apps import list_apps

    return list_apps(settings)


@apps.command("sync")
@takes(*CLIENT)
def apps_sync(
    settings: Settings,
    *,
    address: Annotated[str, typer.Argument(metavar="URL", help="Where the app serves.", show_default=False)],
) -> int:
    """Have the app at an address register now, such as http://localhost:3000/api/inngest."""
    from millstream.cli.apps import sync

    return sync(settings, address)


@apps.command("remove")
@takes(*CLIENT)
def apps_remove(settings: Settings, *, app: Annotated[str, typer.Argument(metavar="APP", show_default=False)]) -> int:
    """Take an app out: its functions start no more, its open runs stay. It comes back where it registers again."""
    from millstream.cli.apps import remove

    return remove(settings, app)
