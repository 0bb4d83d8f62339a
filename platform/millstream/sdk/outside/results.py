"""Ends of runs as a client waits for them: what it asks, one request after the other, and what the answers mean.

No I/O is here: a generator yields each ``Question`` and is sent the answer, so that both clients are led by one piece
of code. A request waits ASKED_S at the server, then it is asked again: no proxy on the way cuts it, and a server that
stops is not kept waiting.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, NamedTuple, cast
from urllib.parse import quote

import msgspec

from millstream.errors import Busy, NotFound, NotStarted, RunError, RunNotOver
from millstream.model.text.durations import Duration, duration_text, to_ms
from millstream.sdk.outside.transport import SEED_HEADER
from millstream.sdk.payloads import Reader, encode, read

ASKED_S: Final = 5.0
SHOWN_WITHIN_S: Final = 30.0
"""A run that was started a moment ago may not be in the history yet: for so long, not found means not yet."""


class Question(NamedTuple):
    """One request to the server."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = {}


class Wait(NamedTuple):
    """How long a call waits: until ``timeout`` is over (None: for ever), in requests of ``asked_s()`` each."""

    timeout_ms: int | None
    asked_s: Callable[[], float]
    began: float

    @classmethod
    def of(cls, timeout: Duration | None, asked_s: Callable[[], float] = lambda: ASKED_S) -> Wait:
        """Raises FunctionError for what is no length of time."""
        return cls(None if timeout is None else to_ms(timeout, "timeout"), asked_s, time.monotonic())

    @property
    def left_s(self) -> float:
        """What is left of it."""
        if self.timeout_ms is None:
            return float("inf")
        return max(self.began + self.timeout_ms / 1000 - time.monotonic(), 0.0)

    def asked(self) -> str:
        """The query parameter of the next request."""
        return f"wait={round(min(self.left_s, self.asked_s()) * 1000)}ms"


Asking = Generator[Question, dict[str, object], Any]


def seed() -> str:
    """What makes a request that is sent again the same one to the server."""
    return f"{time.time_ns() // 1_000_000},{base64.b64encode(os.urandom(10)).decode()}"


def result(run: str, wait: Wait, *, reader: Reader | None = None, shown_within_s: float = 0.0) -> Asking:
    """Ask until the run is over; its result. Raises RunError, RunNotOver, and NotFound for a run that is not there."""
    while True:
        left_s = wait.left_s
        try:
            answer = yield Question("GET", f"/v1/runs/{quote(run, safe='')}/result?{wait.asked()}")
        except Busy:
            if left_s <= 0:
                raise
            continue  # The server is asked with pauses between (sdk/outside/transport.py).
        except NotFound:
            if time.monotonic() - wait.began > shown_within_s:
                raise
            seen: Mapping[str, object] = {"run_id": run, "function_id": "", "status": "Queued"}
        else:
            seen = cast("Mapping[str, object]", answer["data"])
        if seen["status"] in _OUTCOMES:
            return _outcome(seen, reader)
        if left_s <= 0:
            raise RunNotOver(
                f"run {run}{_of(seen)} is not over after {duration_text(wait.timeout_ms or 0)}: it is "
                f"{seen['status']}, and goes on. Wait again with result({run!r}), or end it with cancel({run!r})."
            )


def invoke(
    slug: str, data: Mapping[str, object] | None, wait: Wait, key: str, *, reader: Reader | None = None
) -> Asking:
    """Start the function, and ask until the run is over; its result. Raises NotStarted where a gate lets none start."""
    body = encode({"data": {} if data is None else data}, "the data of the invocation of", slug)
    headers = {SEED_HEADER: seed(), "Authorization": f"Bearer {key}"}
    started = yield Question("POST", f"/invoke/{quote(slug, safe='')}?{wait.asked()}", body, headers)
    if (seen := started.get("data")) is not None:
        return _outcome(cast("Mapping[str, object]", seen), reader)
    if started.get("kept"):
        run = started["run_id"]
        raise NotStarted(
            f"{slug} was not started: a run of it is open, and its singleton keeps this start until that is over, as "
            f"run {run}, unless a newer one comes. Ask for its result later with result({run!r})."
        )
    return (yield from result(str(started["run_id"]), wait, reader=reader, shown_within_s=SHOWN_WITHIN_S))


_OUTCOMES: Final = {"Completed": "completed", "Failed": "failed", "Cancelled": "was cancelled"}


def _outcome(seen: Mapping[str, object], reader: Reader | None) -> object:
    run, status = str(seen["run_id"]), str(seen["status"])
    if status == "Completed":
        output = seen.get("output")
        return output if reader is None else read(msgspec.json.encode(output), reader, "the result of run", run)
    error = cast("Mapping[str, object]", seen.get("error") or {})
    name, message, stack = (str(error.get(field) or "") for field in ("name", "message", "stack"))
    why = message if status == "Cancelled" else f"{name}: {message}"
    raise RunError(f"run {run}{_of(seen)} {_OUTCOMES[status]}: {why}", run=run, status=status, name=name, stack=stack)


def _of(seen: Mapping[str, object]) -> str:
    return f" of {seen['function_id']}" if seen.get("function_id") else ""
