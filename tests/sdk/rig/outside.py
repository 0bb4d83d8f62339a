"""An HTTP server beside the apps: a model's API, a teapot, which steps call through the engine, and a door for events.

It keeps what it got, and may be told to let every answer wait. Apps whose INNGEST_EVENT_API_BASE_URL it is send their
events through it: it passes them on to ``events_to``, and may lose the next answer on its way back.
"""

from __future__ import annotations

import json
import threading
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

PATIENCE_S: Final = 120.0
JSON: Final = "application/json"


@dataclass(frozen=True)
class Got:
    """A request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Outside:
    """Serves from ``with`` to its end. While it is not ``open``, a request is taken and its answer waits."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.open = threading.Event()
        self.open.set()
        self.events_to = ""
        self.loses_next_answer = False
        outside = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                got = Got("POST", self.path, dict(self.headers), body)
                status, kind, answer = outside.answer(got)
                outside.got.append(got)
                assert outside.open.wait(PATIENCE_S), "the address outside was never opened"
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("X-Kind", "porcelain")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, got: Got) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        if got.path.startswith("/e/"):
            request = urllib.request.Request(self.events_to + got.path, got.body, got.headers, method="POST")
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answered:
                status, answer = answered.status, answered.read()
            lost, self.loses_next_answer = self.loses_next_answer, False
            return (502, JSON, b"{}") if lost else (status, JSON, answer)
        if got.path != "/v1/chat/completions":
            return 418, "text/plain", b"I am a teapot, and got " + got.body
        asked = json.loads(got.body)["messages"][-1]["content"]
        said = {"choices": [{"message": {"role": "assistant", "content": f"you said {asked}"}}]}
        return 200, JSON, json.dumps(said).encode()

    def __enter__(self) -> Outside:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Whoever asked was killed before the answer."""
