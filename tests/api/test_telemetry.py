"""Metrics are one table with bounded labels; log lines are facts."""

from __future__ import annotations

import io
import json
import logging

import pytest

from millstream import telemetry
from millstream.telemetry import METRICS, Telemetry, say, setup_logging


def test_every_metric_of_the_table_is_exported() -> None:
    metrics = Telemetry(version="1.2")
    text = metrics.exposition()[0].decode()
    for metric in METRICS:
        assert f"# HELP {metric.name.removesuffix('_total') if metric.kind != 'counter' else metric.name} " in text
    assert 'millstream_build_info{python="' in text
    assert 'version="1.2"' in text


def test_past_their_limit_labels_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "CHILDREN_PER_METRIC_MAX", 2)
    metrics = Telemetry()
    for n in range(5):
        metrics.count("millstream_runs_started_total", 1, f"app-{n}")
    text = metrics.exposition()[0].decode()
    assert 'millstream_runs_started_total{function="(other)"} 3.0' in text


def test_a_log_line_is_a_fact_with_fields() -> None:
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    try:
        setup_logging(stream)
        say(logging.getLogger("lane"), "lane restored", lane=3, facts=18220)
        line = json.loads(stream.getvalue())
        assert (line["fact"], line["lane"], line["facts"], line["level"]) == ("lane restored", 3, 18220, "info")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
