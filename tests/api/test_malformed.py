"""What is no HTTP gets a 400 in JSON, and the log one line at debug level."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest

from tests.api.door import open_world

MALFORMED = {
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x1b[31m\r\n\r\n",
    "a method that is none": b"G\x1b[31mT / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a version that is none": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    "a line's end in a header": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\nFAKE: c\r\x00\r\n\r\n",
    "a length that is none": b"POST /e/x HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
}


async def answered(port: int, sent: bytes) -> bytes:
    """What a server says to these bytes until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_request_is_a_400_in_json_and_one_line_at_debug_level(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "aiohttp.server")  # A test that set up logging has made it quiet.
    async with open_world(tmp_path) as world:
        caplog.clear()
        said = await answered(world.served.port, sent)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.split()[1] == b"400" and b"application/json" in head, said
    assert json.loads(body)["status"] == 400 and json.loads(body)["error"]
    lines = [record for record in caplog.records if record.name.startswith("aiohttp")]
    assert [(line.levelno, line.exc_info) for line in lines] == [(logging.DEBUG, None)]
    assert "malformed request" in lines[0].getMessage() and lines[0].getMessage().isprintable()
