"""A schema registry that is away at the start: functions that need no schema run, and nothing goes unchecked."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.cli.program import serving, until
from tests.log.registry_stub import registry_of

N = {"type": "record", "name": "Quick", "fields": [{"name": "n", "type": "long"}]}


def post(url: str, body: Any) -> int:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_functions_run_and_events_that_nobody_can_check_wait_for_the_registry(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    (tmp_path / "schemas" / "shop").mkdir(parents=True)
    (tmp_path / "schemas" / "shop" / "bad.avsc").write_text(json.dumps({"type": "record", "name": "Bad", "fields": []}))
    flags = ("--registry", f"http://127.0.0.1:{port}", "--schemas", "schemas")
    with serving(tmp_path, *flags) as server:
        invoked = post(f"{server.url}/invoke/shop-quick", {"data": {}})
        assert invoked == 200, "it needs no schema"
        assert post(f"{server.url}/e/key", {"name": "shop/bad", "data": {}}) == 200, "a file has its schema"
        assert post(f"{server.url}/e/key", {"name": "shop/quick", "data": {"n": "one"}}) == 503
        with registry_of({"shop/quick": {"schema": json.dumps(N), "id": 1}}, port=port):
            fits = {"name": "shop/quick", "data": {"n": 1}}
            until("the registry is asked", lambda: post(f"{server.url}/e/key", fits) == 200)
            assert post(f"{server.url}/e/key", {"name": "shop/quick", "data": {"n": "one"}}) == 400
