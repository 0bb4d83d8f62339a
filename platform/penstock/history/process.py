"""The history as a child process: in dev, folding must not take time from the loop that runs functions.

    python -m penstock.history --log-dir DIR --index FILE --group G --lanes N

The parent keeps a pipe to its standard input open and never writes; when that ends, so does this process, however the
parent died. Nothing is lost by ending at any instant: rows and positions are stored together.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.errors import PenstockError
from penstock.history.index import Index, prepare
from penstock.history.service import Follows, History
from penstock.log.embedded import EmbeddedLog
from penstock.model.limits import DAY_MS
from penstock.state.rocksdb import RocksBudget, RocksStore

FAILED = 1
TRY_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says."""

    log_dir: Path
    index: Path
    follows: Follows


def command(options: Options) -> list[str]:
    """The command line that starts the process with these options. Start it with ``stdin=PIPE``."""
    follows = options.follows
    # -P: a file of the user's in the working directory, such as platform/ or queue.py, must not shadow Python's own.
    line = [sys.executable, "-P", "-m", "penstock.history"]
    line += ["--log-dir", str(options.log_dir), "--index", str(options.index)]
    line += ["--group", follows.group, "--lanes", str(follows.lanes), "--retention-ms", str(follows.retention_ms)]
    for topic in follows.events:
        line += ["--events", topic]
    return line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until standard input ends. 0 then, 1 after an error, which is on standard error."""
    logging.basicConfig(level=logging.INFO, format="history: %(message)s", stream=sys.stderr)
    try:
        asyncio.run(_follow_until_parent_ends(_parsed(arguments)))
    except KeyboardInterrupt:
        return 0
    except ExceptionGroup as errors:
        expected, bugs = errors.split(PenstockError)
        if bugs is not None:
            raise
        for error in expected.exceptions if expected is not None else ():
            logging.getLogger(__name__).error("stopped: %s", error)
        return FAILED
    except PenstockError as error:
        logging.getLogger(__name__).error("stopped: %s", error)
        return FAILED
    return 0


def _parsed(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m penstock.history", description="fold a log into a history index")
    parser.add_argument("--log-dir", type=Path, required=True)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--lanes", type=int, required=True)
    parser.add_argument("--events", action="append", default=[], metavar="TOPIC")
    parser.add_argument("--retention-ms", type=int, default=DAY_MS)
    given = parser.parse_args(arguments)
    events = tuple(given.events)
    follows = Follows(group=given.group, lanes=given.lanes, events=events, retention_ms=given.retention_ms)
    return Options(log_dir=given.log_dir, index=given.index, follows=follows)


async def _follow_until_parent_ends(options: Options) -> None:
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(_follow(options))
        await _end_of_input()
        following.cancel()


async def _follow(options: Options) -> None:
    alone = await only_writer(options.index)
    log = await EmbeddedLog.open(options.log_dir, readonly=True)
    prepare(options.index)
    index = Index(options.index)
    try:
        await History(log, index, options.follows, lambda: scratch(options.index)).run()
    finally:
        index.close()
        await log.close()
        os.close(alone)


def scratch(index: Path) -> RocksStore:
    """A store beside the index that a checkpoint is read into, and that is wiped afterwards."""
    return RocksStore(index.with_name(f"{index.name}.rebuild"), RocksBudget())


async def only_writer(index: Path) -> int:
    """Return once no other process writes this index; the descriptor that holds the place until it is closed.

    The history of a parent that was killed may still be storing a batch: who read the positions before that would
    fold the batch a second time.
    """
    handle = os.open(index.with_name(f"{index.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(TRY_AGAIN_S)
        else:
            return handle


async def _end_of_input() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while await reader.read(1024):
            pass
    finally:
        transport.close()
