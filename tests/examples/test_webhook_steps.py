"""The work of the webhook steps, called as the plain functions they are."""

from __future__ import annotations

from typing import Any

import pytest

from examples import webhooks
from millstream import Event, NonRetriableError


def test_every_step_function_knows_every_delivery_of_its_kind(deliveries: list[Event]) -> None:
    for event in deliveries:
        data: dict[str, Any] = dict(event.data)
        assert webhooks.depth(data) >= 2
        if event.name == "github/push" and not data["deleted"]:
            assert "Codertocat/Hello-World" in webhooks.write_line(data, webhooks.count_files(data["commits"]))


def test_a_push_is_told_in_one_line_with_its_files_by_suffix() -> None:
    commits: list[dict[str, Any]] = [
        {"added": ["a.py", "b.py"], "modified": ["README"], "removed": []},
        {"added": [], "modified": ["docs/a.md"], "removed": ["c.py"]},
    ]
    push = {
        "ref": "refs/heads/fix/typo",
        "commits": commits,
        "pusher": {"name": "ada"},
        "repository": {"full_name": "a/b"},
    }
    line = webhooks.write_line(push, webhooks.count_files(commits))
    assert line == "ada pushed 2 commits (3 .py, 1 (none), 1 .md) to a/b fix/typo"


def test_an_issue_is_classified_by_the_words_of_title_and_body() -> None:
    words = webhooks.read_words({"number": 1, "title": "Typo", "body": "Please fix the README."})
    assert webhooks.classify(words) == ["docs", "request"]


def test_an_issue_without_a_body_is_refused_with_its_title() -> None:
    with pytest.raises(NonRetriableError, match=r"issue 7 \('Help'\) .* expected a text in field 'body', got null"):
        webhooks.read_words({"number": 7, "title": "Help", "body": None})


@pytest.mark.parametrize(("lines", "refused"), [(400, False), (401, True)])
def test_a_pull_request_of_more_lines_than_are_read_with_care_is_refused(lines: int, refused: bool) -> None:
    pull = {"additions": lines - 1, "deletions": 1}
    if refused:
        with pytest.raises(NonRetriableError, match="at most 400"):
            webhooks.is_reviewable(pull)
    else:
        webhooks.is_reviewable(pull)
