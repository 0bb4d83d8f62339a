"""What deploy/prometheus says of metrics is true."""

from __future__ import annotations

import re

from millstream.telemetry import METRICS
from tests.docs.blocks import ROOT

ALERTS = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8")


def test_alert_rules_ask_only_for_metrics_that_are_exported() -> None:
    exported = {metric.name for metric in METRICS} | {f"{m.name}_bucket" for m in METRICS if m.kind == "histogram"}
    asked = set(re.findall(r"\bmillstream_\w+", ALERTS))
    assert asked - exported == set()


def test_alert_rules_group_only_by_labels_that_the_metrics_have() -> None:
    labels = {label for metric in METRICS for label in metric.labels} | {"instance", "le"}
    grouped = {label.strip() for found in re.findall(r"by \(([^)]*)\)", ALERTS) for label in found.split(",")}
    assert grouped - labels == set()


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    alerts = ALERTS.count("- alert:")
    assert alerts > 5
    assert ALERTS.count("summary: ") == ALERTS.count("action: ") == ALERTS.count("severity: ") == alerts
