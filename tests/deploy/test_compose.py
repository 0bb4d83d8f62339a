"""docker-compose.yml is what Compose accepts, and asks millstream only for what it has."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from millstream import __version__
from millstream.config import BY_VARIABLE
from tests.deploy.services import interpolated, seconds
from tests.docs.blocks import ROOT

yaml = pytest.importorskip("yaml", reason="pip install '.[chart]'")
FILE = ROOT / "docker-compose.yml"
TEXT = FILE.read_text(encoding="utf-8")
DOCUMENT: dict[str, Any] = yaml.safe_load(TEXT)
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


def test_each_that_stays_says_how_it_is_asked_for_its_health_and_how_long_it_may_take_to_stop() -> None:
    """Cheaply: a Python or a Java that is started every few seconds costs more than what it asks."""
    for name, service in SERVICES.items():
        assert "stop_grace_period" in service, name
        check = service["healthcheck"]
        if check.get("disable"):
            assert name == "topics"
        elif name in OURS:
            assert check["test"][:2] == ["CMD", "healthcheck"] and check["test"][2].endswith("/livez"), name
        else:
            assert check["test"][:2] == ["CMD", "bash"], name


def test_every_variable_is_explained_in_the_example_of_an_env_file() -> None:
    asked = set(re.findall(r"\$\{(\w+)", "\n".join(line.partition(" #")[0] for line in TEXT.splitlines())))
    explained = re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.M)
    assert asked == set(explained)


def test_every_named_volume_is_declared_and_used() -> None:
    mounted = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", [])]
    assert {source for source, *rest in mounted if rest and not source.startswith((".", "/"))} == set(
        DOCUMENT["volumes"]
    )


def test_variables_are_replaced_as_compose_replaces_them() -> None:
    """Of the harness that runs this file (`services.py`), by the rules of the Compose Specification."""
    variables = {"SET": "a", "EMPTY": ""}
    cases = {
        "${SET}": "a",
        "x-${UNSET}": "x-",
        "${SET:-b}-${EMPTY:-b}-${UNSET:-b}": "a-b-b",
        "${EMPTY-b}${UNSET-b}": "b",
        "${SET:+b}${EMPTY:+c}${EMPTY+d}": "bd",
        "$$SET $${SET}": "$SET ${SET}",
    }
    assert {text: interpolated(text, variables) for text in cases} == cases
    with pytest.raises(AssertionError, match="UNSET: give one"):
        interpolated(["${UNSET:?give one}"], variables)
    assert [seconds(text) for text in ("90s", "1m30s", "2m")] == [90, 90, 120]
