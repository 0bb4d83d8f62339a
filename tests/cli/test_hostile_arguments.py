"""No argument gives a traceback, hangs, or steers the terminal: every command, every option, with what nobody means.

Arguments are tried in this process, where they are refused before a command does anything; files in processes of their
own, since what reads a file may read it for ever.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from millstream.cli import main
from millstream.cli.commands import app
from millstream.cli.support.exits import CHECK_FAILED, FAILED, NOT_FOUND, UNREACHABLE, USAGE
from millstream.config import BY_NAME
from tests.cli.program import APP, millstream

STEERS = {"escape": "\x1b[31mred\x1b[0m", "newline": "a\nmillstream: done", "bidi": "a\u202egpj.exe", "c1": "a\x9b2J"}
HOSTILE = STEERS | {"half a pair": "\udcff", "nothing": "", "long": "x" * 5_000}
NO_URL = {"brackets": "http://[", "port": "http://h:99999", "scheme": "ftp://h", "blank": "http://a b", "text": "h:80"}
NO_NUMBER = {"negative": "-1", "huge": "9" * 40, "fraction": "1.5", "other digits": "٣", "word": "many"}
NO_DURATION = {"nan": "nan", "inf": "inf", "huge": "9" * 40, "negative": "-1", "word": "soon"}
RUN = "01M8321AD85Y4GST1D5EH83AVG"
GOOD = {"name": "a/b", "run": RUN, "scan": RUN, "id": "x", "function": "shop-f", "folder": "fresh"}
SERVERS = ("dev", "serve", "worker", "server", "history", "api")


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words."""
    for name, one in getattr(command, "commands", {}).items():
        yield from leaves(one, (*path, name))
    if not hasattr(command, "commands"):
        yield path, command


COMMANDS = dict(leaves(typer.main.get_command(app)))


def options(command: Any) -> list[Any]:
    """Those that take a value."""
    return [one for one in command.params if one.param_type_name == "option" and not one.is_flag]


def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code of the command line, in this process, and all that it said."""
    monkeypatch.setattr(sys, "argv", ["millstream", *arguments])
    try:
        code = main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.fixture(autouse=True)
def nothing_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A place where no command finds anything."""
    for name in [name for name in os.environ if name.startswith("MILLSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MILLSTREAM_URL", "http://127.0.0.1:1")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_option_takes_what_steers_a_terminal(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = COMMANDS[words]
    given = [GOOD.get(one.name, "shop:app") for one in command.params if one.param_type_name == "argument"]
    needed = [text for one in options(command) if one.required for text in (one.opts[0], "x")]
    for one in options(command):
        for kind, text in STEERS.items() if words[0] in SERVERS else HOSTILE.items():
            if one.name == "standby" or (words[0] not in SERVERS and kind in ("nothing", "long") and one.is_eager):
                continue
            if is_slow(words) and (kind not in STEERS or one.name not in BY_NAME):
                continue  # It may be taken, and a broker is looked for.
            code, said = called(monkeypatch, capsys, *words, *needed, one.opts[0], text, *given)
            check(code, said, (*words, one.opts[0], kind))


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] not in SERVERS], ids=" ".join)
def test_no_argument_gives_a_traceback(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [one.name for one in COMMANDS[words].params if one.param_type_name == "argument"]
    needed = [text for one in options(COMMANDS[words]) if one.required for text in (one.opts[0], "x")]
    for at, name in enumerate(names):
        for kind, text in HOSTILE.items():
            given = [GOOD.get(one, "shop:app") for one in names]
            given[at] = text
            code, said = called(monkeypatch, capsys, *words, *needed, "--", *given)
            check(code, said, (*words, name, kind), taken=name == "folder")


def is_slow(words: tuple[str, ...]) -> bool:
    """Whether the command looks for a broker."""
    return words[0] in (*SERVERS, "topics", "doctor", "lanes")


def check(code: int, said: str, what: tuple[str, ...], *, taken: bool = False) -> None:
    """A documented code, and words that a terminal can show."""
    assert code in (USAGE, UNREACHABLE, FAILED, NOT_FOUND, CHECK_FAILED) or (
        code == 0 and (taken or "config" in what)
    ), (
        what,
        code,
        said,
    )
    assert "Traceback" not in said, (what, said)
    assert all(character.isprintable() or character in "\n\t" for character in said), (what, said)


@pytest.mark.parametrize(
    ("option", "texts"),
    [
        (("runs", "list", "--url"), NO_URL),
        (("dev", "x:app", "--registry"), NO_URL),
        (("api", "--history-url"), NO_URL),
        (("dev", "x:app", "--lanes"), NO_NUMBER | {"nought": "0"}),
        (("serve", "x:app", "--port"), NO_NUMBER),
        (("dev", "x:app", "--executors"), NO_NUMBER),
        (("events", "send", "a/b", "--ts"), {"huge": "9" * 40, "word": "soon", "fraction": "1.5"}),
        (("runs", "list", "--limit"), {"negative": "-1", "huge": "9" * 40, "fraction": "1.5", "nought": "0"}),
        (("dev", "x:app", "--history"), NO_DURATION),
        (("worker", "x:app", "--grace"), NO_DURATION),
        (("runs", "watch", RUN, "--timeout"), NO_DURATION),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_value_that_cannot_be_is_wrong_usage(
    option: tuple[str, ...],
    texts: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for kind, text in texts.items():
        code, said = called(monkeypatch, capsys, *option, text)
        assert code == USAGE, (kind, code, said)
        check(code, said, (*option, kind))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Names that are no ordinary text file."""
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "latin").write_bytes(b"\xff\xfe\x00{\n")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    return {"no UTF-8": "latin", "a directory": "folder", "a pipe": "pipe", "a device": "/dev/zero", "gone": "gone"}


@pytest.mark.parametrize(
    "command",
    [
        ("events", "send", "@FILE"),
        ("events", "send", "a/b", "--data", "@FILE"),
        ("functions", "invoke", "shop-f", "--data", "@FILE"),
        ("serve", "shop:app", "--event-key", "a-key", "--registry", "http://h", "--registry-password-file", "FILE"),
        ("topics", "plan", "--security-protocol", "ssl", "--ca-file", "FILE"),
    ],
    ids=" ".join,
)
def test_a_file_that_is_none_is_one_sentence_and_never_a_hang(
    command: tuple[str, ...], files: dict[str, str], tmp_path: Path
) -> None:
    for kind, name in files.items():
        ended = millstream(
            *(word.replace("FILE", name) for word in command), cwd=tmp_path, MILLSTREAM_URL="http://127.0.0.1:1"
        )
        assert ended.code in (USAGE, FAILED), (kind, ended)
        assert sum(line.startswith("millstream: error") for line in ended.err.splitlines()) == 1, (kind, ended.err)
        assert len(ended.err.splitlines()) <= 2 and ended.err.replace("\n", "").isprintable(), (kind, ended.err)


@pytest.mark.parametrize("kind", ["a file", "lanes: 0", "no JSON", "a link as lock", "a directory as lock"])
def test_a_data_directory_that_is_none_is_one_sentence(kind: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    data = tmp_path / "data"
    match kind:
        case "a file":
            data.write_text("")
        case "lanes: 0" | "no JSON":
            data.mkdir()
            (data / "group").write_text('{"group": "shop", "lanes": 0}' if kind == "lanes: 0" else "\x00")
        case _:
            (data / "log").mkdir(parents=True)
            (tmp_path / "other").write_text("kept")
            lock = data / "log" / "lock"
            lock.symlink_to(tmp_path / "other") if kind == "a link as lock" else lock.mkdir()
    ended = millstream("serve", "shop:app", "--event-key", "a-key", "--port", "0", "--data", "data", cwd=tmp_path)
    assert ended.code == USAGE, ended
    assert sum(line.startswith("millstream: error") for line in ended.err.splitlines()) == 1, ended.err
    if kind == "a link as lock":
        assert (tmp_path / "other").read_text() == "kept"
