"""Commands that need no server: settings, loading, checks, exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from msgspec.structs import replace

from millstream.cli.support.run_printer import LINES_PER_S, RunPrinter
from millstream.config import SETTINGS, Settings, refuse_unknown
from millstream.core.liveness import liveness, timer_problem
from millstream.errors import ConfigError
from millstream.model.event import Envelope
from millstream.model.facts import RunCompleted, RunFailed, RunStarted
from millstream.model.place import Place
from millstream.model.rows import EventRow, Hand, RunRow, TimerRow
from millstream.model.text.durations import duration_text
from millstream.state.memory import MemoryStore
from millstream.state.tables import LaneTables
from tests.cli.program import environment, millstream

RUN = "01M8321AD85Y4GST1D5EH83AVG"


class _Elsewhere(BaseHTTPRequestHandler):
    """Some other web server."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>My shop</title>")

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_port_where_something_else_listens_is_said_to_be_that(tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), _Elsewhere) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_port}"
        for command in (("runs", "list"), ("events", "send", "order/placed"), ("runs", "cancel", "--yes", RUN)):
            ended = millstream(*command, "--url", url, cwd=tmp_path)
            assert ended.code == 3 and "is not millstream: it answered" in ended.err and "text/html" in ended.err
            assert "<" not in ended.err and "--url" in ended.err
        other.shutdown()


def test_the_doctor_says_that_it_looks_at_kafka_where_no_brokers_were_named(tmp_path: Path) -> None:
    ended = millstream("doctor", cwd=tmp_path)
    assert ended.code == 6 and "a group on Kafka" in ended.err and "millstream lanes verify" in ended.err


def test_a_flag_wins_over_its_variable_and_the_variable_over_the_default() -> None:
    environ = {"MILLSTREAM_PORT": "9000", "MILLSTREAM_HISTORY": "90s"}
    settings = Settings({"port": "9001"}, environ)
    assert settings.number("port", 0) == 9001 and settings.origins["port"] == "--port"
    assert settings.number("history", 0) == 90_000 and settings.origins["history"] == "MILLSTREAM_HISTORY"
    assert settings.text("host") == "127.0.0.1" and settings.is_default("host")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("port", "many", "whole number"),
        ("port", "70000", "65535"),
        ("history", "soon", "10m"),
        ("durability", "x", "fsync"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_was_expected(name: str, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as refused:
        Settings({name: text}, {})
    assert text in str(refused.value)


def test_every_setting_has_a_default_that_is_one_of_its_values() -> None:
    Settings({}, {})
    assert len({setting.variable for setting in SETTINGS}) == len(SETTINGS)
    assert duration_text(5_400_250) == "1h30m250ms"


def test_a_misspelt_variable_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="MILLSTREAM_DURABILITY"):
        refuse_unknown(["PATH", "MILLSTREAM_DURABLITY"])
    ended = millstream("version", MILLSTREAM_PROT="1")
    assert ended.code == 2 and "MILLSTREAM_PORT" in ended.err


def test_secrets_are_masked_in_config_show() -> None:
    ended = millstream("config", "show", MILLSTREAM_EVENT_KEY="hush")
    assert "hush" not in ended.out
    assert {"event_key": "MILLSTREAM_EVENT_KEY"}.items() <= {
        row["setting"]: row["origin"] for row in ended.rows
    }.items()


def test_wrong_usage_is_exit_code_2_and_no_server_is_3() -> None:
    assert millstream("runs", "lost").code == 2
    assert millstream("dev", "--port", "x").code == 2
    assert millstream("dev", "nosuch:app").code == 2
    assert millstream("runs", "list", MILLSTREAM_URL="ftp://x").code == 2
    assert millstream("lanes", "verify", "--data", "nosuch").code == 2
    assert millstream("runs", "list", MILLSTREAM_URL="http://127.0.0.1:1").code == 3


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("runs", "list", "--status", "lost"), "Completed"),
        (("runs", "list", "--from", "yesterday"), "2026-01-31T12:00:00Z"),
        (("runs", "list", "--limit", "many"), "--limit"),
        (("runs", "get", "7"), "runs list"),
        (("runs", "watch", RUN[:-1]), "26 characters"),
        (("runs", "cancel", "--yes", RUN, "x"), "26 characters"),
        (("events", "send", ""), "needs a name"),
        (("events", "send", "order/placed", "--data", "{bad"), "--data"),
        (("events", "send", "order/placed", "--data", "[1]"), "JSON object"),
        (("events", "send", "order/placed", "--ts", "soon"), "--ts"),
        (("functions", "invoke", "shop-f", "--data", "7"), "JSON object"),
        (("functions", "backfill", "shop-f", "--topic", "t", "--from", "first"), "earliest"),
    ],
    ids=" ".join,
)
def test_an_argument_that_cannot_be_is_wrong_usage_before_any_server_is_asked(
    command: tuple[str, ...], said: str
) -> None:
    ended = millstream(*command, MILLSTREAM_URL="http://127.0.0.1:1")
    assert ended.code == 2 and said in ended.err, ended


def test_a_first_app_is_written_with_a_test_and_all_of_it_runs(tmp_path: Path) -> None:
    written = millstream("init", "My Shop", cwd=tmp_path)
    assert written.code == 0 and len(written.rows) == 3, written.err
    folder = tmp_path / "My Shop"
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    tested = subprocess.run(line, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert tested.returncode == 0 and "1 passed" in tested.stdout, tested.stdout + tested.stderr
    checked = millstream("check", "app:app", cwd=folder)
    assert checked.code == 0 and "1 app with 2 functions checked" in checked.err
    again = millstream("init", "My Shop", cwd=tmp_path)
    assert again.code == 2 and "app.py is there already" in again.err, "nothing is overwritten"


@pytest.mark.parametrize(
    ("words", "offered"),
    [("millstream ser", "serve"), ("millstream runs ", "watch"), ("millstream runs list --status F", "Failed"),
     ("millstream config show --output j", "jsonl")],
)  # fmt: skip
def test_a_shell_completes_commands_and_choices(words: str, offered: str) -> None:
    ended = millstream(_MILLSTREAM_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" ")))
    assert offered in ended.out.split(), ended


def test_the_version_is_told() -> None:
    assert re.fullmatch(r"millstream \d+\.\d+\.\d+\n", millstream("version").out)


def test_check_names_every_problem_of_an_app(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        'from millstream import App\napp = App("shop")\n'
        '@app.function(on="a/b", if_="event.data.x ==")\nasync def first(ctx): ...\n'
        '@app.function(cron="61 * * * *")\nasync def second(ctx): ...\n'
    )
    (tmp_path / "twin.py").write_text('from millstream import App\napp = App("shop")\n')
    ended = millstream("check", "shop:app", "twin:app", cwd=tmp_path)
    assert ended.code == 6
    assert [row["function"] for row in ended.rows] == ["shop-first", "shop-second", ""]
    assert millstream("check", "examples.blog:app").code == 0


def test_a_users_own_folder_named_like_a_part_of_python_does_no_harm(tmp_path: Path) -> None:
    for name in ("platform", "shop"):
        (tmp_path / name).mkdir()
    (tmp_path / "platform" / "__init__.py").write_text("raise RuntimeError('not this one')")
    (tmp_path / "shop" / "apps.py").write_text(
        'import platform\nfrom millstream import App\nplatform.system()\napp = App("s")\n'
        '@app.function(on="a/b")\nasync def f(ctx): ...\n'
    )
    ended = millstream("check", "shop.apps:app", cwd=tmp_path)
    assert ended.code == 0, ended.err


@pytest.mark.parametrize(
    ("target", "told"),
    [("gone:app", "gone"), ("shop:nope", "shop:app"), ("shop:number", "int"), ("shop.py", "module:name")],
)
def test_a_target_that_is_no_app_says_what_is_there(tmp_path: Path, target: str, told: str) -> None:
    (tmp_path / "shop.py").write_text('from millstream import App\napp = App("s")\nnumber = 1\n')
    ended = millstream("check", target, cwd=tmp_path)
    assert ended.code == 2 and told in ended.err


def test_a_module_that_raises_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import json\n1 / 0\n")
    ended = millstream("dev", "shop:app", cwd=tmp_path)
    assert ended.code == 1 and "shop.py:2" in ended.err and "ZeroDivisionError" in ended.err


def test_lines_are_limited_a_second_and_the_rest_is_counted_but_failures_have_room() -> None:
    written: list[str] = []
    now = [100.0]
    printer = RunPrinter(written.append, lambda: now[0])
    printer.on_facts([RunStarted(RUN, "shop-f", (), "", 0)], 1)
    printer.on_facts([RunCompleted(RUN, "shop-f", 1, b"1")] * 1_000, 2)
    printer.on_facts([RunFailed(RUN, "shop-f", 0, "ValueError", "it burst", "")], 3)
    now[0] += 2
    printer.tick()
    printer.close()
    assert len(written) < LINES_PER_S
    assert "it burst" in written[-2] and "more lines" in written[-1]
    assert printer.counts["shop-f", "completed"] == 1_000


def test_a_run_in_nobodys_hand_is_found_and_so_is_a_timer_that_wakes_nobody() -> None:
    tables = LaneTables(Place("g", 0, 1), MemoryStore())
    tables.events.put("e", EventRow(Envelope("e", "e", False, "a/b", b"{}", 0, 0), 1))
    run = RunRow(RUN, "shop-f", ("e",), "", 0, body=Hand.OUT)
    assert liveness(tables, run).problems == [] and liveness(tables, run).executing == 1
    assert "stuck" in liveness(tables, replace(run, body=Hand.IDLE)).problems[0]
    waiting = replace(run, body=Hand.BACKOFF, wake_at_ms=7)
    assert "no timer" in liveness(tables, waiting).problems[0]
    timer = TimerRow(7, "retry", RUN, "")
    tables.timers.put((7, "retry", RUN, ""), timer)
    assert liveness(tables, waiting).problems == [] and liveness(tables, waiting).timers[0][0] == 7
    assert "not open" in timer_problem(tables, timer)
    tables.runs.put(RUN, waiting)
    assert timer_problem(tables, timer) == ""
