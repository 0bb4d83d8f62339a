"""Secrets stay where they were given: not in logs, errors, ``config show``; data is for its own user alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from millstream.errors import ConfigError, LogLocked
from millstream.files import private_database, private_file
from millstream.model.text.redaction import keep_secret, redacted, redacted_by_form
from millstream.process_handles import lock, unlock
from tests.cli.program import millstream, serving

SECRET = "hush-hush-4711"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"http://me:{SECRET}@h/x", "http://me:****@h/x"),
        (f"redis://:{SECRET}@h:6379/0, https://{SECRET}@h", "redis://:****@h:6379/0, https://****@h"),
        (f"path=/e/{SECRET}?a=1", "path=/e/****?a=1"),
        (f"http://h:1/base/e/{SECRET}", "http://h:1/base/e/****"),
        (
            "path=/v1/callbacks/01JQ0000000000000000000000.5f0e9c41d2a7.q3J_x-7",
            "path=/v1/callbacks/01JQ0000000000000000000000.5f0e9c41d2a7.****",
        ),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer ****"),
        (f"{{'Authorization': 'Basic {SECRET}'}}", "{'Authorization': 'Basic ****'}"),
        (f"GET /x?token={SECRET}&y=1", "GET /x?token=****&y=1"),
        ("Events go to POST /e/<event key>.", "Events go to POST /e/<event key>."),
        ("the header Authorization: Bearer <event key>, got none",) * 2,
        ("/srv/e/app.py:7, mail me@x.org, see https://x.org/a@b",) * 2,
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_what_was_given_as_a_secret_is_taken_out_wherever_it_stands() -> None:
    keep_secret("s3cret/of mine")
    assert redacted("a s3cret/of mine, b s3cret%2Fof%20mine") == "a ****, b ****"
    assert redacted_by_form("a s3cret/of mine") == "a s3cret/of mine", "a stranger's guess must not be confirmed"
    keep_secret("abc")
    assert redacted("the abc of it") == "the abc of it", "a short one would take words apart"


@pytest.mark.parametrize("text", ["://", "/e/", "://" + "a" * 50, "authorization ", "password=", "bearer ", "a.-"])
def test_looking_for_secrets_takes_time_in_proportion_to_the_text(text: str) -> None:
    begun = time.perf_counter()
    redacted(text * (400_000 // len(text)))
    assert time.perf_counter() - begun < 5


def test_no_command_shows_a_secret(tmp_path: Path) -> None:
    url = f"http://me:{SECRET}@127.0.0.1:1"
    (tmp_path / "password").write_text(SECRET)
    shown = millstream(
        "config", "show", cwd=tmp_path, MILLSTREAM_URL=url, MILLSTREAM_REGISTRY=url, MILLSTREAM_HISTORY_URL=url,
        MILLSTREAM_EVENT_KEY=SECRET, MILLSTREAM_EVENT_KEYS=f"{SECRET},x", MILLSTREAM_SASL_PASSWORD=SECRET,
    )  # fmt: skip
    assert shown.code == 0 and "me:****@127.0.0.1" in shown.out
    refused = [
        millstream("runs", "list", "--url", url),
        millstream("runs", "list", "--url", f"ftp://me:{SECRET}@h"),
        millstream("runs", "list", "--limit", url),
        millstream("events", "send", "a/b", "--event-key", SECRET, "--url", "http://127.0.0.1:1"),
        millstream("events", "send", "a/b", "--event-key", f"{SECRET}\x1b"),
        millstream("check", f"shop:{SECRET}", "--output", url),
    ]
    assert [one.code for one in refused] == [3, 2, 2, 3, 2, 2]
    for one in (shown, *refused):
        assert SECRET not in one.out + one.err, one


def test_data_is_readable_for_its_own_user_alone(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.start_run("shop/quick")
        made = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
        open_to_others = [str(path) for path in made if path.exists() and path.stat().st_mode & 0o077]
        assert len(made) > 10 and open_to_others == []


def test_nothing_is_written_through_a_link_or_to_a_file_with_another_name(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("kept")
    (tmp_path / "link").symlink_to(other)
    os.link(other, tmp_path / "second-name")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "second-name", "pipe", "."):
        for opened in (private_file, private_database):
            with pytest.raises(ConfigError, match="not used: expected a file of our own"):
                opened(tmp_path / name)
    assert other.read_text() == "kept"


def test_a_lock_of_an_older_version_is_taken_and_made_private(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1\n")
    (tmp_path / "lock").chmod(0o644)
    held = lock(tmp_path, "the log")
    try:
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
        with pytest.raises(LogLocked, match=str(os.getpid())):
            lock(tmp_path, "the log")
    finally:
        unlock(held)
