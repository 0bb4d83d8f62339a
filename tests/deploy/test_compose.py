"""docker-compose.yml is what Compose accepts, and asks millstream only for what it has."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from millstream import __version__
from millstream.config import BY_VARIABLE
from tests.docs.blocks import ROOT

yaml = pytest.importorskip("yaml", reason="pip install '.[chart]'")
FILE = ROOT / "docker-compose.yml"
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def test_it_is_what_compose_accepts() -> None:
    pytest.importorskip("check_jsonschema", reason="pip install '.[chart]'")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_it_has_the_roles_of_a_group_and_no_version() -> None:
    assert "version" not in DOCUMENT
    assert {"kafka", "topics", "worker", "api", "history"} <= SERVICES.keys()
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    for role in ("worker", "api", "history"):
        assert SERVICES[role]["depends_on"] == {"topics": {"condition": "service_completed_successfully"}}


def test_every_setting_and_every_command_is_one_that_millstream_has() -> None:
    for name, service in OURS.items():
        unknown = [one for one in service.get("environment", {}) if one.startswith("MILLSTREAM_")]
        assert [one for one in unknown if one not in BY_VARIABLE] == [], name
        words = [*service.get("entrypoint", ["millstream"])[1:], *service["command"]]
        flags = [word.split("=")[0] for word in words if word.startswith("--")]
        command = [word for word in words if not word.startswith("--") and ":" not in word]
        ran = subprocess.run(
            [sys.executable, "-m", "millstream", *command, "--help"], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, f"{name}: {ran.stderr}"
        assert [flag for flag in flags if flag not in ran.stdout] == [], name


def test_only_this_machine_is_let_in_and_tags_are_pinned() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert service["image"].rpartition(":")[2] not in ("", "latest"), name
    assert {service["image"] for service in OURS.values()} == {f"millstream:{__version__}"}


def test_ours_run_without_rights_they_do_not_need() -> None:
    for name, service in OURS.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
