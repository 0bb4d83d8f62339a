"""``millstream apps`` against a real server and a real app."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.program import Serving, millstream, serving
from tests.sdk.rig.processes import app_process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("dev"), "--no-discovery", "--no-poll") as served:
        yield served


def test_an_app_is_synced_listed_and_removed(server: Serving, tmp_path: Path) -> None:
    with app_process("fastapi", tmp_path, INNGEST_DEV=server.url) as app:
        synced = server.call("apps", "sync", app.url)
        assert synced.rows == [{"app": "sdk", "url": app.url, "modified": True}]
        shown = server.call("apps", "list", "-o", "table").out
        assert "py:v0.5.19" in shown and "reachable" in shown and "in a worker" in shown
        removed = server.call("apps", "remove", "sdk")
        assert removed.code == 0 and "open runs stay" in removed.err
        assert [row["id"] for row in server.call("apps", "list").rows] == ["shop"]
        server.call("apps", "sync", app.url)
    listed = server.call("apps", "list", "-o", "table")
    assert "not reachable" in listed.out and "sdk: nothing listens at" in listed.err


def test_what_cannot_be_synced_or_removed_is_said_with_the_reason(server: Serving) -> None:
    synced = server.call("apps", "sync", "http://127.0.0.1:9/api/inngest")
    assert synced.code != 0 and "nothing listens at 127.0.0.1:9" in synced.err
    removed = server.call("apps", "remove", "nobody")
    assert removed.code != 0 and "app 'nobody' is not registered" in removed.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--signing-key", "hunter2!"), "expected signkey-<environment>-<hex>"),
        (("--signing-key-fallback", "abcd"), "without a signing key"),
        (("--signing-key", "abcd", "--signing-key-file", "x"), "both given"),
        (("--signing-key-file", "no-such-file"), "no-such-file"),
        (("-u", "localhost:3000"), "--sdk-url"),
    ],
)
def test_keys_and_addresses_that_cannot_be_are_refused_at_the_start(
    flags: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    ended = millstream("dev", "--port", "0", *flags, cwd=tmp_path)
    assert ended.code != 0 and words in ended.err
    assert "hunter2" not in ended.err
