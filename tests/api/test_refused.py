"""What a lane could not decide is answered with its reason, never as "not found" (lanes.md rule 22)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from millstream.core import nouns
from millstream.model.commands import BackfillFunction, CancelRun, CancelScan, InvokeFunction
from tests.api.door import FULFIL, make_shop, open_world

SCAN = "01JQ0000000000000000000000"


@pytest.mark.parametrize(
    ("kind", "method", "path", "body"),
    [
        (InvokeFunction, "POST", f"/invoke/{FULFIL}", {}),
        (CancelRun, "DELETE", "/v1/runs/{run}", None),
        (BackfillFunction, "POST", f"/api/functions/{FULFIL}/backfill", {"topic": "events"}),
        (CancelScan, "DELETE", f"/api/scans/{SCAN}", None),
    ],
)
async def test_a_request_that_the_lane_refuses_is_a_400_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type, method: str, path: str, body: Any
) -> None:
    def undecided(tables: Any, command: Any, now_ms: int) -> list[Any]:
        raise ZeroDivisionError("a bug of a lane")

    async with open_world(tmp_path, apps=[make_shop()]) as world:
        _, run = await world.started(then="wait")
        monkeypatch.setitem(nouns.DECIDE, kind, undecided)
        status, answer, _ = await world.call(method, path.format(run=run), json=body)
        assert status == 400, answer
        assert "refused" in answer["error"] and "a bug of a lane" in answer["error"]
