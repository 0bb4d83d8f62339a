"""How a bench runs: on the loop the product would use, with a directory of its own, profiled if asked.

``python -m bench.NAME --profile`` prints where the time of the measuring process goes; the figure is worthless then.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

PROFILE_LINES: Final = 45

try:
    import uvloop
except ImportError:
    LOOP = "asyncio"
else:
    LOOP = "uvloop"


def make_loop() -> asyncio.AbstractEventLoop:
    """The loop `millstream dev` would take: uvloop's where it is installed."""
    made: asyncio.AbstractEventLoop = asyncio.new_event_loop() if LOOP == "asyncio" else uvloop.new_event_loop()
    return made


def parser(doc: str | None) -> argparse.ArgumentParser:
    """What every bench takes: where its data go and whether it is profiled."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--directory", type=Path, default=None, help="on the disk to be measured; default: the temporary")
    made.add_argument("--profile", action="store_true")
    return made


def run(main: Callable[[argparse.Namespace, Path], Awaitable[None]], given: argparse.Namespace) -> None:
    """Run a bench's ``main(flags, fresh directory)``."""
    directory = Path(tempfile.mkdtemp(prefix="millstream-bench-", dir=given.directory))

    async def begin() -> None:
        await main(given, directory)

    profile = cProfile.Profile() if given.profile else None
    try:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            if profile is not None:
                profile.enable()
            runner.run(begin())
    finally:
        if profile is not None:
            profile.disable()
            pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(PROFILE_LINES)
        shutil.rmtree(directory, ignore_errors=True)
