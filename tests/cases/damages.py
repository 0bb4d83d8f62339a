"""Damaged data directories: one that has lived and was killed, ways to damage a copy, and what a start makes of it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from millstream import App, Context
from millstream.dev import DevServer, DevSettings
from millstream.errors import OperatorError
from millstream.lane.settings import LaneSettings
from millstream.log.read_all import read_all

EVENTS = 40
EAGER = LaneSettings(checkpoint_facts=60, checkpoint_gap_ms=50, flush_after_ms=100, housekeeping_ms=50)
SETTLED_S = 0.3
Damage = Callable[[Path], None]

_LIFE = """
import sys
from tests.cases.damages import live_and_die
live_and_die(sys.argv[1])
"""


def made_app(started: list[str]) -> App:
    """Notes the id of every event that starts a function."""
    app = App("shop")

    @app.function(on="shop/paid")
    async def paid(ctx: Context) -> str:
        started.append(ctx.event.id)
        return await ctx.step.run("one", lambda: "done")

    return app


def server_on(data: Path, started: list[str], *, lanes: int = 0, accept_loss: bool = False) -> DevServer:
    settings = DevSettings(data=data, port=0, lanes=lanes, group="shop" if lanes else "", lane=EAGER)
    return DevServer([made_app(started)], replace(settings, accept_loss=accept_loss))


def live_and_die(folder: str) -> None:
    """In a process of its own: take events, run functions, say what was acknowledged, die by SIGKILL."""

    async def live() -> None:
        import aiohttp

        started: list[str] = []
        server = server_on(Path(folder), started)
        await server.start()
        assert server.served is not None
        ids = [f"order-{n:03}" for n in range(EVENTS)]
        async with aiohttp.ClientSession() as http:
            for n, one in enumerate(ids):
                url = f"http://127.0.0.1:{server.served.port}/e/key"
                async with http.post(url, json={"name": "shop/paid", "id": one, "data": {"n": n}}) as answer:
                    assert answer.status == 200, await answer.text()
                if n % 10 == 9:
                    await asyncio.sleep(0.2)  # Flushes, checkpoints and the history come between.
        while len(started) < EVENTS:  # noqa: ASYNC110 - once
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)  # What the last step did is recorded, flushed, and folded by the history.
        Path(folder, "..", "acknowledged").write_text(json.dumps(ids))
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(live())


def lived(folder: Path) -> Path:
    """A data directory whose server was killed after it had acknowledged, and run, ``EVENTS`` events."""
    data = folder / "data"
    data.mkdir(parents=True)
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": f"{root / 'platform'}{os.pathsep}{root}"}
    ended = subprocess.run([sys.executable, "-c", _LIFE, str(data)], env=env, cwd=root, check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL, ended
    for rubbish in data.rglob("lock"):
        rubbish.unlink()
    return data


@dataclass(frozen=True)
class Outcome:
    """What a start made of a directory: why it refused, or which events it still has and which it started again."""

    refused: str
    events: tuple[int, ...] = ()
    again: tuple[str, ...] = ()

    @property
    def is_harmless(self) -> bool:
        """Whether nothing that was acknowledged is missing, and nothing runs a second time."""
        return not self.refused and len(self.events) == EVENTS and not self.again


def damaged(lived_in: Path, folder: Path, damage: Damage) -> Path:
    """A copy with this damage."""
    data = folder / "data"
    shutil.copytree(lived_in, data)
    damage(data)
    return data


async def started_on(data: Path, *, lanes: int = 0, accept_loss: bool = False) -> Outcome:
    """Start on it, look, stop."""
    again: list[str] = []
    server = server_on(data, again, lanes=lanes, accept_loss=accept_loss)
    try:
        await server.start()
        await asyncio.sleep(SETTLED_S)
        assert server.log is not None
        found = [record.offset async for page in read_all(server.log, "events", 0) for record in page]
        return Outcome("", tuple(found), tuple(again))
    except OperatorError as error:
        return Outcome(str(error) or type(error).__name__)
    except ExceptionGroup as group:
        expected, bugs = group.split(OperatorError)
        if bugs is not None:
            raise
        return Outcome(str(expected.exceptions[0]) if expected else "")
    finally:
        await server.stop(1.0)


# --- damages -----------------------------------------------------------------------------------


def flipped(name: str, share: float) -> Damage:
    """One bit of a file, at a share of its length."""

    def damage(data: Path) -> None:
        path = data / name
        content = bytearray(path.read_bytes())
        content[min(int(len(content) * share), len(content) - 1)] ^= 0x10
        path.write_bytes(content)

    return damage


def cut(name: str, share: float) -> Damage:
    """A file ends after a share of its length."""

    def damage(data: Path) -> None:
        path = data / name
        os.truncate(path, int(path.stat().st_size * share))

    return damage


def gone(*names: str) -> Damage:
    """Files or folders that are not there."""

    def damage(data: Path) -> None:
        for name in names:
            path = data / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    return damage
