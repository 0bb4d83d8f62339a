"""A schema registry of a few schemas on a loopback port: what Confluent's answers for references and descriptors.

The client's in-memory registry knows neither ``?format=serialized`` nor references by subject and version.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@contextmanager
def registry_of(subjects: dict[str, dict[str, Any]], *, port: int = 0) -> Iterator[str]:
    """Its URL. Each subject has one version: ``schema``, ``schemaType``, ``references``, ``id`` and, for Protobuf,
    ``serialized``."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            parts = [unquote(part) for part in url.path.strip("/").split("/")]
            match parts:
                case ["subjects"]:
                    self._answer(200, list(subjects))
                case ["subjects", name, "versions"] if name in subjects:
                    self._answer(200, [1])
                case ["subjects", name, "versions", _] if name in subjects:
                    self._answer(200, {"subject": name, "version": 1, **self._schema(name, url.query)})
                case ["schemas", "ids", id]:
                    name = next((name for name, one in subjects.items() if str(one["id"]) == id), "")
                    self._answer(*((200, self._schema(name, url.query)) if name else (404, {"error_code": 40403})))
                case _:
                    self._answer(404, {"error_code": 40401, "message": "not found"})

        def _schema(self, name: str, query: str) -> dict[str, Any]:
            held = dict(subjects[name])
            serialized = held.pop("serialized", "")
            if parse_qs(query).get("format") == ["serialized"]:
                held["schema"] = serialized
            return held

        def _answer(self, status: int, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Answers) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        serving.join()
