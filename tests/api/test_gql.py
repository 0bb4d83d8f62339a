"""POST /v0/gql: what is asked of runs and events, and how little a hostile query may cost."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from millstream import App, Context
from millstream.model import limits
from tests.api.door import SOON_S, World, make_shop, open_world
from tests.api.test_forward import open_both
from tests.api.test_runs import UNKNOWN

QUICK_S = 5.0
"""A refusal takes some milliseconds; a query that was executed after all, or validated, would take minutes."""


async def gql(world: World, query: str, **variables: Any) -> Any:
    """``data`` of a query that is answered without an error."""
    status, answer, _ = await world.call("POST", "/v0/gql", json={"query": query, "variables": variables})
    assert (status, "errors" in answer) == (200, False), answer
    return answer["data"]


RUN = "query ($run: String!) { run(runID: $run) { status output startedAt endedAt eventName function { slug appID } } }"
TREE = (
    "query ($run: String!) { run(runID: $run) { trace { status childrenSpans {"
    " name status stepID attempts outputID childrenSpans { name status } } } } }"
)
OUTPUT = "query ($id: String!) { runTraceSpanOutputByID(outputID: $id) { data error { name message stack } } }"


async def test_a_run_is_shown_from_its_start_and_its_output_with_its_end(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        _, run = await world.started()
        async with asyncio.timeout(SOON_S):
            while True:
                _, answer, _ = await world.call("POST", "/v0/gql", json={"query": RUN, "variables": {"run": run}})
                seen = answer["data"]["run"] or {"status": "", "output": None, "endedAt": None}
                assert (seen["status"] == "COMPLETED") == (seen["output"] is not None) == (seen["endedAt"] is not None)
                if seen["output"] is not None:
                    break
        assert seen["output"] == '{"ok":true}'
        assert (seen["eventName"], seen["function"]) == ("shop/paid", {"slug": "shop-fulfil", "appID": "shop"})


async def test_a_step_that_was_tried_again_has_its_attempts_below_it(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        _, run = await world.started()
        await world.shown(run, "Completed")
        trace = (await gql(world, TREE, run=run))["run"]["trace"]
        charge, end = trace["childrenSpans"]
        assert (charge["name"], charge["status"], charge["attempts"]) == ("charge", "COMPLETED", 2)
        attempts = [(span["name"], span["status"]) for span in charge["childrenSpans"]]
        assert attempts == [("Attempt 0", "FAILED"), ("Attempt 1", "COMPLETED")]
        assert (end["name"], end["stepID"]) == ("function success", None)
        output = (await gql(world, OUTPUT, id=charge["outputID"]))["runTraceSpanOutputByID"]
        assert output == {"data": '{"id":7}', "error": None}


async def test_what_waits_and_what_was_cancelled_has_no_output(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        _, run = await world.started(then="wait")
        await world.shown(run, "Sleeping")
        (span,) = (await gql(world, TREE, run=run))["run"]["trace"]["childrenSpans"]
        assert (span["status"], span["outputID"]) == ("WAITING", None)
        await world.call("DELETE", f"/v0/runs/{run}")
        seen = (await gql(world, RUN, run=run))["run"]
        assert (seen["status"], seen["output"]) == ("CANCELLED", None)
        trace = (await gql(world, TREE, run=run))["run"]["trace"]
        assert [trace["status"], *(span["status"] for span in trace["childrenSpans"])] == ["CANCELLED", "CANCELLED"]


async def test_an_event_is_found_by_either_id_with_the_runs_it_has_started(tmp_path: Path) -> None:
    query = (
        "query ($id: ID!, $same: ULID!) { event(query: {eventId: $id}) { id name payload functionRuns { id status } }"
        " eventV2(id: $same) { idempotencyKey raw } }"
    )
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        sent = {"name": "shop/paid", "id": "mine", "data": {"then": "wait"}, "user": {"u": 1}, "v": "2"}
        id = (await world.call("POST", "/e/K", json=sent))[1]["ids"][0]
        run = (await world.fact(lambda fact: id in getattr(fact, "events", ()))).run
        await world.shown(run, "Sleeping")
        found = await gql(world, query, id="mine", same=id)
        assert found["event"]["id"] == id
        payload = json.loads(found["event"]["payload"])
        assert payload.pop("ts") > 0
        assert payload == sent
        assert found["event"]["functionRuns"] == [{"id": run, "status": "RUNNING"}]
        assert found["eventV2"]["idempotencyKey"] == "mine"
        assert json.loads(found["eventV2"]["raw"])["v"] == "2"


REFUSED = [
    ("no JSON", b"{", 400, "request body"),
    ("no query", b"{}", 400, "query"),
    ("a number", b'{"query":1}', 400, "Send {"),
    ("nothing", b'{"query":""}', 422, "Unexpected <EOF>"),
    ("no such field", b'{"query":"{ nonsense }"}', 422, "Cannot query field"),
    ("a mutation", b'{"query":"mutation { run }"}', 422, "mutation"),
    ("a variable of another type", b'{"query":"query($a:String!){run(runID:$a){id}}","variables":{"a":1}}', 422, "$a"),
    ("half a pair", b'{"query":"{ run(runID: \\"\\\\uD800\\") { id } }"}', 422, "Invalid Unicode"),
    ("no such operation", b'{"query":"query A{apps{id}}","operationName":"B"}', 422, "operation"),
]


@pytest.mark.parametrize(("what", "body", "status", "words"), REFUSED, ids=[row[0] for row in REFUSED])
async def test_what_is_no_query_is_refused_with_errors(
    tmp_path: Path, what: str, body: bytes, status: int, words: str
) -> None:
    async with open_world(tmp_path) as world:
        got, answer, _ = await world.call("POST", "/v0/gql", data=body)
        assert (got, answer["data"]) == (status, None)
        assert words in answer["errors"][0]["message"], answer


SPREADS = " ".join(f"fragment f{n} on Run {{ ...f{n + 1} ...f{n + 1} }}" for n in range(18))
LOOP = "fragment a on Run { ...b } fragment b on Run { ...a }"
HOSTILE = {
    "many tokens": "{" + " apps { id }" * 2_000 + "}",
    "deep": '{ run(runID: "x") { trace ' + "{ childrenSpans " * 30 + "{ name }" + "}" * 32,
    "deeper than the parser": "{ a" * 330,
    "lists in lists": '{ run(runID: "x", a: ' + "[" * 480 + "]" * 480 + ") { id } }",
    "fragments that double": '{ run(runID: "x") { ...f0 } } ' + SPREADS + " fragment f18 on Run { id status output }",
    "fragments in a loop": '{ run(runID: "x") { ...a } } ' + LOOP,
    "many of one name": '{ run(runID: "x") {' + " trace { name }" * 100 + "} }",
    "many roots": "{" + " ".join(f'a{n}: run(runID: "{UNKNOWN}") {{ output }}' for n in range(50)) + "}",
    "the schema in itself": "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }",
    "directives": "{ apps " + "@skip(if: false) " * 150 + "{ id } }",
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_query_is_refused_at_once(tmp_path: Path, what: str) -> None:
    async with open_world(tmp_path) as world:
        await world.call("POST", "/v0/gql", json={"query": "{ apps { id } }"})  # The library is there.
        began = time.monotonic()
        status, answer, _ = await world.call("POST", "/v0/gql", json={"query": HOSTILE[what]})
        assert time.monotonic() - began < QUICK_S
        assert (status, answer["data"]) == (422, None), answer


def make_large() -> App:
    """Results whose answers together are too large; and a run of many steps."""
    large = App("large")

    @large.function(on="large/result")
    async def result(ctx: Context) -> str:
        """As large as may be."""
        return "a" * (limits.RUN_RESULT_BYTES_MAX - 10)

    @large.function(on="large/steps")
    async def steps(ctx: Context) -> None:
        """Many steps."""
        for number in range(400):
            await ctx.step.run(f"s{number}", lambda: 1)

    return large


async def test_values_and_lists_beyond_the_bounds_are_errors_of_their_fields(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_large()]) as world:
        runs = []
        for name in ("large/result", "large/result", "large/result", "large/steps"):
            sent = (await world.call("POST", "/e/K", json={"name": name}))[1]["ids"][0]
            runs.append((await world.fact(lambda fact, sent=sent: sent in getattr(fact, "events", ()))).run)
        for run in runs:
            await world.shown(run, "Completed")
        query = "{" + " ".join(f'r{n}: run(runID: "{run}") {{ output }}' for n, run in enumerate(runs[:3])) + "}"
        status, answer, _ = await world.call("POST", "/v0/gql", json={"query": query})
        assert (status, [answer["data"][f"r{n}"]["output"] is None for n in range(3)]) == (200, [False, False, True])
        assert answer["errors"][0]["path"] == ["r2", "output"]
        span = " ".join(f"n{n}: name" for n in range(130))
        query = f'{{ run(runID: "{runs[3]}") {{ id trace {{ childrenSpans {{ {span} }} }} }} }}'
        status, answer, _ = await world.call("POST", "/v0/gql", json={"query": query})
        assert (status, answer["data"]["run"]) == (200, None)
        assert "Ask for less at a time" in answer["errors"][0]["message"]
        assert len((await gql(world, TREE, run=runs[3]))["run"]["trace"]["childrenSpans"]) == 401


async def test_a_query_is_handed_on_where_the_history_is_another_process(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (history, door):
        _, run = await door.started(then="wait")
        await history.shown(run, "Sleeping")
        assert (await gql(door, RUN, run=run)) == (await gql(history, RUN, run=run))
        assert (await door.call("POST", "/v0/gql", data=b"{"))[0] == 400
    async with open_both(tmp_path / "alone", "") as (_, door):
        status, answer, _ = await door.call("POST", "/v0/gql", json={"query": "{ apps { id } }"})
        assert (status, "--history-url" in answer["error"]) == (503, True)


async def test_an_index_that_cannot_be_read_is_no_answer_to_a_query(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        for file in tmp_path.glob("history.db*"):
            file.unlink()
        status, answer, response = await world.call(
            "POST", "/v0/gql", json={"query": RUN, "variables": {"run": UNKNOWN}}
        )
        assert (status, response.headers["Retry-After"]) == (503, "1")
        assert "history index" in answer["error"]
