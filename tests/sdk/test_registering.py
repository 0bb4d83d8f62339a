"""Apps register with nothing but the variables that their users set: in dev mode, and signed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import Serving, serving, until
from tests.sdk.rig.processes import NODE, app_process, free_port

SDKS = ("fastapi", *NODE)
KEY = "signkey-prod-" + "ab" * 16
EVENT_KEY = "e7e7e7e7"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("dev"), "--no-discovery") as served:
        yield served


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("signed")
    flags = ("--signing-key", KEY, "--event-key", EVENT_KEY, "--endpoint-network", "127.0.0.0/8")
    with serving(folder, *flags, command="serve") as served:
        yield served


def app_row(server: Serving, id: str) -> Any:
    """The app as the command line lists it; None where it is not."""
    return next((row for row in server.call("apps", "list").rows if row["id"] == id), None)


@pytest.mark.parametrize("sdk", SDKS)
def test_an_app_in_dev_mode_registers(dev: Serving, sdk: str, tmp_path: Path) -> None:
    with app_process(sdk, tmp_path, id=sdk, INNGEST_DEV=dev.url) as app:
        assert [app.put()[1]["modified"] for _ in range(2)] == [True, False]
        row = app_row(dev, sdk)
        assert (row["url"], row["functions"], row["reachable"]) == (app.url, [f"{sdk}-hello"], True)
    gone = app_row(dev, sdk)
    assert gone["functions"] == [f"{sdk}-hello"]
    until("the app is said to be gone", lambda: "nothing listens" in app_row(dev, sdk)["why"])


@pytest.mark.parametrize("sdk", SDKS)
def test_an_app_with_a_base_url_alone_registers_signed(signed: Serving, sdk: str, tmp_path: Path) -> None:
    """INNGEST_DEV=0 and INNGEST_BASE_URL: what users set for a server of their own."""
    given = {"INNGEST_DEV": "0", "INNGEST_BASE_URL": signed.url, "INNGEST_SIGNING_KEY": KEY}
    with app_process(sdk, tmp_path, id=sdk, INNGEST_EVENT_KEY=EVENT_KEY, **given) as app:
        assert [app.put()[1]["modified"] for _ in range(2)] == [True, False]
        row = app_row(signed, sdk)
        assert (row["url"], row["functions"], row["reachable"]) == (app.url, [f"{sdk}-hello"], True)


@pytest.mark.parametrize("sdk", NODE)
def test_an_app_that_allows_no_in_band_sync_is_synced_by_a_registration(
    signed: Serving, sdk: str, tmp_path: Path
) -> None:
    given = {"INNGEST_DEV": "0", "INNGEST_BASE_URL": signed.url, "INNGEST_SIGNING_KEY": KEY}
    given |= {"INNGEST_EVENT_KEY": EVENT_KEY, "INNGEST_ALLOW_IN_BAND_SYNC": "0"}
    with app_process(sdk, tmp_path, id=f"out-{sdk}", **given) as app:
        synced = signed.call("apps", "sync", app.url, "--event-key", EVENT_KEY)
        assert synced.rows == [{"app": f"out-{sdk}", "url": app.url, "modified": True}], synced.err


@pytest.mark.parametrize("sdk", SDKS)
def test_an_app_with_another_key_is_refused_and_told_why(signed: Serving, sdk: str, tmp_path: Path) -> None:
    other = KEY.replace("ab", "cd")
    given = {"INNGEST_DEV": "0", "INNGEST_BASE_URL": signed.url, "INNGEST_SIGNING_KEY": other}
    with app_process(sdk, tmp_path, id=f"other-{sdk}", INNGEST_EVENT_KEY=EVENT_KEY, **given) as app:
        said = app.put()[1]
        assert "Authentication failed" in (said.get("message") or said.get("error"))
        assert app_row(signed, f"other-{sdk}") is None


@pytest.mark.parametrize("sdk", SDKS)
def test_an_app_of_another_environment_is_refused_and_told_why(signed: Serving, sdk: str, tmp_path: Path) -> None:
    given = {"INNGEST_DEV": "0", "INNGEST_BASE_URL": signed.url, "INNGEST_SIGNING_KEY": KEY}
    given |= {"INNGEST_EVENT_KEY": EVENT_KEY}
    with app_process(sdk, tmp_path, id=f"env-{sdk}", INNGEST_ENV="staging", **given) as app:
        said = app.put()[1]
        assert "staging" in (said.get("message") or said.get("error")), said
        assert app_row(signed, f"env-{sdk}") is None
    with app_process(sdk, tmp_path, id=f"env-{sdk}", INNGEST_ENV="prod", **given) as app:
        assert app.put()[1]["modified"] is True


@pytest.mark.parametrize("sdk", SDKS)
def test_an_app_that_the_server_is_told_of_registers_by_itself(sdk: str, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://localhost:{port}/api/inngest"
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server", "--no-discovery", "-u", url) as server:
        assert "nothing listens" in until("the address", lambda: app_row(server, None))["why"]  # type: ignore[arg-type]
        with app_process(sdk, tmp_path, port=port, INNGEST_DEV=server.url):
            row = until("the app", lambda: app_row(server, "sdk"))
            assert row["functions"] == ["sdk-hello"]
