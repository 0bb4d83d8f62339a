"""The functions of the executor suite as an app over HTTP: ``python executor_endpoint_app.py PORT``.

An SDK of the protocol in small: each call leads a body of ``LocalExecutor`` over what the call says is resolved, and
answers with what it reports. So the suite asks an ``EndpointExecutor`` for the same things, with the same functions and
step ids, over real connections to a real process.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
from aiohttp import web

from millstream.execute.local.executor import LocalExecutor
from millstream.execute.port import RunView
from millstream.model.commands import LoseDispatch, ParkDispatch, Report, Unpark
from millstream.model.effects import CodeWanted, Execute
from millstream.model.event import Envelope
from millstream.model.operations import (
    BodyDone,
    BodyErrored,
    Failure,
    Operation,
    SleepFound,
    StepDone,
    StepErrored,
    StepFound,
    failure_json,
)
from millstream.model.rows import Hand, RunRow, StepRow
from tests.contract.executor_app import app

HEADERS = {"x-inngest-sdk": "suite:v1", "x-inngest-req-version": "2"}
DISPATCH = 1


class OneCall:
    """What a body sees in one call, and the report it makes: the source of an executor of its own."""

    def __init__(self, body: dict[str, Any], function: str, step: str, kinds: dict[tuple[str, str], str]) -> None:
        context = body["ctx"]
        self.run = context["run_id"]
        self._kinds = kinds
        order = {id: at + 1 for at, id in enumerate(context["stack"]["stack"])}
        rows = [self._row(id, memo, order[id]) for id, memo in body["steps"].items()]
        if step:
            rows.append(StepRow(self.run, step, step, "run", Hand.OUT, context["attempt"], DISPATCH))
        events = tuple(
            Envelope(e["id"], e["id"], False, e["name"], msgspec.json.encode(e["data"]), e["ts"], e["ts"])
            for e in body["events"]
        )
        row = RunRow(
            self.run, function, tuple(e.id for e in events), "", 0, body=Hand.IDLE if step else Hand.OUT,
            body_dispatch=0 if step else DISPATCH, dispatch=DISPATCH, attempt=0 if step else context["attempt"],
            resolved=len(order), steps=tuple(row.step for row in rows),
        )  # fmt: skip
        self._view = RunView(row, events, tuple(rows))
        self.reported: asyncio.Future[Sequence[Operation]] = asyncio.get_running_loop().create_future()

    def _row(self, id: str, memo: Any, order: int) -> StepRow:
        kind = self._kinds.get((self.run, id), "run")
        if isinstance(memo, dict) and "error" in memo:
            error = memo["error"]
            data = failure_json(error["name"], error["message"], error.get("stack", ""))
            return StepRow(self.run, id, id, kind, Hand.FAILED, order=order, data=data)
        value = memo["data"] if isinstance(memo, dict) else memo
        return StepRow(self.run, id, id, kind, Hand.DONE, order=order, data=msgspec.json.encode(value))

    def view(self, run: str) -> RunView | None:
        return self._view if run == self.run else None

    def step(self, run: str, step: str) -> StepRow | None:
        return next((row for row in self._view.steps if row.step == step), None)

    def parked_of(self, function: str, behind: tuple[str, str], limit: int) -> Sequence[CodeWanted]:
        return ()

    def report(self, report: Report) -> None:
        if not self.reported.done():
            self.reported.set_result(report.operations)

    def park(self, park: ParkDispatch) -> None:
        if not self.reported.done():
            self.reported.set_result([BodyErrored(Failure("Parked", park.reason or "no code"))])

    def lose(self, lost: LoseDispatch) -> None:
        raise AssertionError("nothing is lost in one process")

    def unpark(self, unpark: Unpark) -> None:
        raise AssertionError("nothing is parked in one call")

    def now_ms(self) -> int:
        return round(asyncio.get_running_loop().time() * 1_000)


KINDS: dict[tuple[str, str], str] = {}
"""Of the steps that bodies have found, by run and step: a call does not say them."""


async def call(request: web.Request) -> web.Response:
    """One call of the server."""
    step = request.query["stepId"]
    step = "" if step == "step" else step
    body = await request.json()
    one = OneCall(body, request.query["fnId"], step, KINDS)
    executor = LocalExecutor([app], one)
    executor.start(Execute(one.run, request.query["fnId"], step, body["ctx"]["attempt"], DISPATCH))
    try:
        operations = await one.reported
    finally:  # Also where the caller has gone.
        executor.abandon(one.run)
        with suppress(asyncio.CancelledError):
            await executor.close(0)
    return _reply(one.run, operations)


def _reply(run: str, operations: Sequence[Operation]) -> web.Response:
    headers = dict(HEADERS)
    ops: list[dict[str, Any]] = []
    for operation in operations:
        match operation:
            case BodyDone(result=result):
                return web.Response(body=result, headers=headers, content_type="application/json")
            case BodyErrored() | StepErrored():
                if not operation.retriable:
                    headers["x-inngest-no-retry"] = "true"
                if operation.retry_after_ms >= 0:
                    headers["retry-after"] = str(-(-operation.retry_after_ms // 1_000))
                failure = msgspec.structs.asdict(operation.failure)
                error = {key: failure[key] for key in ("name", "message", "stack")}
                if isinstance(operation, BodyErrored):
                    return web.json_response(error, status=500, headers=headers)
                ops.append({"op": "StepError", "id": operation.step, "displayName": operation.name, "error": error})
            case StepDone():
                data = msgspec.Raw(operation.data)
                ops.append({"op": "StepRun", "id": operation.step, "displayName": operation.name, "data": data})
            case StepFound():
                ops.append({"op": "StepPlanned", "id": operation.step, "displayName": operation.name})
            case SleepFound():
                KINDS[run, operation.step] = "sleep"
                time = f"{operation.length_ms}ms"
                ops.append({"op": "Sleep", "id": operation.step, "displayName": operation.name, "name": time})
            case _:
                raise AssertionError(f"the suite has no function that reports {operation!r}")
    return web.Response(status=206, body=msgspec.json.encode(ops), headers=headers, content_type="application/json")


async def health(request: web.Request) -> web.Response:
    """What is asked while the app was away."""
    return web.json_response({}, headers=HEADERS)


def main() -> None:
    """Serve until killed."""
    server = web.Application(client_max_size=2**26)
    server.add_routes([web.post("/api/inngest", call), web.get("/api/inngest", health)])
    web.run_app(server, host="127.0.0.1", port=int(sys.argv[1]), handler_cancellation=True, print=lambda *_: None)


if __name__ == "__main__":
    main()
