"""Faults in who owns a lane and in what counts in its journal (lanes.md rules 1 to 8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from millstream.errors import LogUnavailable
from millstream.lane import journal as lane_journal
from millstream.lane import lane as lane_lane
from millstream.lane.ownership import fencing
from millstream.lane.ownership import restore as lane_restore
from millstream.log.port import Produced
from millstream.model.journal import JournalRecord
from millstream.wire.journal import Validity, encode_parts
from millstream.worker.worker import Worker
from tests.lane import test_lane, test_ownership
from tests.sim.mutants.mutant import Mutant, Patch, on_rig

MET_A_FENCE = on_rig(test_ownership.test_a_lane_that_met_a_newer_fence_waits_a_little_before_it_fences_again)
TWO_OWNERS = on_rig(test_ownership.test_two_who_believe_they_own_a_lane_end_with_the_one_the_group_names)
WRONG_CLOCK = on_rig(test_lane.test_a_clock_far_off_the_logs_fires_no_timers_until_it_is_right_again)


class _Credulous(Validity):
    """Takes every record, whoever wrote it."""

    def take(self, record: JournalRecord) -> JournalRecord | None:
        self.owner, self.seq = record.owner, record.seq
        return record


class _Impatient(Validity):
    """Takes a part for the whole."""

    def take(self, record: JournalRecord) -> JournalRecord | None:
        return super().take(msgspec.structs.replace(record, more=False))


def _validity(kind: type[Validity]) -> Callable[[Patch], None]:
    def apply(patch: Patch) -> None:
        for module in (lane_journal, lane_lane, lane_restore):
            patch.set(module, "Validity", kind)

    return apply


def _trust_any_answer(patch: Patch) -> None:
    async def append(self: Any, facts: Any, positions: Any, at_ms: int) -> int:
        record = JournalRecord(self.owner, self.seq + 1, at_ms, facts, positions)
        parts = encode_parts(record)
        try:
            await self._writer.append([Produced(part) for part in parts])
        except lane_journal.OutcomeUnknown:
            pass  # It will have been written.
        except LogUnavailable as error:
            raise lane_journal.Refused(str(error)) from error
        self.expected += len(parts)
        self.seq += len(parts)
        return sum(map(len, parts))

    patch.set(lane_journal.Journal, "append", append)


def _skip_the_fence_check(patch: Patch) -> None:
    """Wherever the record came to lie, nobody else has written."""

    class Anywhere(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    real = lane_journal.Journal.append

    async def append(self: Any, facts: Any, positions: Any, at_ms: int) -> int:
        self.expected = Anywhere(self.expected)
        return await real(self, facts, positions, at_ms)

    patch.set(lane_journal.Journal, "append", append)


def _take_unknown_for_refused(patch: Patch) -> None:
    """An unknown outcome is taken for "not written": the next record follows under the same number."""

    async def look(self: Any, *what: Any) -> None:
        raise lane_journal.Refused("no answer")

    patch.set(lane_journal.Journal, "_look", look)


def _act_before_durable(patch: Patch) -> None:
    real = lane_lane.Lane._commit

    async def commit(self: Any, turn: Any) -> None:
        self.tables.promote()
        self._effects.release(turn.effects)
        turn.effects = []
        await real(self, turn)

    patch.set(lane_lane.Lane, "_commit", commit)


def _fence_and_fold_nothing(patch: Patch) -> None:
    async def fold_upto(log: Any, tables: Any, reached: Any, end: int, progress: Any) -> Any:
        fence = (await log_read(log, tables, end - 1))[0]
        return lane_restore.Reached(end, Validity(fence.owner, fence.seq), reached.at_ms, 0)

    async def log_read(log: Any, tables: Any, offset: int) -> Any:
        reader = log.reader(f"{tables.place.group}.journal", tables.place.lane, offset)
        page = await reader.read(max_records=1, max_bytes=1, wait_s=1)
        return [lane_restore.decode_record(found.value) for found in page]

    patch.set(fencing, "fold_upto", fold_upto)


def _keep_revoked_lanes(patch: Patch) -> None:
    async def revoked(self: Any, lanes: Any) -> None:
        """Nobody needs to know."""

    patch.set(Worker, "_on_revoked", revoked)


def _follow_the_clock(patch: Patch) -> None:
    patch.set(lane_lane, "max", lambda *values: values[0])


class _Unasked:
    """A membership that says yes to everything and asks nobody."""

    def __init__(self, real: Any) -> None:
        self._real = real

    async def still_owns(self, lane: int, *, inbox_position: int) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _fence_unasked(patch: Patch) -> None:
    """Whoever believes that a lane is his takes it, without a word from the group."""
    real = fencing.take_over

    async def take_over(parts: Any, *rest: Any) -> Any:
        return await real(replace(parts, membership=_Unasked(parts.membership)), *rest)

    patch.set(lane_lane, "take_over", take_over)


def _fence_at_once(patch: Patch) -> None:
    async def no_wait(parts: Any) -> None:
        """The other one may do the same at this very moment."""

    patch.set(lane_lane, "wait_a_little", no_wait)
    patch.set(fencing, "wait_a_little", no_wait)


def _fire_by_a_wrong_clock(patch: Patch) -> None:
    async def check(self: Any) -> None:
        """It will be right."""

    patch.set(lane_lane.Lane, "_check_clock", check)


MUTANTS: tuple[Mutant, ...] = (
    Mutant("take every record for valid", "1", _validity(_Credulous)),
    Mutant("trust any answer of the log", "2", _trust_any_answer),
    Mutant("skip the fence check", "2", _skip_the_fence_check),
    Mutant("take an unknown outcome for a refusal", "2", _take_unknown_for_refused),
    Mutant("act before durable", "2", _act_before_durable),
    Mutant("fence without asking the group", "3", _fence_unasked, TWO_OWNERS),
    Mutant("fence again at once", "4", _fence_at_once, MET_A_FENCE),
    Mutant("fence, but fold nothing below the fence", "5", _fence_and_fold_nothing),
    Mutant("keep lanes that were revoked", "6", _keep_revoked_lanes),
    Mutant("fire by a clock that is wrong", "8", _fire_by_a_wrong_clock, WRONG_CLOCK),
    Mutant("follow a clock that goes back", "8", _follow_the_clock),
    Mutant("take a part for the whole", "21", _validity(_Impatient)),
)
