"""A few hundred of the requests that ``make fuzz`` makes a million of."""

from __future__ import annotations

from pathlib import Path

from tests.api.fuzz import fuzz


async def test_no_bytes_cost_a_good_event_or_an_internal_error(tmp_path: Path) -> None:
    await fuzz(1_500, 1, tmp_path)
