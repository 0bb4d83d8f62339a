"""A report that cannot be encoded on its way out of a child process fails its step or body; it is never lost."""

from __future__ import annotations

import asyncio
import socket

import pytest

from millstream.execute.processes.messages import Connection, FromChild, Reported, ToChild
from millstream.model.commands import Report
from millstream.model.operations import BodyDone, BodyErrored, StepDone, StepErrored


@pytest.mark.parametrize("step", ["", "s"])
async def test_a_report_that_cannot_be_encoded_arrives_as_a_failure(step: str) -> None:
    loop = asyncio.get_running_loop()
    got: asyncio.Queue[Reported] = asyncio.Queue()
    near, far = socket.socketpair()
    child = Connection(ToChild, print, lambda: None)
    await loop.create_unix_connection(lambda: Connection(FromChild, got.put_nowait, lambda: None), sock=near)
    await loop.create_unix_connection(lambda: child, sock=far)
    child.send(Reported(1, Report("run", step, 0, 7, (StepDone("\udce9", "\udce9", b"1", 0),))))
    child.send(Reported(1, Report("run", "", 0, 8, (BodyDone(b"1"),))))
    bad, good = await got.get(), await got.get()
    (operation,) = bad.report.operations
    assert isinstance(operation, StepErrored if step else BodyErrored)
    assert (bad.report.dispatch, operation.retriable) == (7, False)
    assert "the report of StepDone could not be sent" in operation.failure.message
    assert good.report.operations == (BodyDone(b"1"),)
    child.close()
