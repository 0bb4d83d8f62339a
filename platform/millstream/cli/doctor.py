"""``millstream doctor``: is everything around a process of the group as it must be? Silent and 0 when it is.

One line for each problem, on stdout, with what to do; then exit code 6. What is looked at between here and Kafka is in
``log/kafka/admin/health.py``; here is what belongs to this machine.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from millstream.cli.support.exits import CHECK_FAILED, OK
from millstream.cli.support.kafka_group import kafka_of, shape_of, unsaid
from millstream.cli.support.output import chosen, show_rows
from millstream.config import Settings
from millstream.log.kafka.admin.health import health

FREE_BYTES_MIN: Final = 1 << 30
FREE_SHARE_MIN: Final = 0.05


def examine(settings: Settings, role: str) -> int:
    """Print the problems; 0 for none, else 6."""
    kafka, shape = kafka_of(settings), shape_of(settings)
    problems = list(health(kafka, shape, role, unsaid=unsaid(settings)))
    if role == "worker":
        problems += disk_problems(Path(settings.text("data")))
    if chosen(settings) in ("json", "jsonl") and settings.text("output") != "auto":
        show_rows(settings, ({"problem": problem} for problem in problems), ("problem",))
    else:
        for problem in problems:
            print(problem)
    return CHECK_FAILED if problems else OK


def disk_problems(data: Path) -> Iterator[str]:
    """The local store is a cache, but a worker whose disk is full stops."""
    folder = next(parent for parent in (data.absolute(), *data.absolute().parents) if parent.is_dir())
    total, _, free = shutil.disk_usage(folder)
    if free < min(FREE_BYTES_MIN, total) or free < total * FREE_SHARE_MIN:
        yield (
            f"the disk of {data} has {free / (1 << 30):.1f} GiB free of {total / (1 << 30):.1f} GiB; expected at least "
            f"{FREE_BYTES_MIN >> 30} GiB and {FREE_SHARE_MIN:.0%}. Free some, or name another directory with --data."
        )
