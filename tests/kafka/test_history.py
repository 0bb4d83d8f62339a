"""The history as a role of its own on a real broker: what it shows, and what it survives."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from millstream.history import service
from millstream.history.index import Index
from millstream.history.queries import Queries
from millstream.history.seen import Page
from millstream.history.service import Follows, History
from millstream.log.kafka.log import KafkaLog, KafkaOptions
from millstream.log.kafka.settings import KafkaSettings
from millstream.log.port import Produced, TopicSpec
from millstream.model.event import Envelope
from millstream.model.ids import ulid
from millstream.wire.messages import encode_envelope
from tests.history.test_rebuild import shows_open_runs_whose_start_is_gone
from tests.history.world import World, living, shop
from tests.kafka.broker import Broker, fresh, kafka
from tests.kafka.fleet import Fleet, Process, ask, until

__all__ = ["kafka"]
ENDED = ("Completed", "Failed", "Cancelled")


@pytest.fixture
def fleet(kafka: Broker, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(kafka, tmp_path)
    yield made
    made.close()


def _get(url: str) -> Any:
    status, answer = ask(url)
    assert status == 200, (url, answer)
    return answer["data"]


def _run_of(url: str, event: str, *statuses: str) -> dict[str, Any]:
    """The one run of an event, once it stands so."""

    def look() -> Any:
        runs = ask(f"{url}/v1/events/{event}/runs")[1]["data"]
        assert runs is None or len(runs) < 2, runs
        return runs and runs[0]["status"] in statuses and runs[0]

    return dict(until(f"a run of {event} that is {statuses}", look))


def _delete(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=30) as answer:
        return answer.status, str(answer.headers["X-Millstream-Position"])


def test_an_api_and_a_history_show_what_the_workers_did(fleet: Fleet) -> None:
    history = fleet.history()
    api = fleet.door("--history-url", history.url)
    fleet.worker("a")
    events = [fleet.send("fleet/quick", n=n) for n in range(20)]
    for url in (history.url, api.url):
        for event in events:
            _run_of(url, event, "Completed")
        listed = _get(f"{url}/api/runs?status=Completed&limit=200")
        assert {run["event_id"] for run in listed} >= set(events)
        assert len(_get(f"{url}/v1/events?name=inngest/function.finished&limit=200")) == 20
    sleeping = [_run_of(api.url, fleet.send("fleet/sleep", length="1h"), "Running")["run_id"] for _ in range(4)]
    for url, run in zip((history.url, api.url) * 2, sleeping, strict=True):
        until("its first step", lambda url=url, run=run: len(_get(f"{url}/v1/runs/{run}")["steps"]) == 2)
        status, position = _delete(f"{url}/v1/runs/{run}")
        assert status == 200
        for reader in (history.url, api.url):
            assert _get(f"{reader}/v1/runs/{run}?after={position}")["status"] == "Cancelled"
    status, page = _text(history.url)
    assert status == 200 and sleeping[0] in page and fleet.group in page


def test_both_doors_answer_what_apps_and_tools_ask_of_a_run(fleet: Fleet) -> None:
    history = fleet.history()
    api = fleet.door("--history-url", history.url)
    fleet.worker("a")
    event = fleet.send("fleet/sleep", length="1h")
    run = _run_of(history.url, event, "Running")["run_id"]
    query = {"query": f'{{ run(runID: "{run}") {{ status trace {{ childrenSpans {{ name status }} }} }} }}'}
    spans = [{"name": "before", "status": "COMPLETED"}, {"name": "night", "status": "WAITING"}]
    for url in (api.url, history.url):
        until("its sleep", lambda url=url: len(_get(f"{url}/v1/runs/{run}/jobs")) == 1)
        assert ask(f"{url}/v0/runs/{run}/actions") == (200, {"before": {"data": "kept"}})
        status, events = ask(f"{url}/v0/runs/{run}/batch")
        assert (status, [(one["id"], one["name"], one["data"]) for one in events]) == (
            200,
            [(event, "fleet/sleep", {"length": "1h"})],
        )
        status, answer = ask(f"{url}/v0/gql", query)
        assert (status, answer["data"]["run"]) == (200, {"status": "RUNNING", "trace": {"childrenSpans": spans}})
    _delete(f"{api.url}/v0/runs/{run}")
    for url in (api.url, history.url):
        assert ask(f"{url}/v0/runs/{run}/actions")[0] == 410
    assert ask(f"{api.url}/v1/apps/fleet/functions")[1][0]["app_id"] == "fleet"


def _text(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.status, answer.read().decode()


def test_the_command_line_reads_a_group_through_its_history(fleet: Fleet) -> None:
    history = fleet.history()
    fleet.door()
    fleet.worker("a")
    run = _run_of(history.url, fleet.send("fleet/quick", n=1), *ENDED)["run_id"]

    def millstream(*words: str) -> list[dict[str, Any]]:
        line = [sys.executable, "-m", "millstream", *words, "--url", history.url]
        ran = subprocess.run(line, env=fleet.env, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stderr
        return [json.loads(row) for row in ran.stdout.splitlines()]

    assert run in [row["run_id"] for row in millstream("runs", "list")]
    assert millstream("runs", "get", run)[0]["status"] == "Completed"
    assert millstream("runs", "watch", run)[-1]["status"] == "Completed"


def test_a_killed_history_goes_on_where_it_was_and_a_lost_index_is_rebuilt(fleet: Fleet) -> None:
    history = fleet.history()
    fleet.door()
    fleet.worker("a")
    fleet.worker("b")  # Two owners, and lanes that change hands: fences in every journal.
    events = [fleet.send("fleet/quick", n=n) for n in range(30)]
    _run_of(history.url, events[-1], "Completed")
    _kill(history)
    events += [fleet.send("fleet/quick", n=n) for n in range(30, 60)]
    again = fleet.history()
    for event in events:
        _run_of(again.url, event, "Completed")
    until("every event", lambda: len(_everything(again)[1]) == 2 * len(events))  # Those of the ends, too.
    shown = _everything(again)
    _kill(again)
    shutil.rmtree(fleet.folder / "history")
    rebuilt = fleet.history()
    until("the same as before", lambda: _everything(rebuilt) == shown)
    fleet.check_promises()


def _kill(history: Process) -> None:
    history.popen.kill()
    history.popen.wait(30)


def _everything(history: Process) -> Any:
    runs = _get(f"{history.url}/api/runs?limit=200")
    events = [(event["internal_id"], event["name"]) for event in _get(f"{history.url}/v1/events?limit=200")]
    steps = {run["run_id"]: _get(f"{history.url}/v1/runs/{run['run_id']}") for run in runs}
    return sorted(steps.items()), sorted(events)


async def _log(kafka: Broker) -> KafkaLog:
    settings = KafkaSettings(brokers=kafka.bootstrap, replication_factor=1, min_insync=1)
    return await KafkaLog.open(settings, KafkaOptions(name=fresh("test")))


async def test_a_history_that_fell_off_a_journal_begins_again_from_the_checkpoint(
    kafka: Broker, tmp_path: Path
) -> None:
    async with living(World(await _log(kafka), tmp_path, [shop], fresh("shop"))) as world:
        await shows_open_runs_whose_start_is_gone(world)


async def test_new_partitions_of_the_events_topic_are_noticed(
    kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LOOK_AGAIN_S", 0.2)
    group = fresh("grow")
    log = await _log(kafka)
    await log.create_topics([TopicSpec(f"{group}.journal", 1), TopicSpec(f"{group}-events", 1)])
    index = Index(tmp_path / "history.db")
    following = asyncio.ensure_future(
        History(log, index, Follows(group=group, lanes=1, events=(f"{group}-events",))).run()
    )
    try:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        (made,) = admin.create_partitions([NewPartitions(f"{group}-events", 3)]).values()
        await asyncio.to_thread(made.result)
        for partition in range(3):
            await _send(log, f"{group}-events", partition)
        queries = Queries(tmp_path / "history.db")
        async with asyncio.timeout(30):
            while len(queries.events(page=Page(10))[0]) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert {event.partition for event in queries.events(page=Page(10))[0]} == {0, 1, 2}
        queries.close()
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        index.close()
        await log.close()


async def _send(log: KafkaLog, topic: str, partition: int) -> None:
    internal = ulid(1_800_000_000_000, os.urandom(10))
    event = Envelope(internal, internal, False, "a/b", b"{}", 1_800_000_000_000, 1_800_000_000_000)
    async with asyncio.timeout(30):
        while (spec := await log.topic(topic)) is None or spec.partitions <= partition:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    writer = log.writer(topic, partition)
    await writer.append([Produced(encode_envelope(event))])
    await writer.close()
