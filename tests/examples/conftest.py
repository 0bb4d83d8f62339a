"""What the tests of the examples share: a database of their own, mail without the wait, the real deliveries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples import mail
from millstream import Event

DELIVERIES = Path(__file__).resolve().parents[2] / "examples" / "data" / "github-webhooks.jsonl"


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "examples.db"
    monkeypatch.setenv("EXAMPLES_DB", str(path))
    monkeypatch.setattr(mail, "DELIVERY_S", 0.0)
    return path


@pytest.fixture(scope="session")
def deliveries() -> list[Event]:
    lines = DELIVERIES.read_text(encoding="utf-8").splitlines()
    return [Event(**json.loads(line)) for line in lines]
