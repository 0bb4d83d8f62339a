"""A record that somebody else has written into a journal is passed over and said, and ends no lane."""

from __future__ import annotations

import logging

import pytest

from millstream.errors import Corruption
from millstream.log.port import Produced
from millstream.model.journal import JournalRecord
from millstream.model.operations import BodyDone
from millstream.wire.journal import Validity
from tests.core.values import app, event, function, report
from tests.lane.rig import JOURNAL, Rig, until

SHOP = app(function("ship", "order/placed"))
FOREIGN = [b'{"a":1}', b"", b"\x00\x00\x00\x00\x01binary", None]


@pytest.mark.parametrize("value", FOREIGN, ids=range(len(FOREIGN)))
async def test_a_lane_lives_on_over_a_foreign_record_and_its_successor_too(
    rig: Rig,
    value: bytes | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await rig.register(SHOP)
    owner = await rig.own()
    await rig.send(event(1))
    await until(lambda: owner.desk.started)
    await rig.put(JOURNAL, Produced(value, b"k"), partition=0)
    await rig.send(event(2))
    await until(lambda: len(owner.desk.started) == 2)
    await rig.put(JOURNAL, Produced(value, b"k"), partition=0)
    await owner.stop()
    with caplog.at_level(logging.ERROR, "millstream.lane"):
        again = await rig.own()
        await until(lambda: len(again.desk.started) == 2)
    said = [record for record in caplog.records if record.message.startswith("foreign record passed over")]
    assert len(said) == 2
    for started in again.desk.started:
        again.lane.submit(report(started.run, started.dispatch, BodyDone(b"1")))
    await until(lambda: len(again.lane.tables.durable.runs.scan(limit=9)) == 0)


def test_a_record_that_is_missing_where_a_foreign_one_lies_was_damaged() -> None:
    validity = Validity(b"8 bytes.", 4)
    validity.pass_over()
    assert validity.take(JournalRecord(b"8 bytes.", 5, 0, ())) is not None
    validity.pass_over()
    with pytest.raises(Corruption, match="the record was damaged"):
        validity.take(JournalRecord(b"8 bytes.", 7, 0, ()))
