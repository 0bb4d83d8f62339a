"""``millstream doctor``: is everything around a process of the group as it must be? Silent and 0 when it is.

One line for each problem, on stdout, with what to do; then exit code 6. What is looked at between here and Kafka is in
``log/kafka/admin/health.py``; whether a topic waits for a schema, in ``schema_registry/held.py``; what belongs to this
machine, here.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from millstream.cli.support.exits import CHECK_FAILED, OK, note
from millstream.cli.support.kafka_group import kafka_of, shape_of, unsaid
from millstream.cli.support.output import chosen, show_rows
from millstream.config import Settings
from millstream.errors import OperatorError
from millstream.log.group_topics import GroupShape
from millstream.log.kafka.admin.client import Admin
from millstream.log.kafka.admin.health import health
from millstream.log.kafka.log import KafkaLog
from millstream.log.kafka.settings import KafkaSettings
from millstream.model.text.printable import one_line
from millstream.model.text.redaction import redacted
from millstream.roles import group_record
from millstream.schema_registry.boundary import Boundary
from millstream.schema_registry.held import held_partitions

FREE_BYTES_MIN: Final = 1 << 30
FREE_SHARE_MIN: Final = 0.05
WITHOUT_KAFKA: Final = "What dev and serve keep in a directory needs none: check it with millstream lanes verify."


def examine(settings: Settings, role: str) -> int:
    """Print the problems; 0 for none, else 6."""
    kafka, shape = kafka_of(settings), shape_of(settings)
    problems = list(health(kafka, shape, role, unsaid=unsaid(settings)))
    if role == "worker":
        if not problems:  # Else the topics may not be there, or not be reached.
            problems += asyncio.run(_record_problems(kafka, shape))
        problems += disk_problems(Path(settings.text("data")))
        if not problems:  # Else what is said already may be why they wait.
            problems += asyncio.run(_held(settings, kafka, shape))
    problems = [one_line(redacted(problem)) for problem in problems]
    if problems and settings.is_default("brokers"):
        note(
            f"doctor looks at a group on Kafka, here at {kafka.brokers}, since no --brokers was given. {WITHOUT_KAFKA}"
        )
    if chosen(settings) in ("json", "jsonl") and settings.text("output") != "auto":
        show_rows(settings, ({"problem": problem} for problem in problems), ("problem",))
    else:
        for problem in problems:
            print(problem)
    return CHECK_FAILED if problems else OK


async def _held(settings: Settings, kafka: KafkaSettings, shape: GroupShape) -> list[str]:
    boundary = Boundary.of(settings)
    log = await KafkaLog.open(kafka)
    try:
        lines = held_partitions(
            log, shape.group, shape.events_topic, boundary.foreign, partial(Admin(kafka).committed, shape.group)
        )
        return [line async for line in lines]
    except OperatorError as error:
        return [f"whether a topic waits for a schema could not be seen: {error}"]
    finally:
        await log.close()


async def _record_problems(kafka: KafkaSettings, shape: GroupShape) -> list[str]:
    log = await KafkaLog.open(kafka)
    try:
        return await group_record.problems(log, shape)
    finally:
        await log.close()


def disk_problems(data: Path) -> Iterator[str]:
    """The local store is a cache, but a worker whose disk is full stops."""
    folder = next(parent for parent in (data.absolute(), *data.absolute().parents) if parent.is_dir())
    total, _, free = shutil.disk_usage(folder)
    if free < min(FREE_BYTES_MIN, total) or free < total * FREE_SHARE_MIN:
        yield (
            f"the disk of {data} has {free / (1 << 30):.1f} GiB free of {total / (1 << 30):.1f} GiB; expected at least "
            f"{FREE_BYTES_MIN >> 30} GiB and {FREE_SHARE_MIN:.0%}. Free some, or name another directory with --data."
        )
