"""What a step publishes arrives as it is, or the step fails and says why; never in a topic of millstream's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from millstream import App, Context, Event, StepError
from millstream.lane.output.record_limits import RecordLimits
from millstream.log.memory.log import MemoryCluster, MemoryLog
from millstream.log.port import TopicSpec
from millstream.model.commands import Report
from millstream.model.event import NOT_SENT
from millstream.model.messages import OWN_TOPICS
from millstream.model.operations import PublishFound, StepFound
from millstream.testing import TestApp


def publisher() -> App:
    app = App("own")

    @app.function(on="pub", retries=0)
    async def pub(ctx: Context) -> str:
        data = ctx.event.data
        try:
            await ctx.step.publish("p", data["topic"], "k", data.get("value", 1), headers={"a": "1", "b": b"2"})
        except StepError as error:
            return error.name
        return "published"

    return app


@pytest.mark.parametrize("which", sorted(OWN_TOPICS))
async def test_the_groups_own_topics_take_no_record_of_a_step(which: str) -> None:
    async with TestApp(publisher()) as t:
        sent = await t.send(Event("pub", {"topic": f"test.{which}"}))
        assert sent.result == "FunctionError"
        assert "is one of the group's own topics" in sent.steps["p"].error.message
        again = await t.send(Event("pub", {"topic": f"mytest.{which}"}))
        assert again.result == "published"
        assert [record.topic for record in t.published] == [f"mytest.{which}"]


async def test_a_record_has_the_headers_that_were_given_and_no_value_where_none_was() -> None:
    async with TestApp(publisher()) as t:
        await t.send(Event("pub", {"topic": "fine", "value": None}))
        (record,) = t.published
        assert (record.key, record.value, record.headers) == (b"k", None, (("a", b"1"), ("b", b"2")))


# --- too large for its topic ------------------------------------------------------------------------


async def log_with(topic: str, record_bytes_max: int) -> MemoryLog:
    """A log with a topic that takes records of so many bytes."""
    log = MemoryCluster().client("a")
    await log.create_topics([TopicSpec(topic, 1, record_bytes_max=record_bytes_max)])
    return log


def publishes(topic: str, size: int) -> Report:
    return Report("run", "", 0, 1, (StepFound("other", "other"), PublishFound("p", "p", topic, b"k", b"x" * size)))


async def reported(limits: RecordLimits, queue: list[Any], report: Report) -> PublishFound:
    limits.submit(report)
    while not limits.idle:  # noqa: ASYNC110 - once, in a test
        await asyncio.sleep(0)
    _, found = queue.pop().operations
    assert isinstance(found, PublishFound)
    return found


async def test_a_record_that_is_too_large_for_its_topic_is_not_sent_and_says_so() -> None:
    queue: list[Any] = []
    limits = RecordLimits(await log_with("fine", 1_000_000), queue.append)
    for _ in range(2):
        assert (await reported(limits, queue, publishes("fine", 10))).value == b"x" * 10
        found = await reported(limits, queue, publishes("fine", 2_000_000))
        ((header, why),) = found.headers
        assert (header, found.value) == (NOT_SENT, b"")
        assert b"too large for topic 'fine', which takes 1000000" in why


async def test_where_nobody_knows_what_a_topic_takes_the_report_goes_on() -> None:
    queue: list[Any] = []
    limits = RecordLimits(MemoryCluster().client("a"), queue.append)
    assert (await reported(limits, queue, publishes("missing", 2_000_000))).headers == ()
