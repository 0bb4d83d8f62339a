"""Faults in scans: each record of a scan's range starts its function exactly once (lanes.md rule 18)."""

from __future__ import annotations

from typing import Any

import msgspec

from millstream.core.intake import topics
from millstream.lane.input import scan_reader
from millstream.model.commands import AdvanceScan
from tests.sim.mutants.mutant import Mutant, Patch


def _forget_the_position(patch: Patch) -> None:
    """Every page is the first one."""
    real = scan_reader.ScanReader._page

    async def page(self: Any, row: Any, reading: Any) -> Any:
        if row.at <= max(row.from_offset, 0):
            return await real(self, row, reading)
        first = await real(self, msgspec.structs.replace(row, at=max(row.from_offset, 0)), reading)
        if first is None:
            return None
        return AdvanceScan(row.scan, row.partition, row.at, max(first.to_offset, row.at + 1), first.reads)

    patch.set(scan_reader.ScanReader, "_page", page)


def _border(by: int) -> Any:
    def apply(patch: Patch) -> None:
        real = topics._since

        def since(function: str, topic: str, since_ms: int, partition: int, border: tuple[int, int]) -> Any:
            return real(function, topic, since_ms, partition, (border[0], max(border[1] + by, 0)))

        patch.set(topics, "_since", since)

    return apply


MUTANTS: tuple[Mutant, ...] = (
    Mutant("a scan forgets its position", "18", _forget_the_position),
    Mutant("a scan and the live source overlap", "18", _border(+1)),
    Mutant("a scan ends before the live source begins", "18", _border(-1)),
)
