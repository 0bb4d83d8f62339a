"""Dead letters: looking at them, and starting functions on one once more when what was wrong is mended.

    GET  /api/dead-letters?limit=&before=        the newest first, without their values
    GET  /api/dead-letters/{id}                  one with key, value and headers; its id is its offset
    POST /api/dead-letters/{id}/redrive          {"function": "shop-bill"} or {}: all that subscribe

A redrive is a backfill of one record: the function reads the *original* where it lies, with the schemas and the code of
now. Nothing is written to anybody's topic, so other readers of it see nothing; and a record that its topic has dropped
cannot be driven again. A function that has started on it before starts again, as with any backfill.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from millstream.api.answers import answer, found, iso, parse_number
from millstream.api.door.budget import read_body
from millstream.api.door.door import DOOR, Door
from millstream.api.door.keys import may_act
from millstream.api.reading import positions
from millstream.errors import BadRequest, Corruption, NotFound, OffsetOutOfRange
from millstream.log.port import Log, Record
from millstream.model.commands import BackfillFunction, ScanRange
from millstream.model.function import EventTrigger, FunctionSpec, TopicTrigger, patterns
from millstream.model.ids import lane_of_source
from millstream.model.messages import group_topic
from millstream.wire.events_topic import Written, read_event

PARTITION: Final = 0  # The topic has one.
LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 1_000
BODY_BYTES_MAX: Final = 64 * 1024
READ_BYTES_MAX: Final = 16 * 1024 * 1024
READ_WAIT_S: Final = 1.0
READS_MAX: Final = 1_000
OURS: Final = "millstream-"


class Redrive(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a redrive. ``function`` is a slug; empty: every function that subscribes to the record's topic."""

    function: str = ""


_redrive: Final = msgspec.json.Decoder(Redrive)


async def list_letters(request: web.Request) -> web.Response:
    """``GET /api/dead-letters``. ``before`` is the id of the last one of the page before."""
    door = request.app[DOOR]
    limit = parse_number(request.query.get("limit", str(LIMIT_DEFAULT)), "limit", LIMIT_MAX)
    topic = _topic(door)
    upto = await door.config.log.end_offset(topic, PARTITION)
    if before := request.query.get("before", ""):
        upto = min(upto, _number(before))
    first = max(upto - limit, await door.config.log.start_offset(topic, PARTITION))
    letters = [_row(record) async for record in _records(door.config.log, topic, (first, upto))]
    letters.reverse()
    return found(letters, before=str(first) if letters and first > 0 else None)


async def get_letter(request: web.Request) -> web.Response:
    """``GET /api/dead-letters/{id}``: text as text; what is none as base64."""
    record = await _letter(request)
    theirs = [[name, _text(value)] for name, value in record.headers if not name.startswith(OURS)]
    value = None if ("millstream-value", b"null") in record.headers else _text(record.value)
    return found(_row(record) | {"key": _text(record.key), "value": value, "headers": theirs})


async def post_redrive(request: web.Request) -> web.Response:
    """``POST /api/dead-letters/{id}/redrive``: the functions that read the record now, and the scans that do it."""
    door = request.app[DOOR]
    may_act(request)
    row = _row(await _letter(request))
    wanted = await _wanted(request, door)
    topic, partition, offset = row["topic"], row["partition"], row["offset"]
    if topic.startswith(group_topic(door.config.group, "")) or partition is None or offset is None:
        raise BadRequest(f"dead letter {row['id']} cannot be driven again: topic {topic[:255]!r} is the server's own.")
    original = await _original(door, topic, partition, offset)
    functions = _functions(door, (topic, partition), original, wanted)
    lane = lane_of_source(topic, partition, door.config.lanes)
    started: list[dict[str, str]] = []
    for slug in functions:
        scan, id = door.requests.new_id(), door.requests.new_id()
        ranges = (ScanRange(partition, offset, offset + 1),)
        message = BackfillFunction(slug, topic, ranges, scan, id, door.config.reply_partition)
        answered = await door.requests.ask(lane, id, message)
        if answered.status != "started":
            raise BadRequest(f"redrive refused: lane {lane} answered {answered.outcome}.")
        await positions.shown(door, answered.reply)
        started.append({"function_id": slug, "scan": scan})
    return answer({"data": {"id": row["id"], "redriven": started}, "status": 200})


def _functions(door: Door, source: tuple[str, int], original: Record, wanted: str) -> Sequence[str]:
    """The slugs of the functions that read the record. Raises NotFound where there are none."""
    topic, partition = source
    specs = [spec for app in door.catalogue.apps.values() for spec in app.functions]
    names: frozenset[str] = frozenset()
    if topic == door.config.events_topic:
        try:
            at = Written(topic, partition, original.offset, original.at_ms)
            names = frozenset(patterns(read_event(at, original.value or b"", door.config.schemas).name))
        except Corruption as error:
            raise BadRequest(f"the record is still no event, and would only be set aside again: {error}") from error
    found = sorted(spec.slug for spec in specs if _reads(spec, topic, names) and wanted in ("", spec.slug))
    if not found:
        who = f"function {wanted[:255]!r} does not read" if wanted else "no function reads"
        raise NotFound(f"{who} records of topic {topic[:255]!r} such as this one. Deploy one that does.")
    return found


def _reads(spec: FunctionSpec, topic: str, names: frozenset[str]) -> bool:
    return any(
        (isinstance(trigger, TopicTrigger) and trigger.topic == topic)
        or (isinstance(trigger, EventTrigger) and trigger.event in names)
        for trigger in spec.triggers
    )


async def _original(door: Door, topic: str, partition: int, offset: int) -> Record:
    log = door.config.log
    spec = await log.topic(topic)
    gone = f"the record {topic[:255]}/{partition}@{offset} is not in its topic any more, and cannot be driven again"
    if spec is None or partition >= spec.partitions:
        raise NotFound(f"{gone}: the topic is gone. The dead letter still has its value.")
    records = [record async for record in _records(log, topic, (offset, offset + 1), partition)]
    if not records:
        raise NotFound(f"{gone}: it was removed or compacted. The dead letter still has its value.")
    return records[0]


async def _letter(request: web.Request) -> Record:
    door = request.app[DOOR]
    offset = _number(request.match_info["id"])
    records = [record async for record in _records(door.config.log, _topic(door), (offset, offset + 1))]
    if not records:
        raise NotFound(f"no dead letter {offset}. See GET /api/dead-letters; they are kept for a week by default.")
    return records[0]


async def _records(log: Log, topic: str, between: tuple[int, int], partition: int = PARTITION) -> AsyncIterator[Record]:
    """The records between two offsets (the second excluded) that are there; few are held at once."""
    first, upto = between
    upto = min(upto, await log.end_offset(topic, partition))
    if first < await log.start_offset(topic, partition) or first >= upto:
        return
    reader = log.reader(topic, partition, first)
    try:
        for _ in range(READS_MAX):
            left = upto - reader.position
            if left <= 0:
                break
            page = await reader.read(max_records=left, max_bytes=READ_BYTES_MAX, wait_s=READ_WAIT_S)
            for record in page:
                if record.offset < upto:
                    yield record
    except OffsetOutOfRange:  # Removed in between.
        return
    finally:
        await reader.close()


def _row(record: Record) -> dict[str, Any]:
    """A letter by what our headers say; the last of a name is ours, whatever its producer has written before."""
    ours = {name: value.decode("utf-8", "replace") for name, value in record.headers if name.startswith(OURS)}
    partition, offset, at = (_whole(ours.get(f"{OURS}{name}", "")) for name in ("partition", "offset", "at"))
    return {
        "id": str(record.offset),
        "at": iso(at or record.at_ms),
        "topic": ours.get("millstream-topic", ""),
        "partition": partition,
        "offset": offset,
        "bytes": len(record.value or b""),
        "reason": ours.get("millstream-reason", ""),
    }


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def _text(data: bytes | None) -> object:
    try:
        return data.decode() if data is not None else None
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data or b"").decode()}


def _number(text: str) -> int:
    number = _whole(text)
    if number is None:
        raise BadRequest(f"Invalid dead letter ID: expected a number as GET /api/dead-letters shows, got {text[:64]!r}")
    return number


def _topic(door: Door) -> str:
    return group_topic(door.config.group, "dead-letters")


async def _wanted(request: web.Request, door: Door) -> str:
    body = await read_body(request, door.budget, BODY_BYTES_MAX)
    try:
        return _redrive.decode(body or b"{}").function
    except (msgspec.MsgspecError, UnicodeDecodeError) as wrong:
        raise BadRequest(f'redrive refused: expected {{"function": …}} or nothing, got {wrong}') from wrong
    finally:
        door.budget.give_back(len(body))
