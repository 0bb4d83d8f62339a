"""``millstream lanes inspect | verify``: look into lanes, also while a server or workers use them.

``verify`` reads everything: of a data directory every row of the log file with its checksum; every journal record, and
folds them into tables, where every open run must be in somebody's hand and no timer may wake nobody; of a wait that is
closing the question to its home, or the answer, must lie in an outbox or inbox. While the journal
still has its beginning, the tables are made twice, from the checkpoint and from the first record, and must be the same
bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from millstream.cli.operating.lanes.access import lane_access
from millstream.cli.operating.lanes.journal import Walked, place_of, tables_of, walk
from millstream.cli.support.exits import CHECK_FAILED, OK, note
from millstream.cli.support.output import show_rows
from millstream.config import Settings
from millstream.core.liveness import Liveness, liveness, open_runs, stored_timers, timer_problem
from millstream.core.under_way import LaneSeen, seen_of, unanswered
from millstream.errors import Corruption, OffsetOutOfRange, OperatorError
from millstream.group_note import Made, made_with
from millstream.lane.ownership.restore import Reached, fold_upto
from millstream.log.embedded.verify import Finding
from millstream.log.embedded.verify import verify as verify_file
from millstream.log.port import Log
from millstream.log.read_all import read_rest
from millstream.model.messages import InboxRecord, group_topic
from millstream.state.dump import fingerprint
from millstream.state.memory import MemoryStore
from millstream.state.tables import LaneTables
from millstream.wire.journal import Validity
from millstream.wire.messages import decode_inbox

COLUMNS: Final = ("lane", "journal", "fences", "owner", "seq", "last_at", "open_runs", "executing", "waiting", "parked",
                  "held", "timers", "unsent", "lag")  # fmt: skip
FINDING_COLUMNS: Final = ("topic", "partition", "offset", "problem")
ROWS_MAX: Final = 1 << 60


def inspect(settings: Settings) -> int:
    """Print a row for each lane."""
    rows = asyncio.run(_inspect(settings))
    show_rows(settings, rows, COLUMNS)
    return OK


def verify(settings: Settings) -> int:
    """Check everything; 0, or 6 with the findings."""
    findings, summary, where = asyncio.run(_verify(settings))
    if findings:
        shown = (
            {"topic": f.topic, "partition": f.partition, "offset": f.offset, "problem": f.problem} for f in findings
        )
        show_rows(settings, shown, FINDING_COLUMNS)
        note(f"{len(findings)} problem{'s' if len(findings) > 1 else ''} found in {where}")
        return CHECK_FAILED
    note(f"{summary}: no problems")
    return OK


async def _inspect(settings: Settings) -> list[dict[str, Any]]:
    async with lane_access(settings) as access:
        return [await _row(access.log, access.made, lane) for lane in range(access.made.lanes)]


async def _row(log: Log, made: Made, lane: int) -> dict[str, Any]:
    seen = await walk(log, made.group, lane)
    tables, reached = await tables_of(log, made, lane)
    total = Liveness()
    runs = 0
    for run in open_runs(tables):
        runs += 1
        total.add(liveness(tables, run))
    timers = [timer.at_ms for timer in stored_timers(tables)]
    positions = {key: row.offset for key, row in tables.positions.scan(limit=ROWS_MAX)}
    ends = {key: await log.end_offset(*key) for key in positions}
    return {
        "group": made.group,
        "lane": lane,
        "journal": f"{seen.start}–{seen.end}",
        "journal_start": seen.start,
        "journal_end": seen.end,
        "records": seen.records,
        "void": seen.void,
        "facts": seen.facts,
        "fences": seen.fences,
        "owner": reached.validity.owner.hex(),
        "worker": seen.worker,
        "seq": reached.validity.seq,
        "last_at": time_text(max(seen.at_ms, reached.at_ms)),
        "open_runs": runs,
        "executing": total.executing,
        "waiting": len(total.timers),
        "parked": len(total.parked),
        "held": len(total.held),
        "timers": len(timers),
        "next_timer": time_text(timers[0]) if timers else None,
        "unsent": len(tables.outbox.scan(limit=ROWS_MAX)) + len(tables.publishes.scan(limit=ROWS_MAX)),
        "lag": sum(max(0, ends[key] - offset) for key, offset in positions.items()),
        "positions": [{"topic": topic, "partition": p, "offset": at} for (topic, p), at in sorted(positions.items())],
        "stuck": len(total.problems),
    }


async def _verify(settings: Settings) -> tuple[list[Finding], str, str]:
    findings: list[Finding] = []
    records = facts = runs = 0
    where = settings.text("data") if settings.is_default("brokers") else settings.text("brokers")
    if settings.is_default("brokers") and made_with(Path(where)) is not None:
        findings += await asyncio.to_thread(verify_file, Path(where) / "log")
    try:
        async with lane_access(settings) as access:
            log, made = access.log, access.made
            asked: list[LaneSeen] = []
            for lane in range(made.lanes):
                seen = await walk(log, made.group, lane)
                records, facts = records + seen.records, facts + seen.facts
                runs += await _fold(log, made, seen, asked)
                findings += seen.findings
            findings += await _closing(log, made, asked)
    except OperatorError as error:
        if not findings and not isinstance(error, Corruption):
            raise
        findings.append(Finding("", -1, -1, str(error)))
    return findings, f"{records} journal records with {facts} facts, {runs} open runs", where


async def _closing(log: Log, made: Made, asked: list[LaneSeen]) -> list[Finding]:
    """Closing waits of which neither the question nor the answer is under way; nothing where a lane is unknown."""
    if len(asked) < made.lanes or not any(seen.asked for seen in asked):
        return []
    inbox = group_topic(made.group, "inbox")
    unread: list[tuple[int, InboxRecord]] = []
    for seen in asked:
        start = max(seen.inbox_from, await log.start_offset(inbox, seen.lane))
        reader = log.reader(inbox, seen.lane, start)
        async for page in read_rest(log, inbox, seen.lane, reader):
            for record in page:
                with contextlib.suppress(Corruption):  # A record of an inbox that cannot be read is the lane's to name.
                    unread.append((seen.lane, decode_inbox(record.value or b"")))
        await reader.close()
    return [
        Finding(
            group_topic(made.group, "journal"), lane, -1,
            f"step {step!r} of run {run} has asked whether what it waits for has come (condition {index}): expected "
            "its question or the answer under way, got neither",
        )
        for lane, (run, step, index) in unanswered(asked, unread)
    ]  # fmt: skip


async def _fold(log: Log, made: Made, seen: Walked, asked: list[LaneSeen]) -> int:
    """Fold a lane and look at its tables; how many runs are open. What is wrong goes to ``seen``, what it has asked of
    other lanes to ``asked``."""
    try:
        tables, reached = await tables_of(log, made, seen.lane)
    except OperatorError as error:
        seen.find(-1, f"the lane cannot be restored: {error}")
        return 0
    except Exception as error:  # A fold that fails is what would stop the lane: here it is a finding.
        seen.find(-1, f"the journal cannot be folded: {type(error).__name__}: {error}")
        return 0
    runs = 0
    for run in open_runs(tables):
        runs += 1
        for problem in liveness(tables, run).problems:
            seen.find(-1, problem)
    for timer in stored_timers(tables):
        if problem := timer_problem(tables, timer):
            seen.find(-1, problem)
    for (function, run_id, step), _ in tables.parked.scan(limit=ROWS_MAX):
        if tables.runs.get(run_id) is None:
            seen.find(-1, f"a hand-out of {function} is parked for run {run_id} step {step!r}, which is not open")
    asked.append(seen_of(tables))
    for (function, run_id, step), _ in tables.held.scan(limit=ROWS_MAX):
        if tables.runs.get(run_id) is None:
            seen.find(-1, f"step {step!r} of run {run_id} of {function} is held, and the run is not open")
    if seen.start == 0 and not seen.findings:
        await _compare(log, made, seen, (tables, reached))
    return runs


async def _compare(log: Log, made: Made, seen: Walked, restored: tuple[LaneTables, Reached]) -> None:
    """lanes.md rule 15: the tables of the checkpoint and its suffix are those of the whole journal."""
    tables, reached = restored
    from_journal = LaneTables(place_of(made, seen.lane), MemoryStore())
    try:
        await fold_upto(log, from_journal, Reached(0, Validity(), 0, 0), reached.offset, lambda facts, left: None)
    except OffsetOutOfRange:
        return  # Its beginning was trimmed meanwhile.
    except Exception as error:
        seen.find(-1, f"the journal cannot be folded from its beginning: {type(error).__name__}: {error}")
        return
    if fingerprint(from_journal) != fingerprint(tables):
        seen.find(-1, "the tables restored from the last checkpoint are not those of the whole journal")


def time_text(at_ms: int) -> str | None:
    """A time as commands print it; None for none."""
    if not at_ms:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
