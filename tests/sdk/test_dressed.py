"""What the SDKs do by themselves comes through: middleware, encryption, and events that are sent again."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from typing import Any

import pytest

from tests.sdk.rig.processes import PYTHON
from tests.sdk.rig.stage import Host, Stage

SDKS = ("fastapi", "v4", "v3")
HOOKS = {"before execution", "after execution", "before response"}


def dressed(stage: Stage, name: str) -> Host:
    """A host whose client has middleware, and which sends its events through the address outside."""
    if name in PYTHON and find_spec("inngest_encryption") is None:
        missing = "there is no package inngest-encryption: pip install -e '.[sdk]'"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    stage.outside.events_to = stage.server.url
    given = {"MIDDLEWARE": "yes", "INNGEST_EVENT_API_BASE_URL": stage.outside.url}
    return stage.host(name, id=f"{name}-dressed", **given)


def rows(host: Host, what: str, **more: Any) -> list[dict[str, Any]]:
    """What steps noted under this name and with these fields."""
    return [row for row in host.rows() if row["what"] == what and more.items() <= row.items()]


@pytest.mark.parametrize("name", SDKS)
def test_middleware_changes_what_goes_in_and_out_and_its_hooks_are_called(stage: Stage, name: str) -> None:
    host = dressed(stage, name)
    run = host.does("sees-changed")
    assert run["status"] == "Completed", run
    (saw,) = rows(host, "saw", run=run["run_id"])
    assert saw["got"] == {"envelope": "changed on the way in"}
    assert {row["what"] for row in host.rows()} >= HOOKS


@pytest.mark.parametrize("name", ["fastapi", "v4"])
def test_what_an_app_encrypts_is_read_by_its_functions_and_by_nobody_here(stage: Stage, name: str) -> None:
    host = dressed(stage, name)
    run = host.does("secret")
    id, secret = run["run_id"], f"the secret of {run['run_id']}"
    assert run["status"] == "Completed", run
    assert host.ledger(id) == ["make", f"read {secret}"]
    (told,) = host.until("the event is read", lambda: rows(host, "told", of=id))
    assert told["text"] == secret
    reader = host.ended(told["run"])
    seen = [json.dumps(one) for one in (run, host.server.get(f"/v1/events/{reader['event_ids'][0]}"))]
    assert all("__ENCRYPTED__" in one and "the secret" not in one for one in seen), seen


@pytest.mark.parametrize("name", SDKS)
def test_events_that_are_sent_again_after_a_lost_answer_start_functions_once(stage: Stage, name: str) -> None:
    host = dressed(stage, name)
    stage.outside.loses_next_answer = True
    run = host.does("send-event")["run_id"]
    first, second = (got for got in stage.outside.got if run.encode() in got.body)
    seeds = [{name.lower(): text for name, text in got.headers.items()} for got in (first, second)]
    assert seeds[0]["x-inngest-event-id-seed"] == seeds[1]["x-inngest-event-id-seed"]
    told = host.until("both are told", lambda: len(found := rows(host, "told", by=run)) >= 2 and found)
    events = [host.ended(row["run"])["event_ids"][0] for row in told]
    assert [len(host.server.runs_of(event)) for event in events] == [1, 1]
    assert {"before sending", "after sending"} <= {row["what"] for row in host.rows()}
