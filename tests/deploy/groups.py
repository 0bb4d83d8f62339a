"""A group for tests of its deployment: functions as an image, values of the chart, what the tables of commands know."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from millstream.config import BY_VARIABLE, refuse_unknown
from tests.deploy.pods.containers import Process
from tests.docs.test_names import below

KEY = "the-key"
IMAGE = "registry.example/shop:v1"
WITHIN_S = 60.0
FOR_FUNCTIONS = {"MILLSTREAM_URL", "MILLSTREAM_EVENT_KEY"}
"""Read by the client of an app, in whatever process it runs (``sdk/outside/client.py``)."""
APP = """
import os
from millstream import App, Context

app = App("shop")


@app.function(on="order/placed")
async def fulfil(ctx: Context) -> dict:
    return await ctx.step.run("ship", lambda: {"n": ctx.event.data["n"], "by": os.environ["HOSTNAME"]})
"""


def image_of(folder: Path, app: str = APP) -> Path:
    """What the image has in /app."""
    folder.mkdir(parents=True)
    (folder / "shop.py").write_text(app)
    return folder


def values(group: str, bootstrap: str, **changes: Any) -> dict[str, Any]:
    """One pod of each role, on a broker that keeps one copy. Nobody else is there to lead clients to: no delay."""
    settings = {"group": group, "lanes": 2, "events_topic": f"{group}-events"}
    return {
        "image": {"repository": "registry.example/shop", "tag": "v1"},
        "apps": ["shop:app"],
        "eventKeys": {"existingSecret": "shop-keys"},
        "settings": settings | {"replication_factor": 1, "min_insync": 1},
        "kafka": {"brokers": bootstrap},
        "worker": {"replicas": 1},
        "api": {"replicas": 1, "shutdownDelaySeconds": 0},
        "history": {"replicas": 1, "shutdownDelaySeconds": 0},
    } | changes


def ask(url: str, body: object = None, key: str = KEY) -> tuple[int, Any]:
    """Status and JSON of a request with the key."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def until(what: str, look: Callable[[], Any]) -> Any:
    """Look until there is something to see; it."""
    ends_s = time.monotonic() + WITHIN_S
    while not (seen := look()):
        assert time.monotonic() < ends_s, f"{what}: not within {WITHIN_S} s"
        time.sleep(0.05)
    return seen


def fulfilled(url: str, number: int) -> dict[str, Any]:
    """Post an event through a Service, and wait there until its run has ended; what it returned."""
    status, answer = ask(f"{url}/e/{KEY}", {"name": "order/placed", "data": {"n": number}})
    assert status == 200, answer
    event = answer["ids"][0]
    (run,) = until(f"a run of {event}", lambda: ask(f"{url}/v1/events/{event}/runs")[1]["data"])
    status, answer = ask(f"{url}/v1/runs/{run['run_id']}/result?wait=30s")
    assert (status, answer["data"]["status"]) == (200, "Completed"), answer
    return dict(answer["data"]["output"])


def unknown_to_millstream(process: Process | None) -> Iterator[str]:
    """What a container is given that its command does not take: flags, and variables of settings."""
    assert process is not None, "the pod was started"
    program, *words = process.rendered
    assert program == "millstream"
    command, rest = below(words)
    options = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    yield from (word for word in rest if word.startswith("-") and word.split("=")[0] not in options)
    refuse_unknown(process.variables)
    for variable in process.variables.keys() & BY_VARIABLE.keys() - FOR_FUNCTIONS:
        if BY_VARIABLE[variable].flag.split("/")[0] not in options:
            yield variable
