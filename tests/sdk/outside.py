"""An HTTP server beside the apps, which steps call through the engine: a model's API, and a teapot.

It keeps what it got.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Got:
    """A request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Outside:
    """Serves from ``with`` to its end."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        outside = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outside.got.append(Got("POST", self.path, dict(self.headers), body))
                status, kind, answer = outside.answer(self.path, body)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("X-Kind", "porcelain")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        if path != "/v1/chat/completions":
            return 418, "text/plain", b"I am a teapot, and got " + body
        asked = json.loads(body)["messages"][-1]["content"]
        said = {"choices": [{"message": {"role": "assistant", "content": f"you said {asked}"}}]}
        return 200, "application/json", json.dumps(said).encode()

    def __enter__(self) -> Outside:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
