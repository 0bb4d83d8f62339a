"""The kit that users test their functions with: the real engine in memory, in virtual time.

    from millstream.testing import TestApp, sequence

    async def test_an_order_is_shipped_after_three_days() -> None:
        async with TestApp(app) as t:
            charge = t.stub("charge", sequence([TimeoutError("slow"), {"id": 7}]))
            t.crash_after("charge")
            run = await t.send(Event("order/placed", {"order": 1}))
            await t.advance("3d")
            assert run.result == {"shipped": True}
            assert run.steps["charge"].attempts == len(charge.calls) == 2

It needs no server, no network and no pytest; it runs on any asyncio loop. With pytest there is the fixture
``millstream_app`` (``plugin.py``). Handlers and step functions stay plain callables: test those alone without any kit.

Importing this package is cheap: the engine is loaded when a name is first used, since pytest imports the plugin in
every project where millstream is installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from millstream.testing.app import TestApp
    from millstream.testing.expectations import NotAsExpected
    from millstream.testing.record import Published
    from millstream.testing.stubs import Call, Stub, sequence
    from millstream.testing.views import Failed, Run, Sent, Step

__all__ = [
    "Call",
    "Failed",
    "NotAsExpected",
    "Published",
    "Run",
    "Sent",
    "Step",
    "Stub",
    "TestApp",
    "sequence",
]

_HOMES: Final = {
    "Call": "stubs",
    "Failed": "views",
    "NotAsExpected": "expectations",
    "Published": "record",
    "Run": "views",
    "Sent": "views",
    "Step": "views",
    "Stub": "stubs",
    "TestApp": "app",
    "sequence": "stubs",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
