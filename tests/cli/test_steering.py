"""What events, user code and servers say reaches neither the terminal nor a log line as it is."""

from __future__ import annotations

import io
import json
import logging

import pytest

from millstream.cli.support.output import show_document, show_line, show_table
from millstream.cli.support.run_printer import RunPrinter
from millstream.model.facts import EventAccepted, RunFailed, RunStarted
from millstream.model.text.printable import one_line, printable, printable_json
from millstream.telemetry import say, setup_logging

RUN = "01M8321AD85Y4GST1D5EH83AVG"
EVIL = "\x1b]0;owned\x07\x1b[2J\nmillstream: all is well \u202egpj.exe\x9b1m"


def is_harmless(text: str) -> bool:
    """Whether a terminal shows it and does nothing else."""
    return all(character.isprintable() or character == "\n" for character in text)


def test_what_steers_a_terminal_becomes_its_escape_and_nothing_is_taken_away() -> None:
    assert one_line("a\x1b[1m\n\u202e\x9b\ud800") == "a\\x1b[1m\\n\\u202e\\x9b\\ud800"
    assert printable("a\n\tb\r\x00") == "a\n\tb\\r\\x00"
    assert one_line("Grüße, 你好 👩‍👩‍👧") == "Grüße, 你好 👩‍👩‍👧"
    text = json.dumps({EVIL: EVIL}, ensure_ascii=False)
    assert is_harmless(printable_json(text)) and json.loads(printable_json(text)) == {EVIL: EVIL}


def test_tables_and_json_show_values_without_their_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([{"name": EVIL, "data": {"x": EVIL}}], ("name", "data"))
    shown = capsys.readouterr().out
    assert is_harmless(shown) and len(shown.splitlines()) == 2, "a value cannot begin a line"
    show_line({"name": EVIL})
    show_document({"name": EVIL})
    shown = capsys.readouterr().out
    assert is_harmless(shown) and json.loads(shown.splitlines()[0]) == {"name": EVIL}


def test_the_line_of_a_run_holds_no_control_characters_of_its_event_or_error() -> None:
    lines: list[str] = []
    printer = RunPrinter(lines.append, lambda: 100.0)
    event = "01M8321AD85Y4GST1D5EH83AVH"
    accepted = EventAccepted(event, "", False, EVIL, b"{}", 1, 1, "", b"", "", b"", "events", 0, 0, b"")
    failed = RunFailed(RUN, "shop-f", 0, EVIL, EVIL, "")
    printer.on_facts([accepted, RunStarted(RUN, "shop-f", (event,), "", 0), failed], 1_000)
    printer.close()
    assert len(lines) == 1 and lines[0].isprintable(), lines


@pytest.mark.parametrize("is_terminal", [True, False], ids=["readable", "json"])
def test_a_log_line_is_one_line_without_control_characters_and_secrets(is_terminal: bool) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    stream, root = Stream(), logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        setup_logging(stream)
        say(logging.getLogger("x"), f"fact {EVIL}", why=EVIL, url="http://me:hushhush@h/e/a-secret-key")
        try:
            raise ValueError(EVIL + "redis://:hushhush@h")
        except ValueError:
            logging.getLogger("x").exception("failed path=/e/a-secret-key")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    written = stream.getvalue()
    assert is_harmless(written) and len(written.splitlines()[0]) > 60, written
    assert "hushhush" not in written and "a-secret-key" not in written, written
    if not is_terminal:
        assert [json.loads(line)["level"] for line in written.splitlines()] == ["info", "error"]
