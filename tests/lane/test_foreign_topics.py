"""A topic whose records cannot be read: each is a dead letter and said; one whose *schema* is not known waits."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from millstream.errors import ConfigError, LogUnavailable
from millstream.log.port import Produced
from millstream.model.event import FUNCTION_FAILED, FUNCTION_FINISHED, Envelope
from millstream.model.facts import CommandRefused, RunCompleted, RunStarted
from millstream.model.function import Reading
from millstream.model.ids import ulid
from millstream.model.operations import BodyDone
from millstream.schema_registry.held import held_partitions
from millstream.schema_registry.sources import FileSchemas
from millstream.wire.formats.framing import SchemaRef
from millstream.wire.formats.known import KnownSchemas
from millstream.wire.messages import encode_envelope
from tests.core.values import PLACE, app, event, function, report
from tests.lane.rig import LETTERS, TELEMETRY, Rig, until
from tests.lane.test_subscriptions import PAY, bill, json_records, make, shop, started

SCHEMA = '{"type": "record", "name": "Payment", "fields": [{"name": "n", "type": "int"}]}'


def held() -> float:
    return TELEMETRY.registry.get_sample_value("millstream_partitions_held", {"lane": str(PLACE.lane)}) or 0


def said(caplog: pytest.LogCaptureFixture, what: str) -> list[Any]:
    """The fields of the log lines that say this."""
    return [vars(record)["fields"] for record in caplog.records if record.getMessage() == what]


class LateRegistry:
    """Schemas that come when the test gives them."""

    def __init__(self) -> None:
        self.known = KnownSchemas(has_registry=True)
        self.there = False
        self.asked = 0

    async def fetch(self, ref: SchemaRef) -> None:
        self.asked += 1
        if not self.there:
            raise LogUnavailable("the registry did not answer")
        self.known.learn(ref, SCHEMA)

    async def look(self) -> None:
        """Nothing changes here."""


async def test_a_topic_whose_schema_nobody_gave_is_held_and_said_once(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.client("a")
    p = (await make(rig))[0]
    await rig.put(PAY, Produced(b"\x02"), Produced(b"\x04"), partition=p)
    await rig.register(shop(bill(reading=Reading("avro", "Payment"))))
    with caplog.at_level(logging.INFO, "millstream.lane.sources"):
        first = await rig.own()
        await until(lambda: held() == 1)
        await rig.here.sleep(600)
    assert not rig.records(LETTERS) and not rig.facts(CommandRefused) and not started(rig)
    (line,) = said(caplog, "partition held")
    assert "name Payment" in line["why"] and "--schemas" in line["why"] and line["topic"] == PAY
    await first.stop()
    assert held() == 0


async def test_a_held_topic_goes_on_where_it_was_once_the_schema_is_there(rig: Rig) -> None:
    schemas = LateRegistry()
    rig.schemas = schemas
    await rig.client("a")
    p = (await make(rig))[0]
    await rig.put(PAY, Produced(b"\0\0\0\0\1\x02"), Produced(b"\0\0\0\0\1\x04"), partition=p)
    await rig.register(shop(bill(reading=Reading("avro"))))
    await rig.own()
    await until(lambda: schemas.asked > 3 and held() == 1)
    schemas.there = True
    await until(lambda: started(rig) == [1, 2])
    assert held() == 0 and not rig.records(LETTERS)


async def test_a_function_that_comes_while_a_record_waits_is_read_for_too(rig: Rig) -> None:
    """Between the look for schemas and the decision the catalogue changes: the new way of reading needs its schema."""
    schemas = LateRegistry()
    rig.schemas = schemas
    await rig.client("a")
    p = (await make(rig))[0]
    await rig.register(shop(bill(reading=Reading("avro"))))
    await rig.own()
    await rig.put(PAY, Produced(b"\0\0\0\0\1\x02"), partition=p)
    await until(lambda: held() == 1)
    await rig.register(shop(bill("more-bill", reading=Reading("avro", key="data.n")), id="more"))
    await rig.here.sleep(5)
    schemas.there = True
    await until(lambda: started(rig) == [1] and started(rig, "more-bill") == [1])
    assert not rig.records(LETTERS)


@pytest.mark.parametrize(
    ("kind", "flag"),
    [("fingerprint", "--schemas"), ("name", "--schemas"), ("id", "--registry"), ("guid", "--registry")],
)
async def test_without_a_registry_a_schema_in_no_file_is_the_operators_to_give(kind: str, flag: str) -> None:
    with pytest.raises(ConfigError, match=rf"{flag}\).* start this process again\. Nothing is lost"):
        await FileSchemas().fetch(SchemaRef(kind, "9"))


async def test_a_held_topic_goes_on_once_its_schema_is_a_file(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig.schemas = FileSchemas(KnownSchemas([tmp_path]))
    await rig.client("a")
    p = (await make(rig))[0]
    await rig.put(PAY, Produced(b"\x02"), Produced(b"\x04"), partition=p)
    await rig.register(shop(bill(reading=Reading("avro", "Payment"))))
    with caplog.at_level(logging.INFO, "millstream"):
        await rig.own()
        await until(lambda: held() == 1)
        (tmp_path / "payment.avsc").write_text(SCHEMA[:-9])  # Not all of it is there yet.
        await until(lambda: said(caplog, "schema files refused"))
        (tmp_path / "payment.avsc").write_text(SCHEMA)
        await until(lambda: started(rig) == [1, 2])
    assert held() == 0 and not rig.records(LETTERS)
    (line,) = said(caplog, "partition held")
    assert str(tmp_path) in line["why"] and "goes on by itself" in line["why"]
    assert len(said(caplog, "schema files refused")) == 1


async def test_a_list_called_op_starts_the_function_and_the_lane_goes_on(rig: Rig) -> None:
    await rig.client("a")
    p = (await make(rig))[0]
    await rig.register(shop(bill()))
    await rig.own()
    await rig.put(PAY, Produced(b'{"op":[1],"n":2}'), *json_records(3), partition=p)
    await until(lambda: started(rig) == [2, 3])
    assert not rig.facts(CommandRefused)


async def test_the_first_dead_letter_of_a_topic_is_said_at_once_and_the_others_are_counted(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.client("a")
    p = (await make(rig))[0]
    await rig.register(shop(bill(reading=Reading("json"))))
    await rig.own()
    with caplog.at_level(logging.WARNING, "millstream.lane"):
        await rig.put(PAY, *[Produced(b"{no json \xed\xa0\x80")] * 50, partition=p)
        await until(lambda: len(rig.records(LETTERS)) == 50)
        await rig.here.sleep(61)
        await rig.put(PAY, Produced(b"{no json"), partition=p)
        await until(lambda: len(rig.records(LETTERS)) == 51)
    first, second = said(caplog, "set aside")
    assert (first["subject"], first["count"], second["count"]) == (f"{PAY}/{p}@0", 1, 50)
    assert "expected UTF-8 JSON" in first["why"]


class TestEventsOfOtherProducers:
    """Anybody who may write to the events topic can fill any field of an envelope."""

    UUID = "6f9619ff-8b86-d011-b42d-00c04fc964ff"

    async def test_what_only_the_server_sends_and_what_no_server_writes_are_dead_letters(self, rig: Rig) -> None:
        now = rig.here.now_ms()
        forged = Envelope(self.UUID, "1", True, FUNCTION_FAILED, b'{"function_id":"shop-x"}', now, now)
        ours = event(1)
        letters = [
            forged,
            msgspec.structs.replace(forged, internal_id=ulid(now, bytes(10))),
            msgspec.structs.replace(forged, internal_id=""),
            Envelope(self.UUID, "2", True, "order/placed", b"{}", now, -1),
            msgspec.structs.replace(ours, received_at_ms=-1),
            msgspec.structs.replace(ours, received_at_ms=2**62),
            msgspec.structs.replace(ours, ts_ms=-1),
            msgspec.structs.replace(ours, ts_ms=2**62),
            msgspec.structs.replace(ours, data=b"\xff"),
            msgspec.structs.replace(ours, internal_id="../../etc"),
        ]
        await rig.register(app(function("ship", "order/placed", FUNCTION_FAILED)))
        await rig.own()
        await rig.put("events", *(Produced(encode_envelope(each)) for each in letters))
        await rig.send(event(2))
        await until(lambda: len(rig.records(LETTERS)) == len(letters))
        await until(lambda: rig.facts(RunStarted))
        assert len(rig.facts(RunStarted)) == 1

    async def test_a_time_that_is_far_from_the_records_own_is_not_believed(self, rig: Rig) -> None:
        await rig.register(app(function("ship", "order/placed")))
        owner = await rig.own()
        await rig.send(msgspec.structs.replace(event(1, id="a"), received_at_ms=4_000_000_000_000))
        await rig.send(event(2, id="a"))
        await until(lambda: (row := owner.lane.tables.durable.positions.get(("events", 1))) and row.offset == 2)
        assert len(rig.facts(RunStarted)) == 1, "the hours in which ids are remembered went to the year 2096"

    async def test_the_servers_own_announcement_is_taken(self, rig: Rig) -> None:
        await rig.register(app(function("ship", "order/placed"), function("watch", FUNCTION_FINISHED)))
        owner = await rig.own()
        await rig.send(event(1))
        await until(lambda: owner.desk.started)
        first = owner.desk.started[0]
        owner.lane.submit(report(first.run, first.dispatch, BodyDone(b"1")))
        await until(lambda: rig.facts(RunCompleted))
        (row,) = [
            r for r in rig.records("events", 0) + rig.records("events", 1) if b"function.finished" in (r.value or b"")
        ]
        await rig.put("events", Produced(row.value or b""))  # Wherever its key has put it.
        await until(lambda: len(rig.facts(RunStarted)) == 2)
        assert rig.facts(RunStarted)[1].function == "watch"
        assert not rig.records(LETTERS)


async def test_a_partition_that_is_held_is_seen_from_outside_unless_it_moves(rig: Rig, tmp_path: Path) -> None:
    log = await rig.client("a")
    p = (await make(rig))[0]
    await rig.put(PAY, Produced(b"\x02"), partition=p)
    await rig.register(shop(bill(reading=Reading("avro", "Payment"))))
    await rig.own()
    await until(lambda: held() == 1)

    async def seen(*positions: int, schemas: FileSchemas | None = None) -> list[str]:
        answers = iter(positions)
        lines = held_partitions(
            log, PLACE.group, PLACE.events_topic, schemas or FileSchemas(), lambda: {(PAY, p): next(answers)}
        )
        return [line async for line in lines]

    (line,) = await seen(0, 0)
    assert f"topic {PAY!r} partition {p} is held at offset 0: the schema by the name Payment is not known" in line
    assert await seen(0, 1) == [], "it has gone on"
    assert await seen(1) == [], "there is nothing to read"
    (tmp_path / "payment.avsc").write_text(SCHEMA)
    assert await seen(0, schemas=FileSchemas(KnownSchemas([tmp_path]))) == []
