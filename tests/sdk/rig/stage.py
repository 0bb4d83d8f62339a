"""A server, and apps of the unmodified SDKs around it, each a process: what the tests of behaviours play on.

    stage.host("flask").does("three-steps", n=1)      the run, once it is over
    host.ledger(run)                                  what its steps have really executed, in order

A host is started by the first test that asks for it, and registers as a deploy makes it: by a PUT to its own address.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from tests.cases.server import ENDED
from tests.cases.server import Server as CasesServer
from tests.sdk.rig.outside import Outside
from tests.sdk.rig.processes import HOSTS, PATIENCE_S, App, free_port, started

ON_KAFKA: Final = "kafka-"
FAST_RETRIES: Final = ("--retry-interval", "0.2")
T = TypeVar("T")


def over(*hosts: str) -> pytest.MarkDecorator:
    """Run a test over each of these hosts, as its ``host``."""
    return pytest.mark.parametrize("host", hosts or HOSTS, indirect=True)


class Server(CasesServer):
    """`millstream dev` without functions of its own; with a ``bearer`` token that its requests need."""

    FLAGS: Final = ("--no-discovery", "--durability", "os")
    starts_within_s = PATIENCE_S

    def __init__(self, data: Path, *flags: str, bearer: str = "") -> None:
        super().__init__(data, flags=(*self.FLAGS, *flags))
        self.targets = ()
        self.bearer = bearer

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """As ``CasesServer``, with the bearer token."""
        bearer = {"Authorization": f"Bearer {self.bearer}"} if self.bearer else {}
        return super().ask(method, path, body, bearer | (headers or {}))


@dataclass(eq=False)
class Host:
    """An app of one SDK on one framework. ``variables`` are its environment's, beside what every app is given."""

    name: str
    server: Server
    folder: Path
    id: str
    port: int = field(default_factory=free_port)
    variables: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def app(self) -> App:
        """Its address, and how it registers."""
        return App(self.id, f"http://127.0.0.1:{self.port}/api/inngest", self.folder / f"{self.id}.log")

    def start(self) -> Host:
        """Return when it listens."""
        own = {"GATES": str(self.gates), "LEDGER": str(self._ledger), "INNGEST_DEV": self.server.url}
        self.process = started(self.name, self.app, self.port, own | self.variables)
        return self

    def register(self) -> Host:
        """Have it register, as a deploy does."""
        status, said = self.app.put()
        assert status == 200, (said, self.app.said)
        return self

    def kill(self) -> None:
        """As a power switch would end it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)

    # --- what a test does -----------------------------------------------------------------------

    def send(self, function: str, **data: Any) -> str:
        """Send the event that starts this function; the event's id."""
        return self.server.send(f"{self.id}/{function}", data)

    def send_all(self, function: str, *rows: dict[str, Any]) -> list[str]:
        """Send events at once, which none of them is late for; their ids."""
        events = [{"name": f"{self.id}/{function}", "data": data} for data in rows]
        status, answer = self.server.ask("POST", "/e/test", events)
        assert status == 200, answer
        return list(answer["ids"])

    def run(self, run: str) -> dict[str, Any]:
        """A run in full; an empty one where reads do not show it yet."""
        status, answer = self.server.get(f"/v1/runs/{run}")
        assert status in (200, 404), answer
        return dict(answer["data"] or {})

    def run_of(self, event: str) -> str:
        """The id of the one run of an event."""
        runs = self.until(f"a run of event {event}", lambda: self.server.runs_of(event))
        assert len(runs) == 1, runs
        return str(runs[0]["run_id"])

    def begin(self, function: str, **data: Any) -> str:
        """Send the event; the id of its run."""
        return self.run_of(self.send(function, **data))

    def ended(self, run: str) -> dict[str, Any]:
        """A run in full, once it is over."""
        self.until(f"the end of run {run}", lambda: self.run(run).get("status") in ENDED)
        return self.run(run)

    def until_state(self, run: str, state: str) -> None:
        """Return once a run is in this state, such as Waiting."""
        self.until(f"run {run} is {state}", lambda: self.run(run).get("state") == state)

    def until_executed(self, run: str, what: str) -> None:
        """Return once the ledger has this of a run."""
        self.until(f"run {run} has executed {what!r}", lambda: what in self.ledger(run))

    def does(self, function: str, **data: Any) -> dict[str, Any]:
        """Send the event and wait for its run's end; the run."""
        return self.ended(self.begin(function, **data))

    def until(self, what: str, look: Callable[[], T]) -> T:
        """Look until there is something to see; it. What the app has said is in the error."""
        return until(what, look, lambda: f"{self.app.said}\n{self.server.output.read_text()[-3_000:]}")

    @property
    def gates(self) -> Path:
        """The folder of gates."""
        return self.folder / "gates"

    def open(self, gate: str) -> None:
        """Let steps that wait at the gate go on."""
        (self.gates / gate).touch()

    @property
    def _ledger(self) -> Path:
        return self.folder / f"{self.id}.ledger"

    def rows(self) -> list[dict[str, Any]]:
        """All that its steps have executed, and the calls of its functions."""
        if not self._ledger.exists():
            return []
        return [json.loads(line) for line in self._ledger.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def ledger(self, run: str) -> list[str]:
        """What the steps of a run have executed, in order."""
        return [row["what"] for row in self.rows() if row["run"] == run and row["what"] != "call"]

    def calls(self, run: str) -> int:
        """How often the function was called for this run."""
        return sum(row["run"] == run and row["what"] == "call" for row in self.rows())

    def times(self, run: str) -> dict[str, float]:
        """When each thing was executed last, in seconds."""
        return {row["what"]: row["at"] for row in self.rows() if row["run"] == run}


@dataclass
class Stage:
    """A server, an address outside, and the hosts that were asked for. ``variables`` are of all of them."""

    folder: Path
    server: Server
    outside: Outside = field(default_factory=Outside)
    hosts: dict[str, Host] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def host(self, name: str, *, id: str = "", **variables: str) -> Host:
        """The host of this name, registered; with an ``id`` one of its own."""
        id = id or name
        if id not in self.hosts:
            given = {"OUTSIDE": self.outside.url} | self.variables | variables
            self.hosts[id] = Host(name, self.server, self.folder, id, variables=given)
            self.hosts[id].start().register()
        return self.hosts[id]


@contextlib.contextmanager
def ended_with(stage: Stage) -> Iterator[Stage]:
    """Its processes end with it."""
    (stage.folder / "gates").mkdir(parents=True)
    with stage.outside:
        try:
            yield stage
        finally:
            for host in stage.hosts.values():
                host.kill()
            stage.server.close()


@contextlib.contextmanager
def staged(folder: Path, *flags: str, bearer: str = "") -> Iterator[Stage]:
    """A server with its stage, which has begun."""
    with ended_with(Stage(folder, Server(folder / "data", *flags, bearer=bearer))) as stage:
        stage.server.start()
        yield stage


def until(what: str, look: Callable[[], T], more: Callable[[], str] = lambda: "") -> T:
    """Look until there is something to see; it."""
    ends_s = time.monotonic() + PATIENCE_S
    while not (seen := look()):
        assert time.monotonic() < ends_s, f"{what}: not within {PATIENCE_S} s\n{more()}"
        time.sleep(0.03)
    return seen


def unique() -> str:
    """A name that nobody else has."""
    return uuid.uuid4().hex[:12]
