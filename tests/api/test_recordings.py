"""What the reference server was asked, asked of ours: events, REST, cancellations, GraphQL, with real runs behind."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from millstream import App, Context
from millstream.model.ids import ulid
from millstream.wire.signing import SigningKeys
from tests.api.door import SOON_S, World, open_world
from tests.api.recorded import Aliases, compared, exchanges

UNKNOWN = ulid(1_795_000_000_000, b"0123456789")


def make_wire() -> App:
    """The functions behind the recordings, of the Python face: they stand for an app's, as only reads are compared."""
    wire = App("wire py")

    @wire.function(on="wire/three", id="three")
    async def three(ctx: Context) -> dict[str, Any]:
        """Three steps, each with the result of the one before."""
        one = await ctx.step.run("one", lambda: 1)
        two = await ctx.step.run("two", lambda: {"a": one})
        return {"sum": await ctx.step.run("three", lambda: [two, None, "x"])}

    @wire.function(on="wire/cancel", id="cancel")
    async def cancel(ctx: Context) -> None:
        """Sleeps until it is cancelled."""
        await ctx.step.sleep("long", "1d")

    @wire.function(on="wire/step-uncaught", id="step-uncaught", retries=0)
    async def step_uncaught(ctx: Context) -> None:
        """Its step fails for good."""

        def bad() -> None:
            raise ValueError("no luck")

        await ctx.step.run("bad", bad)

    @wire.function(on="wire/no-steps", id="no-steps")
    async def no_steps(ctx: Context) -> str:
        """Ends at once."""
        return "plain"

    @wire.function(on="wire/slow", id="slow")
    async def slow(ctx: Context) -> None:
        """Is not over in time."""
        await ctx.step.sleep("long", "1d")

    return wire


def make_signals() -> App:
    """The function that waits for a signal."""
    wire = App("wire js")

    @wire.function(on="wire/signal", id="signal")
    async def signal(ctx: Context) -> dict[str, Any]:
        """Its result is what that SDK gives its step."""
        return {"signal": "sig-1", "data": await ctx.step.wait_for_signal("sig", "sig-1", timeout="10s")}

    return wire


async def replayed(world: World, name: str, aliases: Aliases, kind: str = "dev") -> list[str]:
    """Ask all of a recording, in order; what is not as recorded."""
    problems: list[str] = []
    for exchange in exchanges(name):
        if (awaited := exchange.get("wait")) is not None:
            event = aliases.put_in(awaited["event"])
            run = (await world.fact(lambda fact, event=event: event in getattr(fact, "events", ()))).run
            aliases.known[awaited["run"]] = run
            await world.shown(run, awaited["status"])
            async with asyncio.timeout(SOON_S):
                while (await world.call("GET", f"/v1/events/{event}"))[0] != 200:  # noqa: ASYNC110 - no event says so
                    await asyncio.sleep(0.01)
        else:
            problems += await ask(world, exchange, aliases, kind)
    return problems


async def ask(world: World, exchange: dict[str, Any], aliases: Aliases, kind: str) -> list[str]:
    """Ask it; what is not as recorded."""
    method, _, path = exchange["request"].partition(" ")
    headers = dict(exchange.get("headers", {}))
    body = aliases.put_in(exchange.get("body"))
    data = None
    if "body" in exchange:
        is_text = isinstance(body, dict) and "_text" in body
        data = (body["_text"] if is_text else json.dumps(body)).encode()
        headers = {"content-type": "application/json"} | headers
    path = aliases.put_in(path)
    status, answered, response = await world.call(method, path, headers=headers, data=data)
    problems = compared(exchange, aliases, (status, answered, response.headers.get("Content-Type", "")))
    for allowed in exchange.get("here", exchange).get("allow", "").split():
        if allowed not in response.headers.get("Allow", ""):
            problems.append(f"{exchange['request']}: allows {response.headers.get('Allow')!r}")
    assert response.headers["X-Inngest-Server-Kind"] == kind
    return problems


async def test_events_are_taken_and_refused_as_recorded(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_wire()]) as world:
        aliases = Aliases()
        assert not await replayed(world, "event_api", aliases)
    ids = [text for alias, text in aliases.known.items() if alias.startswith("<ulid")]
    assert len(set(ids)) == len(ids) == 25


async def test_runs_and_events_are_read_as_recorded(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_wire()]) as world:
        assert not await replayed(world, "rest_api", Aliases(ulid11=UNKNOWN))


async def test_many_runs_are_cancelled_as_asked_for_in_the_recording(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_wire()]) as world:
        assert not await replayed(world, "cancellations", Aliases(now="now"))


async def test_graphql_queries_are_answered_as_recorded(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_wire()]) as world:
        assert not await replayed(world, "graphql", Aliases(ulid10=UNKNOWN))


async def test_a_signal_is_taken_once_as_recorded(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_signals()]) as world:
        assert not await replayed(world, "signals", Aliases())


async def test_registrations_are_taken_and_refused_as_recorded(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        assert not await replayed(world, "register", Aliases())


async def test_with_keys_what_shows_none_is_refused_as_recorded(tmp_path: Path) -> None:
    keys = {"signing": SigningKeys.of("signkey-prod-" + "ab" * 32), "event_keys": frozenset({"e7e7e7e7"})}
    async with open_world(tmp_path, **keys) as world:
        assert not await replayed(world, "signed_api", Aliases(), kind="cloud")
