"""What is wrong with an app is said: by ``check``, and by every server that is started with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from millstream.core.triggers.catalogue import patterns
from millstream.core.triggers.problems import trigger_problems
from millstream.errors import ConfigError
from millstream.log.memory.log import MemoryLog
from millstream.model.function import AppSpec, EventTrigger, FunctionSpec
from millstream.worker.registration import register
from tests.cli.program import Ended, millstream, serving

BROKEN = """
from millstream import App, Context
app = App("typo")

@app.function(on="order/placed", if_="event.data.amount >")
async def broken_if(ctx: Context) -> int:
    return 1

@app.function(cron="TZ=Europe/Pariss * * * * *")
async def broken_cron(ctx: Context) -> int:
    return 1

@app.function(on="order/placed", if_="event.dat.amount > 100")
async def typo(ctx: Context) -> int:
    return 1

@app.function(on="order*")
async def never(ctx: Context) -> int:
    return 1
"""
SAID = ("typo-broken_if", "event.data.amount >", "typo-broken_cron", "Europe/Pariss", "event.dat,", "'order*'")
APP = 'from millstream import App\napp = App("{id}")\n@app.function(on="col", id="{function}")\nasync def c(ctx): ...\n'


def test_a_server_says_at_its_start_what_check_finds(tmp_path: Path) -> None:
    (tmp_path / "typo.py").write_text(BROKEN)
    checked = millstream("check", "typo:app", cwd=tmp_path)
    assert checked.code == 6 and len(checked.rows) == 4
    assert [row["severity"] for row in checked.rows] == ["problem", "problem", "warning", "problem"]
    with serving(tmp_path, "typo:app") as served:
        told = "".join(served.told)
    for word in SAID:
        assert word in told and word in checked.out, word


WARNED = APP.replace('on="col"', 'on="col", if_="event.dat.amount > 100"')


def test_a_field_that_no_event_has_is_a_warning_and_fails_no_check(tmp_path: Path) -> None:
    (tmp_path / "warned.py").write_text(WARNED.format(id="warned", function="c"))
    (tmp_path / "fine.py").write_text(APP.format(id="fine", function="c"))
    checked = millstream("check", "warned:app", "fine:app", cwd=tmp_path)
    (row,) = checked.rows
    assert checked.code == 0, checked
    assert (row["app"], row["severity"]) == ("warned", "warning") and "event.dat," in row["problem"]
    assert "2 apps with 2 functions checked: no problems, 1 warning" in checked.err
    with serving(tmp_path, "warned:app") as served:
        assert any("warning: warned-c: " in line and "event.dat," in line for line in served.told), served.told


def test_two_apps_with_one_slug_are_refused_by_check_dev_serve_and_worker(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(APP.format(id="a-b", function="c"))
    (tmp_path / "two.py").write_text(APP.format(id="a", function="b-c"))

    def call(*arguments: str) -> Ended:
        return millstream(*arguments, "one:app", "two:app", cwd=tmp_path)

    assert call("check").code == 6
    for command in (("dev", "--port", "0"), ("dev", "--no-reload"), ("serve", "--event-key", "k"), ("worker",)):
        ended = call(*command)
        assert ended.code == 1 and "'a-b'" in ended.err and "'a-b-c'" in ended.err, ended
    assert not (tmp_path / ".millstream").exists()


async def test_no_worker_registers_two_apps_with_one_slug() -> None:
    specs = [AppSpec(id=id, functions=(FunctionSpec(slug="a-b-c", name="c"),)) for id in ("a-b", "a")]
    with pytest.raises(ConfigError, match="'a-b-c'"):
        await register(MemoryLog(), "g", specs)


@pytest.mark.parametrize("how", ["sys.exit(0)", "sys.exit('no')", "raise SystemExit", "exit()"])
def test_a_module_that_exits_fails_the_check_and_the_start(tmp_path: Path, how: str) -> None:
    (tmp_path / "ex.py").write_text(f"import sys\n{how}\n")
    for command in (("check",), ("dev", "--port", "0"), ("dev", "--no-reload"), ("serve", "--event-key", "k")):
        ended = millstream(*command, "ex:app", cwd=tmp_path)
        assert ended.code == 1, ended
        assert "ex:app could not be imported: SystemExit" in ended.err and "ex.py:2" in ended.err


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import json\njson.loads('{')\n", "shop.py:2: JSONDecodeError"),
        ("from json import lost\n", "shop.py:1: ImportError"),
        ("import nosuchthing\n", "shop.py:1: no module 'nosuchthing'"),
        ("x = 1\ndef broken(:\n", "shop.py:2: invalid syntax"),
        ("import helper\n", "helper.py:2: ZeroDivisionError"),
        (
            "from millstream import App\napp = App('a')\n@app.function(on='x', retries=-1)\ndef f(ctx): ...\n",
            "shop.py:3",
        ),
    ],
    ids=["library", "name", "module", "syntax", "helper", "declaration"],
)
def test_an_import_error_names_the_line_of_the_user_s_own_code(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "helper.py").write_text("\n1 / 0\n")
    (tmp_path / "shop.py").write_text(code)
    ended = millstream("dev", "shop:app", cwd=tmp_path)
    assert ended.code == 1 and said in ended.err, ended


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [("*", False), ("order*", False), ("*.created", False), ("order/*/paid", False), ("order/re*", False),
     ("order/**", False), ("order/*", True), ("order/refund.*", True), ("order.*", True), ("order/placed", True)],
)  # fmt: skip
def test_wildcards_that_never_match_are_told_from_those_that_do(pattern: str, matches: bool) -> None:
    assert (not list(trigger_problems(EventTrigger(pattern)))) is matches
    if "*" in pattern:
        stem = pattern.replace("*", "x")
        names = (stem, f"{stem}/y", f"{stem}.y", "order/refund.z", "order/placed", "order.placed")
        assert any(pattern in patterns(name) for name in names) is matches
