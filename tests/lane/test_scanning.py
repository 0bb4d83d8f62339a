"""``lane/input/scan_reader.py``: what a scan reads is looked at as closely as what comes in live."""

from __future__ import annotations

from millstream.model.commands import BackfillFunction, ScanRange
from millstream.model.event import Envelope
from millstream.model.facts import RunStarted, ScanEnded
from millstream.wire.schemas import event_schema
from tests.core.values import app, function, internal_id
from tests.lane.rig import EVENTS, LETTERS, Rig, until

SHOP = app(function("ship", "order/placed"))
SCAN = internal_id(900)
LONG_N = '{"type": "record", "name": "Placed", "fields": [{"name": "n", "type": "long"}]}'


def direct(data: bytes) -> Envelope:
    """An event as another program writes it to the topic: no door has looked at it."""
    return Envelope("", "", False, "order/placed", data, 0, 0)


async def test_a_scan_refuses_what_other_programs_wrote_and_no_schema_of_today_fits(rig: Rig) -> None:
    """They were read before there was a schema; the function of today may rely on it."""
    owner = await rig.own()
    await rig.register(SHOP)
    await until(lambda: owner.lane.catalogue_seen == 1)
    await rig.send(direct(b'{"n": "one"}'), direct(b'{"n": 2}'))
    await until(lambda: len(rig.facts(RunStarted)) == 2)
    owner.lane.parts.event_schemas.replace([event_schema("order/placed", LONG_N, "1")])
    owner.lane.submit(BackfillFunction("ship", EVENTS[0], (ScanRange(EVENTS[1], 0, 2),), SCAN, internal_id(901), 0))
    await until(lambda: rig.facts(ScanEnded))
    (again,) = rig.facts(RunStarted)[2:]
    assert again.cause == SCAN
    await until(lambda: rig.records(LETTERS))
    (letter,) = rig.records(LETTERS)
    assert b'{"n": "one"}' in (letter.value or b"")
    assert any(b"field 'n'" in value for _, value in letter.headers)
