"""How long an embedded log keeps a topic may be changed; nothing else of a topic may."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from millstream.errors import ConfigError
from millstream.log.embedded.log import EmbeddedLog, EmbeddedOptions
from millstream.log.port import Produced, TopicSpec

EVENTS = TopicSpec("events", 2, retention_ms=1_000)


async def test_a_topic_is_kept_as_long_as_was_said_last(tmp_path: Path) -> None:
    now = 1_000_000
    options = EmbeddedOptions(now_ms=lambda: now)
    log = await EmbeddedLog.open(tmp_path, options=options)
    await log.create_topics([EVENTS])
    await log.writer("events", 1).append([Produced(b"old")])
    await log.keep([replace(EVENTS, retention_ms=60_000), TopicSpec("not made", 1)])
    now += 10_000
    await log.retain()
    assert await log.start_offset("events", 1) == 0
    await log.close()

    log = await EmbeddedLog.open(tmp_path, options=options)
    with pytest.raises(ConfigError, match="another shape"):
        await log.create_topics([EVENTS])
    await log.keep([EVENTS])
    await log.create_topics([EVENTS])
    await log.retain()
    assert await log.start_offset("events", 1) == 1
    assert await log.topic("not made") is None
    await log.close()
