"""The dashboards are readable, ask for what is exported, and have a panel for every alert and every metric."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from millstream.telemetry import METRICS
from tests.deploy.prometheus import (
    EXPORTED,
    LABELS,
    OF_SCRAPES,
    RULES,
    SUFFIXES,
    asked,
    dashboards,
    grouped_by,
    metrics_of,
    promtool,
)

BOARDS = dashboards()
COLUMNS = 24


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels that show something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions(board: dict[str, Any]) -> list[str]:
    """Every expression as it stands in the file."""
    return [target["expr"] for panel in panels(board) for target in panel["targets"]]


ALL = [expression for board in BOARDS.values() for expression in expressions(board)]


def test_there_are_three() -> None:
    assert [board["title"].partition(" / ")[2] for board in BOARDS.values()] == [
        "Function",
        "Kafka and state",
        "Overview",
    ]
    assert len({board["uid"] for board in BOARDS.values()}) == 3


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_panel_can_be_read(board: dict[str, Any]) -> None:
    assert board["description"] and board["schemaVersion"] >= 41 and "id" not in board
    titles = [panel["title"] for panel in panels(board)]
    assert len(titles) == len(set(titles)) and len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in panels(board):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["title"] and panel["description"] and defaults["unit"] and defaults["thresholds"]["steps"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            assert target["legendFormat"] or panel["type"] == "table"
            by = {label for found in re.findall(r"\bby \(([^)]*)\)", target["expr"]) for label in found.split(", ")}
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= by | {"instance"}


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_panels_stand_side_by_side_and_do_not_overlap(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= COLUMNS and not taken & cells, panel["title"]
        taken |= cells


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_expression_uses_the_variables_that_there_are(board: dict[str, Any]) -> None:
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert {"datasource", "job"} <= variables
    for expression in expressions(board):
        selectors = re.findall(r"\b(?:millstream_\w+|up)({[^}]*})?", expression)
        assert selectors and all('job=~"$job"' in selector for selector in selectors), expression
        assert set(re.findall(r"\$(\w+)", expression)) <= variables | {"__rate_interval"}


def test_expressions_ask_only_for_metrics_and_labels_that_are_exported() -> None:
    text = "\n".join(ALL)
    assert metrics_of(text) - EXPORTED == set()
    assert grouped_by(text) - LABELS - OF_SCRAPES == set()
    kinds = {metric.name: metric.kind for metric in METRICS}
    for rated in re.findall(r"\b(?:rate|increase)\((millstream_\w+)", text):
        assert kinds.get(rated, "histogram") in ("counter", "histogram"), f"{rated} only goes up"


def test_prometheus_takes_every_expression(tmp_path: Any) -> None:
    pairs = [pair for board in BOARDS.values() for pair in asked(board)]
    rules = [{"record": f"panel:{n}", "expr": expression} for n, (_, expression) in enumerate(pairs)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(file))


def test_every_alert_is_named_at_a_panel_that_shows_what_it_asks_for() -> None:
    every = [panel for board in BOARDS.values() for panel in panels(board)]
    for rule in RULES:
        named = [panel for panel in every if re.search(rf"\b{rule['alert']}\b", panel["description"])]
        shown = metrics_of(" ".join(target["expr"] for panel in named for target in panel["targets"]))
        assert named, f"no panel says {rule['alert']}"
        assert metrics_of(rule["expr"]) & shown or rule["alert"] == "MillstreamDown"


def test_every_metric_is_on_a_dashboard() -> None:
    shown = {re.sub(f"({'|'.join(SUFFIXES)})$", "", name) for name in metrics_of("\n".join(ALL))}
    assert {metric.name for metric in METRICS} - shown == set()
