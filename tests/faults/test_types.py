"""What a step returns comes back as its function says: models inside anything, dates, decimals, sets, enums."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pytest
from pydantic import BaseModel

from millstream import App, Context, Event, StepError, SyncContext
from millstream.testing import TestApp


class Line(BaseModel):
    sku: str
    qty: int = 1
    at: datetime | None = None


class Plan(enum.Enum):
    PRO = "pro"


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Basket:
    lines: list[Line]
    due: date
    total: Decimal
    note: object = None


class Held(msgspec.Struct):
    line: Line
    by_sku: dict[str, Line]


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LINE = Line(sku="A", at=NOON)
RETURNED: list[tuple[object, object]] = [
    (Line, LINE), (list[Line], [LINE]), (Line | None, LINE), (Line | None, None), (dict[str, Line], {"a": LINE}),
    (Sequence[Line], [LINE]), (Mapping[str, list[Line]], {"a": [LINE]}), (tuple[Line, int], (LINE, 1)),
    (Line | str, LINE), (Line | str, "none"), (Basket, Basket([LINE], date(2026, 1, 1), Decimal("1.10"), [1])),
    (list[Basket], [Basket([], date(2026, 1, 1), Decimal(1))]), (Held, Held(LINE, {"a": LINE})),
    (datetime, NOON), (datetime | None, NOON), (date, date(2026, 1, 1)), (timedelta, timedelta(hours=1)),
    (Decimal, Decimal("1.10")), (Decimal, Decimal("NaN")), (bytes, b"\xff\x00"), (bytearray, bytearray(b"a")),
    (set[int], {1, 2}), (frozenset[str], frozenset({"a"})), (Plan, Plan.PRO), (dict[str, Plan], {"a": Plan.PRO}),
    (uuid.UUID, uuid.UUID(int=7)), (Point, Point(1, 2)), (dict[int, str], {1: "a"}),
    (dict[date, int], {date(2026, 1, 1): 1}), (Awaitable[datetime], NOON), (list[int], [1]), (Any, {"a": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value"), RETURNED, ids=range(len(RETURNED)))
async def test_a_result_comes_back_as_annotated(annotation: Any, value: object) -> None:
    def load() -> object:
        return value

    load.__annotations__ = {"return": annotation}
    got: list[object] = []
    app = App("types")

    @app.function(on="x", retries=0)
    async def body(ctx: Context) -> str:
        got.append(await ctx.step.run("load", load))
        await ctx.step.sleep("pause", "1h")
        return "done"

    async with TestApp(app) as t:
        sent = await t.send(Event("x"))
        await t.crash()
        await t.advance("2h")
        assert sent.status == "Completed"
    assert len(got) == 2
    for one in got:
        assert type(one) is type(value)
        assert one == value or (isinstance(value, Decimal) and value.is_nan())


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(int | Basket, "text"), (datetime, "soon"), (list[Line], [{"qty": 1}]), (Plan, "basic"), (bytes, "no base64!")],
)
async def test_a_result_that_is_not_what_the_function_says_fails_its_step(annotation: Any, value: object) -> None:
    def load() -> object:
        return value

    load.__annotations__ = {"return": annotation}
    app = App("types")

    @app.function(on="x", retries=2)
    async def body(ctx: Context) -> str:
        try:
            await ctx.step.run("load", load)
        except StepError as error:
            return str(error)
        return "never"

    async with TestApp(app) as t:
        sent = await t.send(Event("x"))
    assert sent.steps["load"].attempts == 1
    assert "the result of step 'load' does not fit the type the code declares" in sent.result


async def test_a_plain_handler_that_returns_a_coroutine_has_it_awaited() -> None:
    async def work(name: str) -> str:
        return f"worked on {name}"

    app = App("plain")

    @app.function(on="x", retries=0)
    def body(ctx: SyncContext) -> object:
        return work(ctx.event.name)

    async with TestApp(app) as t:
        assert (await t.send(Event("x"))).result == "worked on x"
