"""One site and one browser for the tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome

from tests.browser import chromium
from tests.sdk.examples.nextjs.site import Site, opened


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site, built and registered."""
    with opened(tmp_path_factory.mktemp("nextjs")) as made:
        yield made


@pytest.fixture(scope="session")
def browser() -> Iterator[Chrome]:
    """A Chromium."""
    with chromium() as window:
        yield window
