"""A worker's probes answer while user code blocks its loop, and say so when it has stood still for too long."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from millstream.api.sockets import probes_thread
from millstream.api.sockets.probes_thread import ProbesThread
from millstream.errors import ConfigError
from millstream.telemetry import Telemetry

Answer = tuple[int, Any]
waits_for = ""


@pytest.fixture
async def probes() -> AsyncIterator[ProbesThread]:
    made = ProbesThread(Telemetry(), lambda: waits_for)
    await made.start("127.0.0.1", 0)
    yield made
    await made.close()


def ask(probes: ProbesThread, path: str) -> Answer:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{probes.port}{path}", timeout=10) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    return status, json.loads(body) if body[:1] == b"{" else body.decode()


def asked_while_blocked(probes: ProbesThread, blocked_s: float, after_s: float, path: str) -> tuple[Answer, float]:
    """The answer to a probe while the loop is blocked, and how long it took."""

    def later() -> tuple[Answer, float]:
        time.sleep(after_s)
        begun = time.monotonic()
        return ask(probes, path), time.monotonic() - begun

    with ThreadPoolExecutor(1) as others:
        answer: Future[tuple[Answer, float]] = others.submit(later)
        time.sleep(blocked_s)  # On the loop, as a function does that computes there.
        assert answer.done(), "the probe had to wait for the loop"
        return answer.result()


async def test_livez_and_metrics_answer_while_the_loop_is_blocked(probes: ProbesThread) -> None:
    for path in ("/livez", "/metrics"):
        (status, _), took_s = asked_while_blocked(probes, 1.5, 0.2, path)
        assert status == 200 and took_s < 1.0


async def test_livez_fails_once_the_loop_has_stood_still_for_long(
    probes: ProbesThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes_thread, "HANGS_S", 0.5)
    (status, answer), _ = asked_while_blocked(probes, 3, 2.5, "/livez")
    assert status == 503 and answer["status"] == "hangs"
    await asyncio.sleep(0.1)
    assert (await asyncio.to_thread(ask, probes, "/livez"))[0] == 200


async def test_readyz_says_what_the_loop_waits_for_and_that_it_is_blocked(
    probes: ProbesThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await asyncio.to_thread(ask, probes, "/readyz") == (200, {"status": "ok"})
    monkeypatch.setattr(f"{__name__}.waits_for", "the group")
    assert (await asyncio.to_thread(ask, probes, "/readyz"))[1]["waits_for"] == "the group"
    monkeypatch.setattr(probes_thread, "ASKED_S", 0.3)
    (status, answer), _ = asked_while_blocked(probes, 1.5, 0.1, "/readyz")
    assert status == 503 and "event loop" in answer["waits_for"]


async def test_the_metrics_say_whether_it_is_ready(probes: ProbesThread, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "millstream_ready 1.0" in (await asyncio.to_thread(ask, probes, "/metrics"))[1]
    monkeypatch.setattr(probes_thread, "ASKED_S", 0.3)
    (_, text), _ = asked_while_blocked(probes, 3, 2, "/metrics")
    assert "millstream_ready 0.0" in text
    monkeypatch.setattr(f"{__name__}.waits_for", "the group")
    probes._show_life()
    assert "millstream_ready 0.0" in (await asyncio.to_thread(ask, probes, "/metrics"))[1]


async def test_a_port_that_is_taken_is_said(probes: ProbesThread) -> None:
    second = ProbesThread(Telemetry(), lambda: "")
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{probes.port}"):
        await second.start("127.0.0.1", probes.port)
    await second.close()
