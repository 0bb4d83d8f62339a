"""Clients of a group's api that never try twice: what fails is lost, and is written down.

    with Load(url, key) as load:
        load.until_each(20)          # each client has been answered 20 times more; raises where a request failed

Five clients, a thread each, one request after the other:

    events    posts an event on a connection of its own           kept      the same on a connection that it keeps
    invoke    invokes a function and waits for how it ended       waits     waits half a minute for the end of a run
    reads     lists runs, and gets one, on a kept connection

Any answer but a 2xx fails, and so does a connection that is refused or cut off. A kept connection is given up where an
answer says so (``Connection: close``), as every client of HTTP/1.1 does.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

PAUSE_S = 0.02
TIMEOUT_S = 90.0
WITHIN_S = 120.0
EVENT = "order/placed"
NAPS = "order/napped"


class Failed(AssertionError):
    """A request was not answered as it must be."""


class Connection:
    """One connection; ``kept``: for all requests, until an answer says that it closes."""

    def __init__(self, url: str, key: str, *, kept: bool) -> None:
        self._address = urlsplit(url).netloc
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        self._kept = kept
        self._http = http.client.HTTPConnection(self._address, timeout=TIMEOUT_S)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON. Raises Failed."""
        if not self._kept:
            self._http.close()
        content = None if body is None else json.dumps(body)
        try:
            self._http.request(method, path, content, self._headers)
            answer = self._http.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"{method} {path}: {error!r}") from error
        if not 200 <= answer.status < 300:
            raise Failed(f"{method} {path}: {answer.status} {text[:500]}")
        return json.loads(text)

    def close(self) -> None:
        self._http.close()


class Load:
    """See the module. ``sent``: the number that each acknowledged event carried, by its id."""

    def __init__(self, url: str, key: str, function: str) -> None:
        self.answered: Counter[str] = Counter()
        self.failures: list[str] = []
        self.sent: dict[str, int] = {}
        self.results: dict[str, Any] = {}
        """What invoked runs returned, by run."""
        self._url, self._key, self._function = url, key, function
        self._numbers = itertools.count()
        self._over = threading.Event()
        clients: dict[str, Callable[[Connection], None]] = {
            "events": self._send, "kept": self._send, "invoke": self._invoke, "reads": self._read, "waits": self._wait,
        }  # fmt: skip
        self._threads = [threading.Thread(target=self._go_on, args=pair, name=pair[0]) for pair in clients.items()]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S * 2)

    def check(self) -> None:
        """Raise AssertionError where a request has failed."""
        assert not self.failures, "\n".join(self.failures[:10])

    def until_each(self, times: int) -> None:
        """Return when every client has been answered so often from now on (``waits``: once)."""
        before = Counter(self.answered)
        ends_s = time.monotonic() + WITHIN_S
        while any(
            self.answered[one.name] - before[one.name] < (1 if one.name == "waits" else times) for one in self._threads
        ):
            self.check()
            assert time.monotonic() < ends_s, f"answered in {WITHIN_S} s: {self.answered - before}"
            time.sleep(0.05)

    # --- the clients --------------------------------------------------------------------------------

    def _go_on(self, name: str, request: Callable[[Connection], None]) -> None:
        connection = Connection(self._url, self._key, kept=name != "events")
        while not self._over.wait(PAUSE_S):
            try:
                request(connection)
                self.answered[name] += 1
            except Exception as error:
                self.failures.append(f"{name}: {error}")
                connection.close()
        connection.close()

    def _send(self, connection: Connection, name: str = EVENT) -> str:
        number = next(self._numbers)
        answer = connection.ask("POST", f"/e/{self._key}", {"name": name, "data": {"n": number}})
        (event,) = answer["ids"]
        self.sent[event] = number
        return str(event)

    def _invoke(self, connection: Connection) -> None:
        number = next(self._numbers)
        answer = connection.ask("POST", f"/invoke/{self._function}?wait=20s", {"data": {"n": number}})
        run = answer["run_id"]
        data = answer.get("data")
        while data is None or "output" not in data:
            data = connection.ask("GET", f"/v1/runs/{run}/result?wait=20s")["data"]
            assert data["status"] in ("Running", "Queued", "Completed"), data
        self.results[run] = data["output"]
        if data["output"]["n"] != number:
            raise Failed(f"run {run} of number {number} has returned {data['output']}")

    def _wait(self, connection: Connection) -> None:
        event = self._send(connection, NAPS)
        for run in self._runs_of(connection, event):
            while connection.ask("GET", f"/v1/runs/{run}/result?wait=30s")["data"]["status"] != "Completed":
                pass

    def _runs_of(self, connection: Connection, event: str) -> Iterator[str]:
        while not (found := connection.ask("GET", f"/v1/events/{event}/runs")["data"]):
            time.sleep(PAUSE_S)
        for run in found:
            yield run["run_id"]

    def _read(self, connection: Connection) -> None:
        for run in connection.ask("GET", "/api/runs?limit=3")["data"]:
            seen = connection.ask("GET", f"/v1/runs/{run['run_id']}")["data"]
            assert seen["run_id"] == run["run_id"], seen
