"""How fast the history folds journals and events into its index, on one core.

    python -m bench.history [--runs 100000] [--lanes 8] [--outstanding 128] [--rounds 3]

Journals of three-step runs as lanes write them under load (each record a turn: some runs begin, others end, steps
between) and the events topic beside them lie in memory, already read: what is measured is decoding, folding and the
index's transactions, by the CPU time of this process. The last line says how many times 12,000 runs a second that is.

Caveats: reading the log is not in it (a tenth more from the embedded log; librdkafka reads on threads of its own). The
index grows from empty: with a day's runs in it an insertion costs more, by what its indexes cost in cache misses.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from bench.rig.figures import Stopwatch, emit
from bench.rig.loop import parser, run
from millstream.history.fold import Changes
from millstream.history.index import Folded, Index
from millstream.model import facts as f
from millstream.model.event import Envelope
from millstream.model.ids import run_id, ulid
from millstream.model.journal import JournalRecord, Position
from millstream.wire.journal import Validity, decode_record, encode_record
from millstream.wire.messages import decode_envelope, encode_envelope

AT_MS = 1_795_356_850_000
FACTS_A_RUN = 6
WANTED_RUNS_S = 12_000
RECORDS_A_BATCH = 16
TURN_MS = 8


def life(n: int, lane: int, lanes: int) -> tuple[Envelope, list[list[f.Fact]]]:
    """An event, and the decisions of its run in order."""
    internal = ulid(AT_MS + n // 12, n.to_bytes(10, "big"))
    event = Envelope(internal, internal, False, "bench/ran", b'{"n":%d,"text":"some text"}' % n, AT_MS, AT_MS + n // 12)
    id = run_id(AT_MS, internal, "bench-three", "", lane=lane, lanes=lanes)
    accepted = f.EventAccepted(
        internal, internal, False, event.name, event.data, AT_MS, AT_MS, "", b"", "", b"", "events", lane, n, b"s" * 16
    )
    steps: list[list[f.Fact]] = [
        [f.StepCompleted(id, str(k) * 40, f"step {k}", "run", 0, k, b'{"done":true}', AT_MS, True)] for k in (1, 2, 3)
    ]
    started: list[f.Fact] = [accepted, f.RunStarted(id, "bench-three", (internal,), "", 0)]
    return event, [started, *steps, [f.RunCompleted(id, "bench-three", 4, b'{"sum":3}')]]


def journal(lane: int, lanes: int, runs: int, outstanding: int) -> tuple[list[bytes], list[bytes]]:
    """A lane's journal and its events, as bytes."""
    owner = b"owner-%02d" % lane
    records, events = [encode_record(JournalRecord(owner, 0, AT_MS, (f.LaneFenced("w"),)))], []
    waiting = (life(n * lanes + lane, lane, lanes) for n in range(runs))
    under_way: list[Iterator[list[f.Fact]]] = []
    seq = 0
    while True:
        for event, decisions in waiting:
            events.append(encode_envelope(event))
            under_way.append(iter(decisions))
            if len(under_way) >= outstanding:
                break
        if not under_way:
            return records, events
        turn = [(one, next(one, None)) for one in under_way]
        under_way = [one for one, facts in turn if facts is not None]
        facts = tuple(fact for _, some in turn if some is not None for fact in some)
        if facts:
            seq += 1
            at_ms = AT_MS + seq * TURN_MS
            records.append(encode_record(JournalRecord(owner, seq, at_ms, facts, (Position("events", lane, seq),))))


async def main(given: argparse.Namespace, directory: Path) -> None:
    """One line a round, then what it means."""
    made = [journal(lane, given.lanes, given.runs // given.lanes, given.outstanding) for lane in range(given.lanes)]
    rates = []
    for number in range(given.rounds):
        index = Index(directory / f"{number}.db")
        watch, begun_s = Stopwatch(), time.process_time()
        _fold(index, made)
        took_s = time.process_time() - begun_s
        index.close()
        size = sum(path.stat().st_size for path in directory.glob(f"{number}.db*"))
        rates.append(given.runs / took_s)
        emit(
            "history, folded by one core",
            given.runs / took_s,
            "runs/s",
            watch.stop(),
            facts_per_s=round(given.runs * FACTS_A_RUN / took_s),
            us_per_run=round(took_s / given.runs * 1e6, 1),
            index_bytes_per_run=round(size / given.runs),
            lanes=given.lanes,
            n=given.runs,
        )
    emit("history, folded by one core", max(rates) / WANTED_RUNS_S, "times 12,000 runs/s", Stopwatch().stop())


def _fold(index: Index, made: list[tuple[list[bytes], list[bytes]]]) -> None:
    """As the follower does: some records of every partition make a batch."""
    validities = [Validity() for _ in made]
    most = max(len(records) for records, _ in made)
    share = max(len(events) * RECORDS_A_BATCH // most for _, events in made) + 1
    for number, at in enumerate(range(0, most, RECORDS_A_BATCH)):
        changes = Changes(frozenset(["events"]))
        positions = []
        for lane, (records, events) in enumerate(made):
            for offset, value in enumerate(events[number * share : (number + 1) * share], number * share):
                changes.add_event(decode_envelope(value), "events", lane, offset)
            for value in records[at : at + RECORDS_A_BATCH]:
                complete = validities[lane].take(decode_record(value))
                if complete is not None:
                    changes.fold(complete)
            positions.append(Folded("bench.journal", lane, at, validities[lane].owner, validities[lane].seq))
        index.apply(changes, positions)


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--runs", type=int, default=100_000)
    flags.add_argument("--lanes", type=int, default=8)
    flags.add_argument("--outstanding", type=int, default=128, help="runs under way in each lane")
    flags.add_argument("--rounds", type=int, default=3)
    run(main, flags.parse_args())
