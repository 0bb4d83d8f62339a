"""``log/kafka/admin/shapes.py``: whoever has asked is answered, also when the client is replaced meanwhile."""

from __future__ import annotations

import asyncio
import gc

import pytest
from confluent_kafka.admin import AdminClient, OffsetSpec

from millstream.errors import OperatorError
from millstream.log.kafka.admin import shapes
from millstream.log.kafka.settings import KafkaSettings

NOBODY = KafkaSettings(brokers="127.0.0.1:1")


async def test_a_question_under_way_ends_when_another_one_replaces_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "ASKED_FOR_S", 0.0)
    topics = shapes.Shapes(NOBODY)
    asking = asyncio.ensure_future(topics.offset("events", 3, OffsetSpec.latest()))
    await asyncio.sleep(0.1)
    topics.admin = AdminClient(NOBODY.admin())
    gc.collect()
    async with asyncio.timeout(10):
        with pytest.raises(OperatorError, match="did not say where it begins and ends"):
            await asking
