"""Who is let in by a start: other machines only with a key, or where somebody has said that none is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.program import Ended, millstream, serving

OPEN = "--insecure-no-event-key"


def start(command: str, cwd: Path, *more: str) -> Ended:
    return millstream(command, *(("shop:app",) if command in ("dev", "serve") else ()), *more, cwd=cwd)


@pytest.mark.parametrize("command", ["dev", "api", "history"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_beyond_this_machine_no_server_starts_without_a_key(tmp_path: Path, command: str, host: str) -> None:
    ended = start(command, tmp_path, "--host", host)
    assert ended.code == 2
    assert "lets other machines in" in ended.err and OPEN in ended.err and "--event-key" in ended.err
    assert not list(tmp_path.iterdir()), "nothing is made for a start that is refused"


@pytest.mark.parametrize("command", ["dev", "serve", "api", "history"])
def test_no_host_is_not_taken_for_every_address(tmp_path: Path, command: str) -> None:
    more = (OPEN,) if command == "serve" else ()
    ended = start(command, tmp_path, "--host", "", *more)
    assert ended.code == 2 and "--host was refused" in ended.err and "127.0.0.1" in ended.err


@pytest.mark.parametrize("command", ["dev", "serve", "api", "history"])
def test_an_empty_key_is_not_taken_for_one(tmp_path: Path, command: str) -> None:
    ended = start(command, tmp_path, "--event-key", "")
    assert ended.code == 2 and "--event-key was given, and is empty" in ended.err


@pytest.mark.parametrize(
    ("more", "address"),
    [
        (("--host", "localhost"), "http://localhost:"),
        (("--host", "127.0.0.2"), "http://127.0.0.2:"),
        (("--host", "0.0.0.0", OPEN), "http://127.0.0.1:"),
        (("--host", "0.0.0.0", "--event-key", "k"), "http://127.0.0.1:"),
    ],
)
def test_the_address_that_is_printed_is_the_one_listened_on(
    tmp_path: Path, more: tuple[str, ...], address: str
) -> None:
    with serving(tmp_path, *more) as served:
        assert served.url.startswith(address)
        said = "".join(served.told)
        assert ("every other address of this machine" in said) == ("0.0.0.0" in more)
        assert served.call("runs", "list").code == 0
