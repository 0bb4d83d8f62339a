"""What an append to Kafka says of its outcome, from the delivery reports of its records in any order and mixture."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message

from millstream.errors import LimitExceeded, LogUnavailable
from millstream.log.kafka.errors import NOT_WRITTEN
from millstream.log.kafka.writers import Append, SharedProducer
from millstream.log.port import OutcomeUnknown

TIMED_OUT = KafkaError._MSG_TIMED_OUT
PURGED = KafkaError._PURGE_QUEUE
TOO_LARGE = KafkaError.MSG_SIZE_TOO_LARGE
IN_FLIGHT = KafkaError._PURGE_INFLIGHT


async def outcome(*reports: int | str) -> int | BaseException | None:
    """Of an append whose records were reported so: an offset as text, or the code of an error."""
    loop = asyncio.get_running_loop()
    shared: Any = SimpleNamespace(completed=deque())
    writer: Any = SimpleNamespace(place="g.inbox/0")
    append = Append(writer, shared, loop.create_future(), 0, len(reports))
    for report in reports:
        if isinstance(report, str):
            append.on_delivery(None, Message(topic="g.inbox", partition=0, offset=int(report)))
        else:
            append.on_delivery(KafkaError(report), Message(topic="g.inbox", partition=0, offset=-1001))
    assert list(shared.completed) == [append]
    append.resolve()
    error = append.future.exception()
    return append.future.result() if error is None else error


async def test_records_in_a_row_are_answered_with_the_first_offset() -> None:
    assert await outcome("7", "8", "9") == 7
    assert await outcome("7", "9", "10") is None, "stored, and others' between them"


@pytest.mark.parametrize("code", sorted(NOT_WRITTEN))
async def test_an_append_of_which_every_record_was_refused_is_not_written(code: int) -> None:
    error = await outcome(code, PURGED, code)
    assert isinstance(error, LogUnavailable | LimitExceeded) and not isinstance(error, OutcomeUnknown)


@pytest.mark.parametrize("unknown", [TIMED_OUT, IN_FLIGHT])
@pytest.mark.parametrize("certain", [PURGED, TOO_LARGE])
async def test_an_append_of_which_one_record_may_be_there_is_unknown_in_any_order(unknown: int, certain: int) -> None:
    for reports in permutations((unknown, certain, certain)):
        assert isinstance(await outcome(*reports), OutcomeUnknown), reports


async def test_an_append_of_which_one_record_is_there_is_unknown_in_any_order() -> None:
    for reports in permutations(("7", PURGED, TOO_LARGE)):
        assert isinstance(await outcome(*reports), OutcomeUnknown), reports


async def test_a_producer_that_its_thread_has_closed_can_be_given_up_and_purged_again() -> None:
    """A lane that gave up an append closed its writer a moment later, and was stopped by "Producer has been closed"."""
    nowhere = {"bootstrap.servers": "127.0.0.1:9", "log_level": 0, "error_cb": lambda error: None}
    shared = SharedProducer(nowhere, asyncio.get_running_loop(), 60.0)
    shared.give_up()
    await asyncio.to_thread(shared.thread.join)
    with pytest.raises(RuntimeError):
        shared.producer.purge()
    await shared.purge()
