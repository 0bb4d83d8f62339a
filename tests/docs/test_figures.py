"""The figures that a rule states are those of the code."""

from __future__ import annotations

import re

import pytest

from millstream.errors import ConfigError
from millstream.lane.ownership.restore import TRIES_S
from millstream.lane.settings import LaneSettings
from millstream.log.kafka.settings import TRANSACTION_MS, TRIM_LAG_MS_MIN, KafkaSettings
from millstream.roles.group import Group
from millstream.roles.worker import WorkerSettings
from tests.docs.blocks import ROOT

RULES = (ROOT / "docs" / "lanes.md").read_text(encoding="utf-8")
GROUP = Group(kafka=KafkaSettings())


def of_rule(number: int) -> str:
    """The text of a rule, on one line."""
    found = re.search(rf"^{number}\. .*?(?=^\d+a?\. |^## )", RULES, re.MULTILINE | re.DOTALL)
    assert found is not None
    return " ".join(found[0].split())


def test_rule_13_states_the_times_of_a_checkpoints_transaction() -> None:
    rule = of_rule(13)
    assert f"may take **{TRANSACTION_MS // 1_000} s**" in rule
    assert f"tries for {TRIES_S:.0f} s" in rule
    assert f"less than **{TRIM_LAG_MS_MIN // 1_000} s**" in rule
    assert f"{LaneSettings().trim_lag_ms // 60_000} minutes by default" in rule
    hidden = re.search(r"hide the checkpoint's topics for up to (\d+) s", (ROOT / "docs" / "guarantees.md").read_text())
    assert hidden is not None and int(hidden[1]) * 1_000 == TRANSACTION_MS


def test_a_restore_outlasts_a_hidden_checkpoint_and_the_journal_outlasts_the_restore() -> None:
    assert TRANSACTION_MS < TRIES_S * 1_000 < TRIM_LAG_MS_MIN


def test_a_worker_refuses_a_trim_lag_that_a_dead_workers_checkpoint_outlasts() -> None:
    WorkerSettings(group=GROUP, lane=LaneSettings(trim_lag_ms=TRIM_LAG_MS_MIN))
    with pytest.raises(ConfigError, match="Give --trim-lag 1m or more"):
        WorkerSettings(group=GROUP, lane=LaneSettings(trim_lag_ms=TRIM_LAG_MS_MIN - 1))
