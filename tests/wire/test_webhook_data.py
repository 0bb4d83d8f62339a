"""The real input of the examples: is every line of it an event that a door would take?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from millstream.model.limits import EVENT_BYTES_MAX

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"
LINES = (DATA / "github-webhooks.jsonl").read_bytes().splitlines()
EVENTS: list[dict[str, Any]] = [json.loads(line) for line in LINES]


def test_every_line_is_an_event_within_the_limit_and_without_an_id() -> None:
    for line, event in zip(LINES, EVENTS, strict=True):
        assert event.keys() == {"name", "data"}
        assert isinstance(event["data"], dict)
        assert len(line) <= EVENT_BYTES_MAX


def test_the_name_is_the_webhook_and_its_action() -> None:
    for event in EVENTS:
        name, _, action = event["name"].partition(".")
        assert re.fullmatch(r"github/[a-z0-9_]+", name)
        assert action == event["data"].get("action", "")


def test_the_deliveries_that_the_examples_subscribe_to_are_there() -> None:
    names = {event["name"] for event in EVENTS}
    assert {"github/push", "github/issues.opened", "github/pull_request.opened"} <= names


def test_the_readme_counts_what_is_in_the_file() -> None:
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    size = sum(len(line) + 1 for line in LINES)
    names = len({event["name"] for event in EVENTS})
    assert f"{len(LINES)} real GitHub webhook deliveries, {names} event names, {size:,} bytes" in readme
    assert f"the longest line has {max(map(len, LINES)):,}" in readme
    assert (DATA / "LICENSE-octokit-webhooks-examples").is_file()
