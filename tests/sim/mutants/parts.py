"""Faults in parts that no simulated world runs: the disk of the embedded log, old formats (lanes.md rules 17 and 33).

The test of the part notices them.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from millstream.log.embedded.writer import SqliteWriter
from millstream.wire import journal
from tests.log.test_embedded import TestDiskFull
from tests.sim.mutants.mutant import Mutant, Patch
from tests.wire import test_journal


def _a_failed_disk() -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(TestDiskFull().test_after_a_failed_disk_nothing_is_tried_again(Path(folder)))


def _go_on_after_a_failed_sync(patch: Patch) -> None:
    def broken(self: Any, error: Exception) -> None:
        """The next sync may succeed."""

    patch.set(SqliteWriter, "_broken", broken)


def _read_any_format(patch: Patch) -> None:
    patch.set(journal, "FORMAT_MAX", 1 << 30)


MUTANTS: tuple[Mutant, ...] = (
    Mutant("go on after a failed sync", "17", _go_on_after_a_failed_sync, _a_failed_disk),
    Mutant("read any format", "33", _read_any_format, test_journal.test_a_format_of_a_newer_version_is_refused),
)
