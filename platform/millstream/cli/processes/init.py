"""``millstream init``: a first app with its test, to be changed.

    shop/app.py          two functions: one on an event with a step that may fail and a sleep, one on a time
    shop/test_app.py     the test of the first, in memory, with a clock that it moves
    shop/pyproject.toml  what pytest needs to know, and what to install

Nothing is overwritten.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from millstream import __version__
from millstream.cli.support.exits import OK, note
from millstream.cli.support.output import show_rows
from millstream.config import Settings
from millstream.disk import write_small_file
from millstream.errors import ConfigError
from millstream.model import limits

APP: Final = '''"""The app {id}. Run it with: millstream dev app:app"""

from __future__ import annotations

from millstream import App, Context

app = App("{id}")


@app.function(on="order/placed", retries=4)
async def fulfil(ctx: Context) -> dict:
    """Each step's result is remembered: after a crash the function goes on behind the last one."""
    order = ctx.event.data["order"]
    charge = await ctx.step.run("charge", charge_card, order)
    await ctx.step.sleep("cool-off", "10s")
    parcel = await ctx.step.run("ship", ship, order)
    return {{"charge": charge, "parcel": parcel}}


@app.function(cron="TZ=Europe/Paris 0 9 * * 1-5")
async def morning_report(ctx: Context) -> str:
    return await ctx.step.run("write", lambda: "all is well")


def charge_card(order: int) -> str:
    return f"charge-{{order}}"


def ship(order: int) -> str:
    return f"parcel-{{order}}"
'''
TEST: Final = '''"""The tests of the app, in memory and without waiting. Run them with: pytest"""

from __future__ import annotations

from app import app

from millstream import Event
from millstream.testing import TestApp


async def test_an_order_is_charged_at_once_and_shipped_after_the_cool_off() -> None:
    async with TestApp(app) as t:
        run = await t.send(Event("order/placed", {"order": 7}))
        assert run.status == "Running"
        await t.advance("10s")
        assert run.result == {"charge": "charge-7", "parcel": "parcel-7"}
'''
PROJECT: Final = """[project]
name = "{id}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["millstream=={version}"]

[project.optional-dependencies]
test = ["pytest>=8.3", "pytest-asyncio>=1.0"]

[tool.pytest.ini_options]
asyncio_mode = "auto"
pythonpath = ["."]
"""


def init(settings: Settings, folder: str) -> int:
    """Write the files. Raises ConfigError where one of them is there already."""
    where = Path(folder)
    id = app_id(where.resolve().name)
    files = {
        "app.py": APP.format(id=id),
        "test_app.py": TEST,
        "pyproject.toml": PROJECT.format(id=id, version=__version__),
    }
    there = [name for name in files if (where / name).exists()]
    if there:
        raise ConfigError(f"nothing was written: {where / there[0]} is there already. Name another folder.")
    where.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_small_file(where / name, text.encode(), mode=0o666)
    show_rows(settings, [{"file": str(where / name)} for name in files], ("file",))
    enter = "" if folder == "." else f"cd {folder}; "
    note(f"run it: {enter}millstream dev app:app     its test: pip install pytest pytest-asyncio; pytest")
    note("then, from another terminal: millstream events send order/placed --data '{\"order\": 7}'")
    return OK


def app_id(name: str) -> str:
    """An app's id made of a folder's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[: limits.FUNCTION_ID_CHARS_MAX // 2] or "app"
