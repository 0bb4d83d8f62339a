"""A real Prometheus for tests: its two programs, and one that scrapes what a test has started.

Where they cannot be had (no Debian, no network) tests are skipped with the reason; with CI set they fail.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from millstream.telemetry import METRICS
from tests.docs.blocks import ROOT
from tests.kafka.fleet import free_port, until

DEPLOY = ROOT / "deploy" / "prometheus"
ALERTS = (DEPLOY / "alerts.yml").read_text(encoding="utf-8")
RULES: list[dict[str, Any]] = [rule for group in yaml.safe_load(ALERTS)["groups"] for rule in group["rules"]]
SUFFIXES = ("_bucket", "_sum", "_count")
EXPORTED = {metric.name for metric in METRICS} | {
    f"{metric.name}{suffix}" for metric in METRICS if metric.kind == "histogram" for suffix in SUFFIXES
}
LABELS = {label for metric in METRICS for label in metric.labels}
OF_SCRAPES = {"job", "instance", "namespace", "pod", "le"}
"""Labels that a scrape or a PodMonitor adds; and that of a histogram's buckets."""
SOMETHING_IS_MISSING = 3
SUBSTITUTES = (("$__rate_interval", "20s"), ("$__all", ".*"))


@cache
def programs() -> Path:
    """The folder of `prometheus` and `promtool`; skips the test where there is none."""
    ran = subprocess.run([sys.executable, DEPLOY / "programs"], capture_output=True, text=True, check=False)
    if ran.returncode == SOMETHING_IS_MISSING:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs a real Prometheus. {ran.stderr.strip()}")
        pytest.skip(ran.stderr.strip())
    assert ran.returncode == 0, ran.stderr
    return Path(ran.stdout.strip())


def promtool(*arguments: str, said: str = "") -> str:
    """What promtool says, once it is content."""
    ran = subprocess.run(
        [programs() / "promtool", *arguments], input=said, capture_output=True, text=True, cwd=DEPLOY, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def dashboards() -> dict[str, Any]:
    """Every dashboard, by the name of its file."""
    return {
        path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted((DEPLOY / "dashboards").glob("*"))
    }


def asked(dashboard: dict[str, Any]) -> list[tuple[str, str]]:
    """Title and expression of every target, with each variable at All."""
    names = [variable["name"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    found = []
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in (*SUBSTITUTES, *((f"${name}", ".*") for name in names)):
                expression = expression.replace(name, value)
            found.append((f"{dashboard['title']}: {panel['title']}", expression))
    return found


def metrics_of(text: str) -> set[str]:
    """The metrics that a text names."""
    return set(re.findall(r"\bmillstream_\w+", text))


def grouped_by(text: str) -> set[str]:
    """The labels by which expressions in a text group or match."""
    return {label.strip() for found in re.findall(r"\b(?:by|on) \(([^)]*)\)", text) for label in found.split(",")}


class Prometheus:
    """One that scrapes these ports of this machine every second, as `prometheus.yml` says."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(DEPLOY / name) for name in config["rule_files"]]
        (job,) = config["scrape_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.port = free_port()
        self._output = folder / "prometheus.log"
        with self._output.open("wb") as told:
            self._popen = subprocess.Popen(
                [
                    programs() / "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'prometheus'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=told,
                stderr=told,
            )
        until("prometheus", self._is_ready)

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The series of an instant query that have a number now."""
        found = self._get("query", query=expression)["result"]
        series = [(one["metric"], float(one["value"][1])) for one in found]
        return [(labels, value) for labels, value in series if not math.isnan(value)]

    def rules(self) -> dict[str, dict[str, Any]]:
        """The alert rules as they were last evaluated, by name."""
        groups = self._get("rules")["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    def close(self) -> None:
        """Kill it."""
        self._popen.kill()
        self._popen.wait(30)

    def _is_ready(self) -> bool:
        assert self._popen.poll() is None, self._output.read_text()[-3_000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _get(self, what: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error
