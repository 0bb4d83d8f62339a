"""What deploy/prometheus says of metrics is true, and each alert fires when it should and only then."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.deploy.prometheus import (
    ALERTS,
    DEPLOY,
    EXPORTED,
    LABELS,
    OF_SCRAPES,
    RULES,
    grouped_by,
    metrics_of,
    promtool,
)
from tests.docs.blocks import ROOT

TESTS: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
MONITOR = (ROOT / "docs" / "how-to" / "monitor.md").read_text(encoding="utf-8")


def test_alert_rules_ask_only_for_metrics_that_are_exported() -> None:
    assert metrics_of(ALERTS) - EXPORTED == set()


def test_alert_rules_group_only_by_labels_that_there_are() -> None:
    assert grouped_by(ALERTS) - LABELS - OF_SCRAPES == set()


def test_every_alert_has_a_name_of_its_own_says_what_is_wrong_and_what_to_do() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names)) > 20
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_promtool_takes_the_rules_and_the_example_of_a_configuration() -> None:
    promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "prometheus.yml")


def test_each_alert_fires_on_what_is_bad_and_not_on_what_is_good() -> None:
    promtool("test", "rules", "alerts_test.yml")


def test_no_alert_is_left_out_of_these_tests() -> None:
    names = [rule["alert"] for rule in RULES]
    assert [test["name"] for test in TESTS[: len(names)]] == names
    for rule, test in zip(RULES, TESTS, strict=False):
        series = [one["series"] for one in test["input_series"]]
        (asked,) = test["promql_expr_test"]
        fires = [sample["labels"] for sample in asked["exp_samples"]]
        assert asked["expr"] == 'ALERTS{alertstate="firing"}', "all that fires is listed"
        assert fires and all(f'alertname="{rule["alert"]}"' in labels for labels in fires)
        assert any('"good' in one for one in series) and not any('"good' in labels for labels in fires), rule["alert"]
        assert metrics_of(rule["expr"]) <= {re.split("[{ ]", one)[0] for one in series} | {"millstream_build_info"}


def test_the_page_for_operators_lists_every_alert_with_what_to_do_as_the_rules_say() -> None:
    rows = re.findall(r"^\| `(Millstream\w+)` \| (\w+) \| (.+) \|$", MONITOR, re.MULTILINE)
    assert [(name, severity) for name, severity, _ in rows] == [(r["alert"], r["labels"]["severity"]) for r in RULES]
    for (_, _, action), rule in zip(rows, RULES, strict=True):
        assert action == shown(rule["annotations"]["action"])


def shown(action: str) -> str:
    """An action as the page has it: without the template of a label."""
    return action.replace("{{ $labels.function }}", "FUNCTION")
