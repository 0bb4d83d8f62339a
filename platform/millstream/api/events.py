"""``POST /e/{key}``: events come in here. An answer 200 means: durable.

    200 {"ids": [internal ids], "status": 200}          an empty body or array: {"ids": [""], "status": 200}
    400 {"ids": [of the valid prefix], "status": 400, "error"}    the prefix is stored, the rest was not looked at;
                                                        of an array, the error names the index of the bad event
    401, 413, 429 and 503 (Retry-After)                  nothing is acknowledged

Internal ids are ULIDs. With the header ``x-inngest-event-id-seed: <millis>,<base64 of 10 bytes>`` they are the same
at every try, so that a repeated post starts nothing twice: event i gets the seed's ten bytes, as a number, plus i.
Answers are ``text/plain`` although they are JSON, but for a wrong key's: so does the reference server, and SDKs do not
look.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec
from aiohttp import web

from millstream.api.answers import JSON, TEXT, answer, status_of, with_retry_after, words_of
from millstream.api.door.bodies import Draft, at_index, read
from millstream.api.door.budget import read_body
from millstream.api.door.door import DOOR, Door
from millstream.api.door.keys import may_send
from millstream.api.door.quota import client_of
from millstream.api.door.seeds import ENTROPY_BYTES, SEED_HEADER, parse_seed
from millstream.errors import MillstreamError, NotAllowed, SchemaViolation
from millstream.log.port import Produced
from millstream.model import limits
from millstream.model.event import Envelope
from millstream.model.ids import encode_ulid
from millstream.wire.messages import encode_envelope
from millstream.wire.partition import partition_of
from millstream.wire.schemas import EventSchemas

READ_AT_ONCE_BYTES: Final = 128 * 1024
"""A larger body is read in a thread, so that no post holds up the loop, whatever is in it."""
PREPARED_AT_ONCE: Final = 250
_ENTROPY_MASK: Final = (1 << 80) - 1


async def post_events(request: web.Request) -> web.Response:
    """Take the events of one post."""
    begun = time.perf_counter()
    door = request.app[DOOR]
    telemetry = door.config.telemetry
    size = 0
    try:
        may_send(door.config.event_keys, request.match_info["key"])
        body = await read_body(request, door.budget, limits.REQUEST_BYTES_MAX)
        size = len(body)
        sender = request.match_info["key"] if door.config.event_keys else client_of(request.remote)
        response, count = await _take(door, sender, body, request.headers.get(SEED_HEADER, ""))
    except MillstreamError as error:
        status = status_of(error)
        kind = JSON if isinstance(error, NotAllowed) else TEXT
        response = answer(_refusal(error, status), status, content_type=kind)
        with_retry_after(response, error)
        telemetry.count("millstream_events_refused_total", 1, str(status))
        return response
    finally:
        door.budget.give_back(size)
    telemetry.observe("millstream_ingest_seconds", time.perf_counter() - begun)
    if count:
        telemetry.count("millstream_events_received_total", count)
    if response.status != 200:
        telemetry.count("millstream_events_refused_total", 1, str(response.status))
    return response


async def _take(door: Door, sender: str, body: bytes, seed: str) -> tuple[web.Response, int]:
    """Store the valid events of a body; the answer and how many were stored."""
    if len(body) <= READ_AT_ONCE_BYTES:
        drafts, wrong = read(body)
    else:
        drafts, wrong = await asyncio.get_running_loop().run_in_executor(door.large_bodies, read, body)
    door.quota.take(sender, len(drafts))
    ids, batches, violation = await _prepare(door, drafts, seed)
    if batches:
        await door.intake.store(batches)
    if violation and body.lstrip(b" \t\r\n")[:1] == b"[":
        violation = at_index(len(ids), violation)
    error = violation or wrong
    answered: dict[str, object] = {"ids": ids or [""], "status": 400 if error else 200}
    if error:
        answered["error"] = error
    return answer(answered, 400 if error else 200, content_type=TEXT), len(ids)


async def _prepare(door: Door, drafts: list[Draft], seed: str) -> tuple[list[str], dict[int, list[Produced]], str]:
    """The ids and records of events, by partition; and what a schema says against the first one that breaks it.

    The loop has its turn after each PREPARED_AT_ONCE of them: schemas cost some time.
    """
    now_ms = door.config.now_ms()
    at_ms, entropy = parse_seed(seed) or (now_ms, int.from_bytes(door.config.random(ENTROPY_BYTES), "big"))
    base, catalogue, partitions = at_ms << 80, door.catalogue.end, door.intake.partitions
    schemas = door.config.schemas
    ids: list[str] = []
    batches: dict[int, list[Produced]] = {}
    for d in () if schemas.complete else drafts:
        schemas.refuse_unknown(d.name)
    for number, d in enumerate(drafts):
        if number and number % PREPARED_AT_ONCE == 0:
            await asyncio.sleep(0)
        if schemas.get(d.name) is not None and (violation := _violation(schemas, d)):
            return ids, batches, violation
        internal = encode_ulid(base | entropy + number & _ENTROPY_MASK)
        ids.append(internal)
        id_ = d.id or internal
        envelope = Envelope(
            internal,
            id_,
            bool(d.id),
            d.name,
            d.data,
            d.ts_ms or now_ms,
            now_ms,
            d.key,
            d.user,
            d.v,
            d.meta,
            catalogue,
        )
        partition = partition_of(d.key or id_, partitions) if partitions > 1 else 0
        record = Produced(encode_envelope(envelope), d.key.encode() if d.key else None)
        batch = batches.get(partition)
        if batch is None:
            batches[partition] = [record]
        else:
            batch.append(record)
    return ids, batches, ""


def _violation(schemas: EventSchemas, d: Draft) -> str:
    """What the event's schema says against it; empty: nothing."""
    try:
        schemas.check(d.name, msgspec.json.decode(d.data))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as broken:
        return f"event data is malformed: {broken}"
    except SchemaViolation as violation:
        return str(violation)
    return ""


def _refusal(error: MillstreamError, status: int) -> dict[str, object]:
    if isinstance(error, NotAllowed):
        return {"status": status, "message": "", "error": words_of(error)}
    return {"ids": [""], "status": status, "error": words_of(error)}
