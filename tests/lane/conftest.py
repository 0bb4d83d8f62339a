"""Tests of the lane run on a loop whose time is virtual: waiting costs nothing, and every run is the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.lane.rig import Rig, VirtualLoop


def pytest_configure(config: pytest.Config) -> None:
    # The fixture is the one way that every version of pytest-asyncio we allow has.
    config.addinivalue_line("filterwarnings", "ignore:Overriding the:pytest.PytestDeprecationWarning")


class _Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return VirtualLoop()


@pytest.fixture
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    return _Policy()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """One lane's world: a memory log that can be told to fail, a disk, an executor that only takes notes."""
    made = Rig()
    await made.create()
    yield made
    await made.close()
