"""``functions list | get``, ``runs get`` and the lines of ``dev``, where runs have to queue."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

from tests.cli.program import Serving, serving, until

APP = """
from millstream import App, Concurrency, Context

app = App("shop")

@app.function(on="shop/paid", concurrency=Concurrency(1, key="event.data.who", per="run"))
async def write(ctx: Context):
    await ctx.step.sleep("long", "1d")
"""


def queues(server: Serving) -> Any:
    got = server.call("functions", "get", "shop-write")
    assert got.code == 0, got.err
    return got.rows[0]


def test_functions_and_runs_show_who_queues_where_and_for_how_long(tmp_path: Path) -> None:
    with serving(tmp_path, "--tick", "10", files={"shop.py": APP}) as server:
        first, second = (server.start_run("shop/paid", "--data", '{"who": "ann"}') for _ in range(2))
        until("one runs, one queues", lambda: (queues(server)["running"], queues(server)["queued"]) == (1, 1))
        assert [row["id"] for row in server.call("functions", "list").rows] == ["shop-write"]
        table = server.call("functions", "get", "shop-write", "-o", "table").out
        (row,) = [line.split() for line in table.splitlines() if line.startswith("concurrency") and "ann" in line]
        assert row[1:4] == ['"ann"', "1", "1"]
        lost = server.call("functions", "get", "shop-lost")
        assert lost.code == 4 and "Known functions: shop-write" in lost.err

        assert [row["run_id"] for row in server.call("runs", "list", "--status", "queued").rows] == [second]
        shown = server.call("runs", "get", second, "-o", "table").out
        (row,) = [line for line in shown.splitlines() if line.startswith("concurrency")]
        assert "ann" in row and "so far" in row
        until("a line", lambda: any("queued" in line and second in line for line in server.out))
        (line,) = [line for line in server.out if "  queued" in line]
        assert line.endswith('at concurrency "ann"'), "who passes at once has no line"

        assert server.call("runs", "cancel", "--yes", first).code == 0
        until("the next runs", lambda: (queues(server)["running"], queues(server)["queued"]) == (1, 0))
        (row,) = [r for r in server.call("runs", "get", second, "-o", "table").out.splitlines() if "concurrency" in r]
        assert "so far" not in row
        until("the gauge", lambda: 'millstream_flow_held{function="shop-write"} 1.0' in metrics(server))
        assert 'millstream_flow_queued_seconds_count{function="shop-write"} 1.0' in metrics(server)


def metrics(server: Serving) -> str:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        return str(answer.read().decode())
