"""The webhooks on their real input: every delivery of the file through the functions."""

from __future__ import annotations

from collections import Counter

from examples import records, webhooks
from millstream import Event
from millstream.testing import TestApp


async def test_every_delivery_is_tallied_and_one_run_fails_for_a_reason_worth_reading(deliveries: list[Event]) -> None:
    async with TestApp(webhooks.app) as t:
        for delivery in deliveries:
            await t.send(delivery)
        ended = Counter((run.function.removeprefix("webhooks-"), run.status) for run in t.runs)
        failed = [run for run in t.runs if run.status == "Failed"]
    assert ended == {
        ("tally", "Completed"): len(deliveries),
        ("summarise_push", "Completed"): 3,
        ("gate_pull_request", "Completed"): 27,
        ("triage_issue", "Completed"): 7,
        ("triage_issue", "Failed"): 1,
        ("triage_issue-failure", "Completed"): 1,
    }
    assert "expected a text in field 'body', got null" in failed[0].error.message
    assert len(failed[0].error.message) < 300
    (asked,) = records.found("question")
    assert asked["question"].startswith("@Codertocat: issue 1")


async def test_a_push_is_summarised_and_the_summary_announced(deliveries: list[Event]) -> None:
    pushes = [event for event in deliveries if event.name == "github/push"]
    async with TestApp(webhooks.app) as t:
        for push in pushes:
            await t.send(push)
        lines = [run.result for run in t.runs if run.function == "webhooks-summarise_push"]
    assert lines == [
        "Codertocat tagged Codertocat/Hello-World simple-tag",
        "Codertocat pushed 1 commit (1 .md) to Codertocat/Hello-World master",
        "Codertocat pushed 1 commit (1 .md) to Codertocat/Hello-World master",
    ]


async def test_a_pull_request_that_may_not_be_merged_says_all_that_stands_against_it(deliveries: list[Event]) -> None:
    pulls = [event for event in deliveries if event.name.startswith("github/pull_request.")]
    bare = next(event for event in pulls if event.data["pull_request"]["body"] is None)
    draft = next(event for event in pulls if event.data["pull_request"]["draft"])
    good = next(event for event in pulls if event.name == "github/pull_request.ready_for_review")
    async with TestApp(webhooks.app) as t:
        for event in (bare, draft, good):
            await t.send(event)
        verdicts = [run.result for run in t.runs if run.function == "webhooks-gate_pull_request"]
    assert [(verdict["verdict"], list(verdict["objections"])) for verdict in verdicts] == [
        ("hold", ["is_described", "is_mergeable"]),
        ("hold", ["is_ready"]),
        ("merge", []),
    ]
