"""The pytest plugin: the fixture ``millstream_app``, and the runs of a test that failed beside its traceback.

    async def test_an_order_is_charged(millstream_app) -> None:
        async with millstream_app(app) as t:
            run = await t.send(Event("order/placed", {"order": 1}))
            assert run.status == "Completed"

The fixture makes ``TestApp``s. It is a plain fixture, so it works with pytest-asyncio (auto and strict) and with anyio
on asyncio. pytest loads this file wherever millstream is installed: the engine is imported when the fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from millstream.testing.app import TestApp

REPORT_CHARS_MAX: Final = 20_000
_MADE: Final = pytest.StashKey[list[Any]]()


@pytest.fixture
def millstream_app(request: pytest.FixtureRequest) -> Callable[..., TestApp]:
    """Makes a ``millstream.testing.TestApp``; takes what that takes. If the test fails, its report shows the runs."""
    from millstream.testing.app import TestApp

    made: list[Any] = []
    request.node.stash[_MADE] = made

    def make(*apps: Any, **options: Any) -> TestApp:
        test = TestApp(*apps, **options)
        made.append(test)
        return test

    return make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the runs to the report of a test that failed."""
    result = yield
    made = item.stash.get(_MADE, None)
    if made and call.when == "call" and result.failed:
        text = "\n".join(test.report() for test in made)
        result.sections.append(("millstream runs", text[:REPORT_CHARS_MAX] or "no run was started"))
    return result
