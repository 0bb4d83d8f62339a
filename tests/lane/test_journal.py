"""``lane/journal.py``: an append counts when it lies exactly where it was expected; everything else is looked into."""

from __future__ import annotations

import pytest

from millstream.errors import Corruption, LogUnavailable
from millstream.lane import journal as module
from millstream.lane.journal import Fenced, Journal, Refused, Void
from millstream.log.memory.faults import REFUSED, UNKNOWN_NOT_WRITTEN, UNKNOWN_WRITTEN, Fate, Verdict
from millstream.log.port import Produced
from millstream.model.facts import CommandRefused, LaneFenced
from millstream.model.journal import JournalRecord
from millstream.wire.journal import encode_record
from tests.core.values import START_MS
from tests.lane.rig import JOURNAL, Rig

ONE = (CommandRefused("Test", "one", ""),)
OTHER = (CommandRefused("Test", "other", ""),)
LATE = Verdict(fate=Fate.UNKNOWN, written_after_s=0.05, answered_after_s=0.0, outlives_writer=True)


async def owned(rig: Rig, owner: bytes = b"ours....") -> Journal:
    journal = rig.journal()
    journal.own(owner, (await journal.fence("a", owner, START_MS)).offset)
    return journal


def subjects(rig: Rig) -> list[str]:
    return [fact.subject for fact in rig.facts(CommandRefused)]


async def test_an_append_that_lands_where_expected_moves_the_expectation_by_its_records(rig: Rig) -> None:
    journal = await owned(rig)
    await journal.append(ONE, (), START_MS)
    await journal.append(OTHER, (), START_MS)
    assert (journal.expected, journal.seq) == (3, 2)
    assert subjects(rig) == ["one", "other"]


async def test_a_refused_append_changes_nothing_and_the_same_one_may_follow(rig: Rig) -> None:
    journal = await owned(rig)
    rig.faults.appends[JOURNAL].append(REFUSED)
    with pytest.raises(Refused):
        await journal.append(ONE, (), START_MS)
    assert (journal.expected, journal.seq) == (1, 0)
    await journal.append(ONE, (), START_MS)
    assert subjects(rig) == ["one"]


@pytest.mark.parametrize(
    "verdict",
    [Verdict(fate=Fate.WITHOUT_OFFSET), Verdict(fate=Fate.WRONG_OFFSET), UNKNOWN_WRITTEN],
    ids=["without an offset", "with a wrong offset", "unknown"],
)
async def test_an_odd_acknowledgement_of_a_record_that_is_there_is_found_out(rig: Rig, verdict: Verdict) -> None:
    journal = await owned(rig)
    rig.faults.appends[JOURNAL].append(verdict)
    await journal.append(ONE, (), START_MS)
    assert (journal.expected, journal.seq) == (2, 1)
    await journal.append(OTHER, (), START_MS)
    assert subjects(rig) == ["one", "other"]


async def test_an_unknown_outcome_that_is_not_in_the_log_is_void(rig: Rig) -> None:
    journal = await owned(rig)
    rig.faults.appends[JOURNAL].append(UNKNOWN_NOT_WRITTEN)
    with pytest.raises(Void):
        await journal.append(ONE, (), START_MS)


async def test_a_record_that_turns_up_late_but_before_the_next_fence_counts_and_lies_below_it(rig: Rig) -> None:
    journal = await owned(rig)
    rig.faults.appends[JOURNAL].append(LATE)
    with pytest.raises(Void):
        await journal.append(ONE, (), START_MS)
    await rig.here.sleep(0.1)
    fence = (await journal.fence("a", b"again...", START_MS)).offset
    assert fence == 2
    assert subjects(rig) == ["one"]


async def test_a_record_that_turns_up_behind_the_next_fence_never_counts(rig: Rig) -> None:
    journal = await owned(rig)
    rig.faults.appends[JOURNAL].append(LATE)
    with pytest.raises(Void):
        await journal.append(ONE, (), START_MS)
    journal.own(b"again...", (await journal.fence("a", b"again...", START_MS)).offset)
    await rig.here.sleep(0.1)
    await journal.append(OTHER, (), START_MS)
    assert subjects(rig) == ["other"]
    assert journal.expected == 4, "the stale record is stepped over"


async def test_the_lawful_owner_steps_over_a_zombies_record(rig: Rig) -> None:
    journal = await owned(rig)
    zombie = JournalRecord(b"zombie..", 7, START_MS, OTHER)
    await rig.put(JOURNAL, Produced(encode_record(zombie)))
    await journal.append(ONE, (), START_MS)
    assert subjects(rig) == ["one"]
    assert (journal.expected, journal.seq) == (3, 1)


async def test_a_newer_fence_is_noticed_at_the_next_append(rig: Rig) -> None:
    journal = await owned(rig)
    fence = JournalRecord(b"another.", 0, START_MS, (LaneFenced("b"),))
    await rig.put(JOURNAL, Produced(encode_record(fence)))
    with pytest.raises(Fenced):
        await journal.append(ONE, (), START_MS)
    assert subjects(rig) == []


async def test_a_fence_with_an_unknown_outcome_is_found_where_it_is(rig: Rig) -> None:
    journal = rig.journal()
    rig.faults.appends[JOURNAL].append(UNKNOWN_WRITTEN)
    assert (await journal.fence("a", b"ours....", START_MS)).offset == 0


async def test_an_offset_without_a_record_is_corruption_and_not_passed_over(rig: Rig) -> None:
    journal = await owned(rig)
    rig.cluster.partitions[JOURNAL, 0].end += 1
    with pytest.raises(Corruption, match="gave offset 2 where 1 was expected"):
        await journal.append(ONE, (), START_MS)


async def test_a_fence_that_is_not_there_is_void_and_a_refused_one_refused(rig: Rig) -> None:
    journal = rig.journal()
    rig.faults.appends[JOURNAL] += [UNKNOWN_NOT_WRITTEN, REFUSED]
    with pytest.raises(Void):
        await journal.fence("a", b"ours....", START_MS)
    with pytest.raises(Refused):
        await journal.fence("a", b"ours....", START_MS)
    assert rig.records(JOURNAL) == []


async def test_nothing_that_was_under_way_turns_up_after_a_writer_was_closed(rig: Rig) -> None:
    journal = await owned(rig)
    slow = Verdict(fate=Fate.UNKNOWN, written_after_s=0.05, answered_after_s=0.0)
    rig.faults.appends[JOURNAL].append(slow)
    with pytest.raises(Void):
        await journal.append(ONE, (), START_MS)
    await journal.close()
    await rig.here.sleep(0.1)
    assert len(rig.records(JOURNAL)) == 1


async def test_when_the_log_cannot_be_read_the_outcome_is_void_never_refused(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same seq may not be used again: the record may be there all the same."""
    journal = await owned(rig)

    async def unavailable(topic: str, partition: int) -> int:
        raise LogUnavailable("no answer")

    rig.faults.appends[JOURNAL].append(UNKNOWN_WRITTEN)
    monkeypatch.setattr(rig.logs["a"], "end_offset", unavailable)
    with pytest.raises(Void):
        await journal.append(ONE, (), START_MS)


async def test_a_decision_larger_than_the_log_takes_at_once_goes_out_in_several_appends(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "APPEND_BYTES_MAX", 1_500_000)
    journal = await owned(rig)
    large = tuple(CommandRefused("Test", str(n), "x" * 400_000) for n in range(8))
    rig.faults.asked.clear()
    await journal.append(large, (), START_MS)
    assert len(rig.faults.asked) > 1
    assert subjects(rig) == [str(n) for n in range(8)]
    await journal.append(ONE, (), START_MS)
    assert subjects(rig)[-1] == "one"


async def test_a_large_decision_whose_last_parts_are_refused_is_void_as_a_whole(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "APPEND_BYTES_MAX", 1_500_000)
    journal = await owned(rig)
    rig.faults.appends[JOURNAL] += [Verdict(), REFUSED]
    with pytest.raises(Void):
        await journal.append(tuple(CommandRefused("T", str(n), "x" * 400_000) for n in range(8)), (), START_MS)
    assert (journal.expected, journal.seq) == (1, 0)
    journal.own(b"again...", (await journal.fence("a", b"again...", START_MS)).offset)
    await journal.append(ONE, (), START_MS)
    assert subjects(rig) == ["one"]
