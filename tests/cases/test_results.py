"""Signals and results from outside, as a program and a person at a shell use them, against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time

import pytest

from millstream import Client, RunError, RunNotOver, SyncClient
from millstream.errors import NotFound
from tests.cases.app import double
from tests.cases.server import ROOT, Server

NEVER = "01M83166TFPXY6W1PP2C82TPXR"


def shell(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of millstream against the server."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MILLSTREAM_")}
    environ |= {"PYTHONPATH": str(ROOT / "platform"), "MILLSTREAM_URL": server.url}
    line = [sys.executable, "-m", "millstream", *words, "-o", "json"]
    return subprocess.run(line, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_signal_from_the_command_line_reaches_the_run_that_waits_for_it(server: Server) -> None:
    signal = f"by-shell-{time.time_ns()}"
    early = shell(server, "signals", "send", signal)
    assert (early.returncode, f"no run waits for the signal '{signal}'" in early.stderr) == (4, True), early.stderr
    run = server.run_of(server.send("cases/signal", {"signal": signal}))["run_id"]

    def sent() -> str:
        """Once the run has come to its wait."""
        ended = shell(server, "signals", "send", signal, '{"is_approved": true}')
        return ended.stdout if ended.returncode == 0 else ""

    assert run in server.until("somebody who waits", sent)
    with SyncClient(server.url) as client:
        assert client.result(run, timeout="30s") == {"is_approved": True}
    assert shell(server, "runs", "watch", run).returncode == 0
    assert shell(server, "signals", "send", signal, "{").returncode == 2


async def test_a_client_invokes_and_waits_and_many_do_at_once(server: Server) -> None:
    async with Client(server.url) as client:
        assert await client.invoke(double, {"n": 4}, timeout="30s") == 8
        with pytest.raises(RunError, match=r"cases-double failed: NonRetriableError: n must not be negative"):
            await client.invoke("cases-double", {"n": -1}, timeout="30s")
        with pytest.raises(NotFound, match="cases-nothing"):
            await client.invoke("cases-nothing")
        got = await asyncio.gather(*(client.invoke(double, {"n": n}, timeout="60s") for n in range(100)))
        assert got == [2 * n for n in range(100)]


def test_a_run_that_a_run_has_invoked_gives_it_its_result(server: Server) -> None:
    run = server.run_of(server.send("cases/parent", {"n": 20}))["run_id"]
    with SyncClient(server.url) as client:
        assert client.result(run, timeout="30s") == 41
        assert client.result(run) == 41, "also after the end"


def test_a_run_that_is_not_over_and_one_that_is_not_there(server: Server) -> None:
    run = server.run_of(server.send("cases/signal", {"signal": f"never-{time.time_ns()}"}))["run_id"]
    with SyncClient(server.url) as client:
        with pytest.raises(RunNotOver, match=f"run {run} of cases-signalled is not over after 300ms"):
            client.result(run, timeout="300ms")
        client.cancel(run)
        with pytest.raises(RunError, match=f"run {run} of cases-signalled was cancelled"):
            client.result(run, timeout="30s")
        with pytest.raises(NotFound, match=f"Run not found: {NEVER}"):
            client.result(NEVER, timeout="10s")


def test_an_invocation_is_answered_with_the_result_or_a_202(server: Server) -> None:
    status, answer = server.ask("POST", "/invoke/cases-double?wait=20s", {"data": {"n": 3}})
    assert (status, answer["data"]["status"], answer["data"]["output"]) == (200, "Completed", 6), answer
    status, answer = server.ask("POST", "/invoke/cases-double?wait=1ms", {"data": {"n": 5}})
    assert (status, json.dumps(answer).count("output")) == (202, 0), answer
    status, result = server.get(f"/v1/runs/{answer['run_id']}/result?wait=20s")
    assert (status, result["data"]["output"]) == (200, 10)
