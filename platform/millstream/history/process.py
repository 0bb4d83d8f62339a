"""The history as a child process: folding must not take time from a loop that runs functions or answers reads.

    python -m millstream.history (--log-dir DIR | --kafka) --index FILE --group G --lanes N

The parent keeps a pipe to its standard input open; when that ends, so does this process, however the parent died. With
``--kafka`` the first line that comes through it says how to reach the brokers (JSON of KafkaSettings). Nothing is lost
by ending at any instant: rows and positions are stored together.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from millstream.errors import LogUnavailable, MillstreamError
from millstream.files import private_file
from millstream.history.damage import HistoryDamaged, move_aside
from millstream.history.index import Index
from millstream.history.service import Follows, History
from millstream.log.embedded.log import EmbeddedLog
from millstream.log.kafka.settings import KafkaSettings
from millstream.log.port import Log
from millstream.model.backoff import doubling_s
from millstream.model.limits import DAY_MS
from millstream.state.rocksdb import RocksBudget, RocksStore

FAILED = 3
"""Ended with a word for the operator; Python ends with 1 after any other error."""
TRY_AGAIN_S = 0.05
AGAIN_S_MAX = 30.0
STEADY_S = 60.0
REACH_AGAIN_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is followed into which file: a log in a directory, or on Kafka."""

    index: Path
    follows: Follows
    log_dir: Path | None = None
    kafka: KafkaSettings | None = None


def command(options: Options) -> list[str]:
    """The command line that starts the process with these options. Start it with ``stdin=PIPE``, and write
    ``first_line`` to it."""
    follows = options.follows
    # -P: a file of the user's in the working directory, such as platform/ or queue.py, must not shadow Python's own.
    line = [sys.executable, "-P", "-m", "millstream.history"]
    line += ["--kafka"] if options.log_dir is None else ["--log-dir", str(options.log_dir)]
    line += ["--index", str(options.index)]
    line += ["--group", follows.group, "--lanes", str(follows.lanes), "--retention-ms", str(follows.retention_ms)]
    for topic in follows.events:
        line += ["--events", topic]
    return line


def first_line(options: Options) -> bytes:
    """What the process reads first; empty where it needs nothing."""
    return b"" if options.kafka is None else msgspec.json.encode(options.kafka) + b"\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until standard input ends. 0 then, FAILED after an error, which is on standard error."""
    logging.basicConfig(level=logging.INFO, format="history: %(message)s", stream=sys.stderr)
    try:
        asyncio.run(_follow_until_parent_ends(_parsed(arguments)))
    except KeyboardInterrupt:
        return 0
    except ExceptionGroup as errors:
        expected, bugs = errors.split(MillstreamError)
        if bugs is not None:
            raise
        for error in expected.exceptions if expected is not None else ():
            logging.getLogger(__name__).error("stopped: %s", error)
        return FAILED
    except MillstreamError as error:
        logging.getLogger(__name__).error("stopped: %s", error)
        return FAILED
    return 0


def _parsed(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m millstream.history", description="fold a log into a history index")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--log-dir", type=Path)
    where.add_argument("--kafka", action="store_true", help="how to reach it comes on standard input")
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
    parent, transport = await _standard_input()
    try:
        if options.log_dir is None:
            line = await parent.readline()
            if not line:
                return  # The parent ended before it said anything.
            options = replace(options, kafka=msgspec.json.decode(line, type=KafkaSettings))
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(_follow(options))
            while await parent.read(1024):
                pass
            following.cancel()
    finally:
        transport.close()


async def _follow(options: Options) -> None:
    alone = await only_writer(options.index)
    log = await _opened(options)
    try:
        await _heal_for_ever(options, lambda: _fold(log, options))
    finally:
        await log.close()
        os.close(alone)


async def _heal_for_ever(options: Options, fold: Callable[[], Awaitable[None]]) -> None:
    """Fold until cancelled. A damaged index is moved aside and folded anew; what passes is tried again."""
    failures = 0
    while True:
        began_s = time.monotonic()
        try:
            await fold()
        except* HistoryDamaged as found:
            with suppress(LogUnavailable):  # Tried again below.
                move_aside(options.index, str(first_of(found)))
        except* LogUnavailable as passing:
            logging.getLogger(__name__).warning("history stands still, trying again: %s", first_of(passing))
        failures = 1 if time.monotonic() - began_s >= STEADY_S else failures + 1
        await asyncio.sleep(doubling_s(TRY_AGAIN_S, failures, AGAIN_S_MAX))


async def _fold(log: Log, options: Options) -> None:
    index = Index(options.index)
    try:
        await History(log, index, options.follows, lambda: scratch(options.index)).run()
    finally:
        index.close()


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in groups of groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _opened(options: Options) -> Log:
    """The log; one on Kafka is waited for."""
    if options.kafka is None:
        assert options.log_dir is not None, "a log is a directory, or on Kafka"
        return await EmbeddedLog.open(options.log_dir, readonly=True)
    from millstream.log.kafka.log import (  # Here: a history of an embedded log needs no client of it.
        KafkaLog,
        KafkaOptions,
    )

    while True:
        try:
            return await KafkaLog.open(options.kafka, KafkaOptions(name="history"))
        except LogUnavailable as passing:
            logging.getLogger(__name__).warning("no brokers, trying again: %s", passing)
            await asyncio.sleep(REACH_AGAIN_S)


async def _standard_input() -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader, transport


def scratch(index: Path) -> RocksStore:
    """A store beside the index that a checkpoint is read into, and that is wiped afterwards."""
    return RocksStore(index.with_name(f"{index.name}.rebuild"), RocksBudget())


async def only_writer(index: Path) -> int:
    """Return once no other process writes this index; the descriptor that holds the place until it is closed.

    The history of a parent that was killed may still be storing a batch: who read the positions before that would
    fold the batch a second time.
    """
    handle = private_file(index.with_name(f"{index.name}.lock"))
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(TRY_AGAIN_S)
        else:
            return handle
