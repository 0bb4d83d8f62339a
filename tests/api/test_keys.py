"""Where event keys are set, what starts or ends runs asks for one; reading does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.door import GROUP, open_world

RUN = "01M83166TFPXY6W1PP2C82TPXR"
ACTS = [("POST", "/invoke/app-fn"), ("DELETE", f"/v1/runs/{RUN}")]


@pytest.mark.parametrize(("method", "path"), ACTS)
@pytest.mark.parametrize(
    "header", ["", "Bearer wrong", "Bearer undefined", "Basic right", "Bearer", "right", "Bearer é"]
)
async def test_without_one_of_the_keys_nothing_is_asked_of_a_lane(
    tmp_path: Path, method: str, path: str, header: str
) -> None:
    async with open_world(tmp_path, event_keys=frozenset({"right", "other"})) as world:
        headers = {"Authorization": header} if header else {}
        async with world.http.request(method, world.served.url + path, headers=headers) as response:
            assert response.status == 401
            assert "key" in (await response.json(content_type=None))["error"].lower()
        assert await world.log.end_offset(f"{GROUP}.inbox", 0) == 0


@pytest.mark.parametrize(("method", "path"), ACTS)
@pytest.mark.parametrize("keys", [frozenset({"right", "other"}), frozenset()])
async def test_with_one_of_them_or_where_there_are_none_the_lane_is_asked(
    tmp_path: Path, method: str, path: str, keys: frozenset[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.api.door.requests.TRY_S", 0.05)
    async with open_world(tmp_path, event_keys=keys) as world:
        headers = {"Authorization": "bearer right" if keys else "Bearer undefined"}
        async with world.http.request(method, world.served.url + path, headers=headers) as response:
            assert response.status == 503, "no lane lives here"
        assert await world.log.end_offset(f"{GROUP}.inbox", 0) > 0


async def test_reading_asks_for_none(tmp_path: Path) -> None:
    async with open_world(tmp_path, event_keys=frozenset({"right"})) as world:
        for path, status in (("/api/runs", 200), ("/v1/events", 200), (f"/v1/runs/{RUN}", 404), ("/health", 200)):
            async with world.http.get(world.served.url + path) as response:
                assert response.status == status
