"""Scans: starting a function on what lies in a topic already (backfill), looking how far they are, ending one.

A backfill is cut into ranges of offsets here, once, and each lane is asked to read those of its partitions. The id of
the scan is the cause of its runs. A client without an answer asks again with the same id: nothing is started twice.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiohttp import web

from millstream.api.answers import answer, found, iso
from millstream.api.door.budget import read_body
from millstream.api.door.door import DOOR, Door
from millstream.api.door.keys import may_act
from millstream.api.door.requests import Answer
from millstream.api.reading import positions
from millstream.api.times import parse_time
from millstream.errors import BadRequest, NotFound
from millstream.history.scans import ScanSeen
from millstream.model.commands import BackfillFunction, CancelScan, ScanRange
from millstream.model.function import EventTrigger, FunctionSpec, TopicTrigger
from millstream.model.ids import hash16, is_ulid, lane_of_source, ulid, ulid_time_ms

BODY_BYTES_MAX: Final = 64 * 1024
EARLIEST: Final = "earliest"
LATEST: Final = "latest"
SCAN_CHARS_MAX: Final = 1_024


class Backfill(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a backfill. ``start`` and ``end`` are "earliest", "latest", a time or Unix milliseconds."""

    topic: str
    start: str | int = msgspec.field(name="from", default=EARLIEST)
    end: str | int = msgspec.field(name="to", default=LATEST)
    dry_run: bool = False
    scan: str = ""


_backfill: Final = msgspec.json.Decoder(Backfill)


async def post_backfill(request: web.Request) -> web.Response:
    """``POST /api/functions/{slug}/backfill``: the scan's id and its ranges, once every lane has recorded them.

    ``dry_run`` only says which ranges they would be.
    """
    door = request.app[DOOR]
    may_act(request)
    slug = request.match_info["slug"]
    wanted = await _wanted(request, door)
    topic = wanted.topic
    _may_read(door, slug, topic)
    ranges = await _ranges(door, wanted)
    scan = wanted.scan or door.requests.new_id()
    shown: dict[str, Any] = {
        "scan": None if wanted.dry_run else scan,
        "function_id": slug,
        "topic": topic,
        "records": sum(r.upto - r.from_offset for r in ranges),
        "ranges": [{"partition": r.partition, "from": r.from_offset, "to": r.upto} for r in ranges],
    }
    if wanted.dry_run:
        return answer({"data": shown, "status": 200})
    by_lane: dict[int, list[ScanRange]] = {}
    for one in ranges:
        by_lane.setdefault(lane_of_source(topic, one.partition, door.config.lanes), []).append(one)
    for lane, mine in sorted(by_lane.items()):
        request_id = _request_id(scan, lane)
        message = BackfillFunction(slug, topic, tuple(mine), scan, request_id, door.config.reply_partition)
        answered = await door.requests.ask(lane, request_id, message)
        if answered.status != "started":
            raise BadRequest(f"backfill refused: lane {lane} answered {answered.outcome}.")
        await positions.shown(door, answered.reply)
    return answer({"data": shown, "status": 200})


async def delete_scan(request: web.Request) -> web.Response:
    """``DELETE /api/scans/{id}``: 200 once no lane reads for it any more; 404 where none did."""
    door = request.app[DOOR]
    may_act(request)
    scan = request.match_info["id"]
    if not scan or len(scan) > SCAN_CHARS_MAX:
        raise BadRequest(f"Invalid scan ID: expected 1 to {SCAN_CHARS_MAX} characters, got {len(scan)}")
    answers: list[Answer] = []
    for lane in range(door.config.lanes):
        request_id = door.requests.new_id()
        message = CancelScan(scan, request_id, door.config.reply_partition)
        answers.append(await door.requests.ask(lane, request_id, message))
    for answered in answers:
        await positions.shown(door, answered.reply)
    if not any(answered.status == "cancelled" for answered in answers):
        raise NotFound(f"no scan {scan[:64]!r} is under way. See GET /api/scans.")
    return answer({"data": {"scan": scan, "status": "Cancelled"}, "status": 200})


async def list_scans(request: web.Request) -> web.Response:
    """``GET /api/scans``: a row for each partition of each scan, the newest scans first."""
    scans = await request.app[DOOR].reads.ask(lambda queries: queries.scans())
    return found([_scan(scan) for scan in scans])


def _scan(scan: ScanSeen) -> dict[str, Any]:
    return {
        "scan": scan.scan,
        "function_id": scan.function,
        "topic": scan.topic,
        "partition": scan.partition,
        "purpose": scan.purpose,
        "status": scan.status,
        "from": scan.from_offset if scan.from_offset >= 0 else None,
        "at": scan.at if scan.at >= 0 else None,
        "to": scan.upto,
        "runs_started": scan.started,
        "began_at": iso(scan.began_ms),
        "ended_at": iso(scan.ended_ms),
    }


async def _wanted(request: web.Request, door: Door) -> Backfill:
    body = await read_body(request, door.budget, BODY_BYTES_MAX)
    try:
        wanted = _backfill.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as wrong:
        raise BadRequest(
            f'backfill refused: expected {{"topic": …, "from": …, "to": …, "dry_run": …}}, got {wrong}'
        ) from wrong
    finally:
        door.budget.give_back(len(body))
    if wanted.scan and not is_ulid(wanted.scan):
        raise BadRequest(f"backfill refused: scan must be the id of an earlier answer, got {wanted.scan[:64]!r}")
    return wanted


def _may_read(door: Door, slug: str, topic: str) -> None:
    """Raise NotFound for a function that is not there, BadRequest for one that does not read the topic."""
    specs = {spec.slug: spec for app in door.catalogue.apps.values() for spec in app.functions}
    spec = specs.get(slug)
    if spec is None:
        known = ", ".join(sorted(specs)[:20])
        raise NotFound(f"function {slug[:255]!r} not found. Known functions: {known or 'none'}.")
    if not _reads(spec, topic, door.config.events_topic):
        topics = sorted({t.topic for t in spec.triggers if isinstance(t, TopicTrigger)})
        raise BadRequest(
            f"backfill refused: function {slug!r} does not subscribe to topic {topic[:255]!r}, so nobody knows how to "
            f"read its records; it subscribes to {', '.join(topics) or 'no topic'}. Add on=Topic({topic[:255]!r})."
        )


def _reads(spec: FunctionSpec, topic: str, events_topic: str) -> bool:
    return any(
        (isinstance(t, TopicTrigger) and t.topic == topic) or (isinstance(t, EventTrigger) and topic == events_topic)
        for t in spec.triggers
    )


async def _ranges(door: Door, wanted: Backfill) -> list[ScanRange]:
    """The offsets of each partition that the times stand for now; those with nothing in between are left out."""
    log = door.config.log
    spec = await log.topic(wanted.topic)
    if spec is None:
        raise NotFound(f"topic {wanted.topic[:255]!r} not found.")
    ranges = []
    for partition in range(spec.partitions):
        first = await _offset(door, wanted.topic, partition, (wanted.start, "from"))
        upto = await _offset(door, wanted.topic, partition, (wanted.end, "to"))
        if first < upto:
            ranges.append(ScanRange(partition, first, upto))
    return ranges


async def _offset(door: Door, topic: str, partition: int, at: tuple[str | int, str]) -> int:
    text, name = at
    if text == EARLIEST:
        return await door.config.log.start_offset(topic, partition)
    if text == LATEST:
        return await door.config.log.end_offset(topic, partition)
    return await door.config.log.offset_at(topic, partition, parse_time(str(text), name))


def _request_id(scan: str, lane: int) -> str:
    """The same for the same scan and lane, so that asking again is known to the lane."""
    return ulid(ulid_time_ms(scan), hash16(scan, str(lane))[:10])
