"""The short form of ``make fuzz``: the same inputs every time."""

from __future__ import annotations

import pytest

from tests.wire.fuzz import Fuzz


@pytest.mark.parametrize("seed", range(4))
def test_no_foreign_record_is_an_end(seed: int) -> None:
    Fuzz(seed).run(1_000)
