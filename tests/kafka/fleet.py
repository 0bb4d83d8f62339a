"""A fleet of real processes on a real broker: workers and an api of one group, and what they left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from millstream.log.kafka.log import KafkaLog
from millstream.log.kafka.settings import KafkaSettings
from millstream.model.facts import Fact, RunCancelled, RunCompleted, RunFailed, RunStarted, StepCompleted
from millstream.model.journal import JournalRecord
from millstream.model.messages import group_topic
from millstream.wire.journal import Validity, decode_record
from tests.kafka.broker import Broker, fresh
from tests.promises import BrokenPromise

ROOT = Path(__file__).parents[2]
APP = "tests.kafka.fleet_app:app"
WAIT_S = 60.0
SESSION_S = 6


class Process:
    """One process of the fleet, its output and its port."""

    def __init__(self, name: str, line: list[str], env: dict[str, str], output: Path, port: int) -> None:
        self.name = name
        self.port = port
        self.output = output
        with output.open("ab") as told:
            self.popen = subprocess.Popen(line, cwd=ROOT, env=env, stdout=told, stderr=told)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def ready(self) -> bool:
        assert self.popen.poll() is None, f"{self.name} ended:\n{self.said()}"
        return ask(f"{self.url}/readyz")[0] == 200

    def ended(self, within_s: float = WAIT_S) -> int:
        return self.popen.wait(within_s)

    def said(self) -> str:
        return self.output.read_text()[-6_000:]

    def facts(self, fact: str) -> list[dict[str, Any]]:
        """The log lines that say so."""
        lines = [json.loads(line) for line in self.output.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["fact"] == fact]


class Fleet:
    """See the module. ``close`` kills whatever still runs."""

    def __init__(self, kafka: Broker, folder: Path, *, lanes: int = 4) -> None:
        self.group = fresh("fleet")
        self.folder = folder
        self.lanes = lanes
        self.brokers = kafka.bootstrap
        self.notes = folder / "notes"
        self.notes.touch()
        self.processes: list[Process] = []
        self.api: Process | None = None
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")} | {
            "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)]),
            "MILLSTREAM_BROKERS": self.brokers,
            "MILLSTREAM_GROUP": self.group,
            "MILLSTREAM_EVENTS_TOPIC": f"{self.group}-events",
            "MILLSTREAM_REPLICATION_FACTOR": "1",
            "MILLSTREAM_MIN_INSYNC": "1",
            "MILLSTREAM_SESSION_TIMEOUT": f"{SESSION_S}s",
            "FLEET_NOTES": str(self.notes),
        }
        made = self.topics_apply()
        assert made.returncode == 0, made.stderr

    def topics_apply(self, *flags: str) -> subprocess.CompletedProcess[str]:
        """Make or mend the group's topics."""
        line = [*_millstream("topics", "apply", "--yes"), "--lanes", str(self.lanes), *flags]
        return subprocess.run(line, cwd=ROOT, env=self.env, capture_output=True, text=True, check=False)

    def worker(
        self,
        name: str,
        *,
        targets: tuple[str, ...] = (APP,),
        wait: bool = True,
        flags: tuple[str, ...] = (),
        data: str = "",
        **environ: str,
    ) -> Process:
        """Start a worker, and wait until its lanes are live."""
        port = free_port()
        line = [*_millstream("worker", *targets), "--name", name, "--probes-port", str(port)]
        line += ["--data", str(self.folder / (data or name)), *flags]
        started = self._start(name, line, {"FLEET_WORKER": name, **environ}, port)
        if wait:
            until(f"{name} ready", started.ready)
        return started

    def door(self, *flags: str) -> Process:
        """Start the api."""
        port = free_port()
        self.api = self._start("api", [*_millstream("api"), "--port", str(port), *flags], {}, port)
        until("the api", self.api.ready)
        return self.api

    def server(self, name: str = "server", *flags: str, port: int = 0) -> Process:
        """Start a server for apps over HTTP, with the api in it; it is the one that events are sent to."""
        port = port or free_port()
        line = [*_millstream("server"), "--name", name, "--port", str(port), "--probes-port", "0"]
        self.api = self._start(name, [*line, "--data", str(self.folder / name), *flags], {}, port)
        until(name, self.api.ready)
        return self.api

    def bare_server(self, name: str, *flags: str) -> Process:
        """Start a server for apps over HTTP that takes no events, as the Helm chart's workers without functions are."""
        port = free_port()
        line = [*_millstream("server"), "--host", "0.0.0.0", "--name", name, "--probes-port", str(port)]
        started = self._start(name, [*line, "--data", str(self.folder / name), *flags], {}, port)
        until(name, started.ready)
        return started

    def history(self, name: str = "history", *flags: str) -> Process:
        """Start a history on an index of its name."""
        port = free_port()
        line = [*_millstream("history"), "--port", str(port), "--data", str(self.folder / name), *flags]
        started = self._start(name, line, {}, port)
        until(name, started.ready)
        return started

    def _start(self, name: str, line: list[str], environ: dict[str, str], port: int) -> Process:
        process = Process(name, line, self.env | environ, self.folder / f"{name}.log", port)
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait(30)

    # --- asking and looking -------------------------------------------------------------------------

    def send(self, name: str, **data: object) -> str:
        """Send one event; its id."""
        assert self.api is not None
        status, answer = ask(f"{self.api.url}/e/key", {"name": name, "data": data})
        assert status == 200, answer
        return str(answer["ids"][0])

    def noted(self, start: str = "") -> list[str]:
        return [line for line in self.notes.read_text().splitlines() if line.startswith(start)]

    def until_noted(self, start: str, count: int, within_s: float = WAIT_S) -> list[str]:
        def look() -> list[str]:
            found = self.noted(start)
            return found if len(found) >= count else []

        try:
            found: list[str] = until(f"{count} × {start!r}", look, within_s)
            return found
        except AssertionError as late:
            said = "\n\n".join(f"--- {process.name}\n{process.said()}" for process in self.processes)
            raise AssertionError(f"{late}; noted {self.notes.read_text()[-3_000:]}\n{said}") from None

    def journal(self) -> list[Fact]:
        """Every fact that counts, of all lanes."""
        return [fact for record in asyncio.run(journals(self.brokers, self.group, self.lanes)) for fact in record.facts]

    def check_promises(self) -> list[Fact]:
        """Whatever happened: ``promises_kept``."""
        return promises_kept(self.journal)


def promises_kept(journal: Callable[[], list[Fact]]) -> list[Fact]:
    """The facts of a group that has come to rest: one run an event and function, one end a run, one result a step.

    What a function notes it notes before its end is recorded: every run that has begun is waited for. Raises
    BrokenPromise.
    """
    until_s = time.monotonic() + WAIT_S
    while open_runs(facts := journal()):
        if time.monotonic() > until_s:
            raise BrokenPromise(f"left open: {open_runs(facts)}")
        time.sleep(0.2)
    starts = Counter((f.function, f.events) for f in facts if isinstance(f, RunStarted))
    ends = Counter(f.run for f in facts if isinstance(f, RunCompleted | RunFailed | RunCancelled))
    results = Counter((f.run, f.step) for f in facts if isinstance(f, StepCompleted))
    for what in (starts, ends, results):
        if max(what.values(), default=1) > 1:
            raise BrokenPromise(f"done twice: {what.most_common(3)}")
    unknown = ends.keys() - {f.run for f in facts if isinstance(f, RunStarted)}
    if unknown:
        raise BrokenPromise(f"ended without a start: {unknown}")
    return facts


def open_runs(facts: list[Fact]) -> set[str]:
    """Runs that have begun and not ended."""
    ended = {f.run for f in facts if isinstance(f, RunCompleted | RunFailed | RunCancelled)}
    return {f.run for f in facts if isinstance(f, RunStarted)} - ended


async def journals(brokers: str, group: str, lanes: int) -> list[JournalRecord]:
    """Every record that counts, lane by lane, as far as the journals go now."""
    log = await KafkaLog.open(KafkaSettings(brokers=brokers, replication_factor=1, min_insync=1))
    try:
        return [
            record for lane in range(lanes) for record in await _records_of(log, group_topic(group, "journal"), lane)
        ]
    finally:
        await log.close()


async def _records_of(log: KafkaLog, topic: str, lane: int) -> list[JournalRecord]:
    records: list[JournalRecord] = []
    validity = Validity()
    end = await log.end_offset(topic, lane)
    reader = log.reader(topic, lane, await log.start_offset(topic, lane))
    while reader.position < end:
        for record in await reader.read(max_records=10_000, max_bytes=1 << 26, wait_s=5):
            complete = validity.take(decode_record(record.value or b""))
            if complete is not None:
                records.append(complete)
    await reader.close()
    return records


def ask(url: str, body: object = None) -> tuple[int, Any]:
    """Status and JSON; 0 where nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data, {"Content-Type": "application/json"}), timeout=30
        ) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")
    except OSError:
        return 0, None


def fetched(url: str) -> str:
    """The text at a URL."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def until(what: str, look: Callable[[], Any], within_s: float = WAIT_S) -> Any:
    """Look until there is something to see; it."""
    ends = time.monotonic() + within_s
    while not (seen := look()):
        assert time.monotonic() < ends, f"{what}: not within {within_s} s"
        time.sleep(0.05)
    return seen


def stop(process: Process) -> None:
    """SIGTERM."""
    process.signal(signal.SIGTERM)


def _millstream(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "millstream", *arguments]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
