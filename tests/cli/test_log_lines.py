"""What reaches the log of a server: its own facts and the user's lines, not every request of every library."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from millstream.telemetry import TALKATIVE, setup_logging


@pytest.fixture
def untouched() -> Iterator[None]:
    """The root logger and the libraries' are afterwards as they were."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in TALKATIVE}
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.NOTSET)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def lines_with(level: int) -> list[str]:
    """Who is heard of these."""
    stream = io.StringIO()
    setup_logging(stream, level=level)
    for name in ("httpx", "botocore.hooks", "shop.orders", "millstream.lane"):
        for at in (logging.INFO, logging.WARNING):
            logging.getLogger(name).log(at, "said")
    return [f"{line['logger']} {line['level']}" for line in map(json.loads, stream.getvalue().splitlines())]


@pytest.mark.usefixtures("untouched")
def test_libraries_are_heard_when_they_warn_and_the_users_code_always() -> None:
    assert lines_with(logging.INFO) == [
        "httpx warning",
        "botocore.hooks warning",
        "shop.orders info",
        "shop.orders warning",
        "millstream.lane info",
        "millstream.lane warning",
    ]


@pytest.mark.usefixtures("untouched")
def test_with_debug_libraries_are_heard_too() -> None:
    assert "httpx info" in lines_with(logging.DEBUG)


@pytest.mark.usefixtures("untouched")
def test_a_level_that_the_user_has_chosen_for_a_library_stays() -> None:
    logging.getLogger("httpx").setLevel(logging.INFO)
    assert "httpx info" in lines_with(logging.INFO)
