"""The server as commands see it: one connection, blocking calls, errors with the exit code they deserve.

The SDK's ``Client`` is for programs with a loop and many calls; a command makes a few, and importing an asynchronous
HTTP library takes longer than all of them. Posts of events carry a seed (sdk-protocol P1), so that one that is tried
again starts nothing twice.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from millstream.cli.support.exits import Unreachable
from millstream.config import Settings
from millstream.errors import (
    BadRequest,
    Busy,
    Conflict,
    LimitExceeded,
    LogUnavailable,
    MillstreamError,
    NotAllowed,
    NotFound,
    NotStarted,
)
from millstream.model.address import http_url, sendable_key
from millstream.sdk.outside.results import seed
from millstream.sdk.outside.transport import NO_KEY, SEED_HEADER

TRIES_MAX: Final = 5
FIRST_DELAY_S: Final = 0.1
TIMEOUT_S: Final = 30.0
PAGE_ROWS_MAX: Final = 200
PROXY_STATUSES: Final = (429, 502, 503, 504)
"""What a proxy in front of a server answers in its own words."""
_STATUS: Final[dict[int, type[MillstreamError]]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    413: LimitExceeded,
    429: Busy,
    503: Busy,
}


class PartlyRefused(BadRequest):
    """A post of events was refused at one of them; those before it were taken and have these ids."""

    def __init__(self, message: str, ids: Sequence[str]) -> None:
        super().__init__(message)
        self.ids = tuple(ids)


class Server:
    """Calls to the server that ``--url`` names. Use it as a context."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError for a URL that is none."""
        self.url = settings.text("url").rstrip("/")
        self._key = sendable_key(settings.text("event_key") or NO_KEY, "--event-key")
        parts = http_url(self.url, "--url")
        assert parts.hostname, "an http URL has a host"
        self._path = parts.path
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, events: Sequence[Mapping[str, Any]]) -> list[str]:
        """Post events; their ids, in order, once they are durable. Raises PartlyRefused, NotAllowed, Busy, …"""
        body = msgspec.json.encode(list(events))
        path = f"/e/{quote(self._key, safe='')}"
        status, answer = self._call("POST", path, body, {SEED_HEADER: seed()})
        if status == 400:
            ids = [id for id in answer.get("ids") or () if id]
            raise PartlyRefused(str(answer.get("error") or "no reason was given"), ids)
        self._raise_if_refused(status, answer, "POST /e/…")
        return [str(id) for id in answer["ids"]]

    def run(self, id: str) -> dict[str, Any]:
        """A run with its steps. Raises NotFound."""
        return self._data("GET", f"/v1/runs/{quote(id, safe='')}")

    def wait(self, id: str, wait_s: float) -> None:
        """Return when the run is over, or after so long (a minute at most). Raises NotFound."""
        self._data("GET", f"/v1/runs/{quote(id, safe='')}/result?wait={round(wait_s * 1000)}ms")

    def send_signal(self, name: str, data: bytes) -> dict[str, Any]:
        """Send a signal; ``{"run_id"}`` of the run that waited for it. Raises NotFound where none does."""
        body = msgspec.json.encode({"signal": name, "data": msgspec.Raw(data)})
        return self._data("POST", "/v1/signals", {"Authorization": f"Bearer {self._key}", SEED_HEADER: seed()}, body)

    def event(self, id: str) -> dict[str, Any]:
        """An event, by its internal id or its sender's. Raises NotFound."""
        return self._data("GET", f"/v1/events/{quote(id, safe='')}")

    def events(self, query: Sequence[tuple[str, str]], limit: int) -> Iterator[dict[str, Any]]:
        """The newest events that fit, ``limit`` at most, page by page."""
        return self._pages("/v1/events", query, limit)

    def runs_of_event(self, id: str) -> list[dict[str, Any]]:
        """The runs that an event started, the newest first; one page of them at most. Raises NotFound."""
        path = f"/v1/events/{quote(id, safe='')}/runs"
        status, answer = self._call("GET", path)
        self._raise_if_refused(status, answer, f"GET {path}")
        return list(answer["data"])

    def functions(self) -> list[dict[str, Any]]:
        """The functions that are registered."""
        status, answer = self._call("GET", "/dev")
        self._raise_if_refused(status, answer, "GET /dev")
        return list(answer["functions"])

    def queues(self, function: str) -> dict[str, Any]:
        """Who stands at the gates of a function. Raises NotFound."""
        return self._data("GET", f"/api/functions/{quote(function, safe='')}/queues")

    def cancel(self, id: str) -> dict[str, Any]:
        """Cancel a run; ``{"run_id", "status"}``, the status it has now. Raises NotFound."""
        return self._data("DELETE", f"/v1/runs/{quote(id, safe='')}", {"Authorization": f"Bearer {self._key}"})

    def cancel_many(self, wanted: Mapping[str, str]) -> dict[str, Any]:
        """Have every lane cancel the runs that fit; the cancellation with its id. Raises NotFound, BadRequest.

        Tried again it is the same request: one cancellation.
        """
        head = {"Authorization": f"Bearer {self._key}", SEED_HEADER: seed()}
        return self._data("POST", "/v1/cancellations", head, msgspec.json.encode(wanted))

    def cancellations(self, limit: int) -> Iterator[dict[str, Any]]:
        """The newest cancellations, ``limit`` at most, page by page."""
        return self._pages("/v1/cancellations", (), limit)

    def stop_cancelling(self, id: str) -> dict[str, Any]:
        """Stop a cancellation. Raises NotFound."""
        path = f"/v1/cancellations/{quote(id, safe='')}"
        return self._data("DELETE", path, {"Authorization": f"Bearer {self._key}"})

    def decide_held(self, id: str, how: str) -> dict[str, Any]:
        """Let what is held of a run be tried again, or fail (``how``: resume, fail). Raises NotFound, Conflict."""
        head = {"Authorization": f"Bearer {self._key}", SEED_HEADER: seed()}
        return self._data("POST", f"/api/runs/{quote(id, safe='')}/{how}", head)

    def invoke(self, function: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Start a function; ``{"id", "run_id"}``. Raises NotFound; NotStarted where a gate has let none start.

        Tried again it is the same request: one run.
        """
        path = f"/invoke/{quote(function, safe='')}"
        head = {"Authorization": f"Bearer {self._key}", SEED_HEADER: seed()}
        status, answer = self._call("POST", path, msgspec.json.encode({"data": data}), head)
        try:
            self._raise_if_refused(status, answer, f"POST {path}")
        except Conflict as error:
            raise NotStarted(str(error)) from None
        return answer

    def backfill(self, function: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a backfill, or look what it would read. Raises NotFound."""
        path = f"/api/functions/{quote(function, safe='')}/backfill"
        return self._data("POST", path, {"Authorization": f"Bearer {self._key}"}, msgspec.json.encode(wanted))

    def limits(self, function: str) -> dict[str, Any]:
        """The limits of a function: declared, and set instead. Raises NotFound."""
        return self._data("GET", _limits_of(function))

    def set_limits(self, function: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Set or reset some of them; all as they are then. Raises NotFound, Conflict, BadRequest."""
        head = {"Authorization": f"Bearer {self._key}", SEED_HEADER: seed()}
        return self._data("PUT", _limits_of(function), head, msgspec.json.encode(wanted))

    def reset_limits(self, function: str) -> dict[str, Any]:
        """All are as declared again. Raises NotFound."""
        head = {"Authorization": f"Bearer {self._key}", SEED_HEADER: seed()}
        return self._data("DELETE", _limits_of(function), head)

    def scans(self) -> list[dict[str, Any]]:
        """The scans there are, and were, by partition."""
        status, answer = self._call("GET", "/api/scans")
        self._raise_if_refused(status, answer, "GET /api/scans")
        return list(answer["data"])

    def cancel_scan(self, scan: str) -> dict[str, Any]:
        """End a scan. Raises NotFound."""
        return self._data("DELETE", f"/api/scans/{quote(scan, safe='')}", {"Authorization": f"Bearer {self._key}"})

    def apps(self) -> list[dict[str, Any]]:
        """The apps that are registered, looked at now, and addresses that have none yet."""
        status, answer = self._call("GET", "/api/apps?check=1")
        self._raise_if_refused(status, answer, "GET /api/apps")
        return list(answer["data"])

    def sync_app(self, url: str) -> dict[str, Any]:
        """Have the app at an address register; ``{"app", "url", "modified"}``. Raises BadRequest with the reason."""
        head = {"Authorization": f"Bearer {self._key}"}
        return self._data("POST", "/api/apps/sync", head, msgspec.json.encode({"url": url}))

    def remove_app(self, id: str) -> dict[str, Any]:
        """Take an app out; what it was. Raises NotFound."""
        return self._data("DELETE", f"/api/apps/{quote(id, safe='')}", {"Authorization": f"Bearer {self._key}"})

    def dead_letters(self, limit: int) -> list[dict[str, Any]]:
        """The newest dead letters, without their values; ``limit`` at most, page by page."""
        letters: list[dict[str, Any]] = []
        before: str | None = ""
        while len(letters) < limit and before is not None:
            page = {"limit": min(limit - len(letters), PAGE_ROWS_MAX)} | ({"before": before} if before else {})
            status, answer = self._call("GET", f"/api/dead-letters?{urlencode(page)}")
            self._raise_if_refused(status, answer, "GET /api/dead-letters")
            letters += answer["data"]
            before = answer["metadata"]["before"]
        return letters

    def dead_letter(self, id: str) -> dict[str, Any]:
        """One dead letter with its key, value and headers. Raises NotFound."""
        return self._data("GET", f"/api/dead-letters/{quote(id, safe='')}")

    def redrive(self, id: str, function: str) -> dict[str, Any]:
        """Start functions on the record of a dead letter once more. Raises NotFound, BadRequest."""
        path = f"/api/dead-letters/{quote(id, safe='')}/redrive"
        body = msgspec.json.encode({"function": function})
        return self._data("POST", path, {"Authorization": f"Bearer {self._key}"}, body)

    def runs(self, query: Sequence[tuple[str, str]], limit: int) -> Iterator[dict[str, Any]]:
        """The newest runs that fit, ``limit`` at most, page by page."""
        return self._pages("/api/runs", query, limit)

    def _pages(self, path: str, query: Sequence[tuple[str, str]], limit: int) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        while limit > 0:
            page = [*query, ("limit", str(min(limit, PAGE_ROWS_MAX)))] + ([("cursor", cursor)] if cursor else [])
            status, answer = self._call("GET", f"{path}?{urlencode(page)}")
            self._raise_if_refused(status, answer, f"GET {path}")
            yield from answer["data"]
            limit -= len(answer["data"])
            cursor = answer["metadata"].get("cursor")
            if not cursor:
                return

    def _data(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> dict[str, Any]:
        status, answer = self._call(method, path, body, headers)
        self._raise_if_refused(status, answer, f"{method} {path}")
        data = answer["data"]
        assert isinstance(data, dict), "these paths answer with one object"
        return data

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON; tried again where nothing, or only a passing trouble, was answered."""
        for attempt in range(TRIES_MAX):
            if attempt:
                time.sleep(FIRST_DELAY_S * 2 ** (attempt - 1))
            try:
                status, answer = self._once(method, path, body, headers or {})
            except ConnectionRefusedError as error:
                raise self._unreachable(error) from error  # Nothing listens: waiting would only be slow.
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                failure: OSError | http.client.HTTPException = error
                continue
            if status in (429, 503) and attempt + 1 < TRIES_MAX:
                continue
            return status, answer
        raise self._unreachable(failure) from failure

    def _once(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, Any]]:
        held = {} if self._key == NO_KEY else {"Authorization": f"Bearer {self._key}"}  # Signed mode asks for it.
        sent = {name: value.encode() for name, value in (held | dict(headers)).items()}  # Else Latin-1 only.
        self._connection.request(method, self._path + path, body, {"Content-Type": "application/json", **sent})
        response = self._connection.getresponse()
        content = response.read()
        try:
            answer = msgspec.json.decode(content) if content else {}
        except (msgspec.DecodeError, UnicodeDecodeError):
            kind = response.getheader("Content-Type", "no type").partition(";")[0]
            if response.status not in PROXY_STATUSES:
                raise Unreachable(
                    f"what listens at {self.url} is not millstream: it answered {method} {path} with "
                    f"{response.status} and {kind:.80}, not JSON. Name the server with --url."
                ) from None
            answer = {"error": f"a proxy answered with {kind:.80}"}
        return response.status, answer if isinstance(answer, dict) else {"data": answer}

    def _unreachable(self, error: Exception) -> Unreachable:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unreachable(
            f"cannot reach the server at {self.url}: {reason}. Start it with: millstream dev MODULE:APP, or name it "
            "with --url."
        )

    def _raise_if_refused(self, status: int, answer: Mapping[str, Any], call: str) -> None:
        if status < 400:
            return
        reason = answer.get("error") or answer.get("message") or "no reason was given"
        text = f"{call} was answered {status}: {reason}"
        if status in (401, 403):
            text += ". Name the right key with --event-key or MILLSTREAM_EVENT_KEY."
        raise _STATUS.get(status, BadRequest if status < 500 else LogUnavailable)(text)


def _limits_of(function: str) -> str:
    return f"/api/functions/{quote(function, safe='')}/limits"
