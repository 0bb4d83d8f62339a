"""``core/intake/topics.py``, ``core/intake/scans.py``: where sources open, and second cursors over what lies before."""

from __future__ import annotations

from millstream.core.intake.seen import expired
from millstream.model.commands import (
    AcceptRecord,
    AdvanceScan,
    BackfillFunction,
    CancelScan,
    Opening,
    ReadRecord,
    ScanRange,
    ScanStart,
    SeeTopic,
)
from millstream.model.facts import (
    CommandRefused,
    EventAccepted,
    Fact,
    FunctionSubscribed,
    PublishQueued,
    RequestAnswered,
    RunStarted,
    ScanAdvanced,
    ScanEnded,
    ScanStarted,
    SourceOpened,
    TopicSeen,
)
from millstream.model.function import SINCE_EARLIEST, SINCE_LATEST, FunctionSpec, Reading, TopicTrigger
from millstream.model.ids import lane_of_source
from tests.core.harness import Harness
from tests.core.values import FAST, LANES, PLACE, START_MS, app, event, internal_id, see

PAY = "payments"
MINE = next(p for p in range(LANES) if lane_of_source(PAY, p, LANES) == PLACE.lane)
AUTO = Reading()
REQUEST = internal_id(900)


def subscriber(slug: str, since_ms: int = SINCE_LATEST, reading: Reading = AUTO) -> FunctionSpec:
    return FunctionSpec(slug, slug, (TopicTrigger(PAY, "", since_ms, reading),), retries=0, backoff=FAST)


def opened(at: int = 10) -> Harness:
    """The lane reads the topic from there, for one function."""
    harness = Harness()
    harness.do(see(app(subscriber("shop-bill"))))
    harness.do(SeeTopic(PAY, LANES, (Opening(MINE, at, (ScanStart("shop-bill", at),)),)))
    return harness


def read(offset: int, reading: Reading = AUTO, *, poison: bool = False) -> ReadRecord:
    given = None if poison else event(100 + offset, PAY)
    return ReadRecord(offset, reading, given, "poison: no JSON" if poison else "", b"k", b"v", (("h", b"1"),))


def of(facts: list[Fact], kind: type) -> list[Fact]:
    return [fact for fact in facts if isinstance(fact, kind)]


def test_a_first_subscription_opens_at_the_latest_of_what_is_wanted_and_scans_the_rest() -> None:
    harness = Harness()
    harness.do(see(app(subscriber("shop-bill"), subscriber("shop-keep", SINCE_EARLIEST))))
    starts = (ScanStart("shop-bill", 10), ScanStart("shop-keep", 2))
    facts = harness.do(SeeTopic(PAY, LANES, (Opening(MINE, 10, starts),)))
    scan = ScanStarted(f"since:shop-keep:{PAY}", MINE, "shop-keep", PAY, "since", "", 0, 2, 10)
    assert facts == [SourceOpened(PAY, MINE, 10), scan, TopicSeen(PAY, LANES)]


def test_a_look_that_missed_a_subscriber_leads_to_nothing() -> None:
    harness = Harness()
    harness.do(see(app(subscriber("shop-bill"), subscriber("shop-keep", SINCE_EARLIEST))))
    assert harness.do(SeeTopic(PAY, LANES, (Opening(MINE, 10, (ScanStart("shop-bill", 10),)),))) == []


def test_a_later_subscription_scans_up_to_where_the_lane_is_and_only_the_first_time() -> None:
    harness = opened(10)
    facts = harness.do(see(app(subscriber("late-bill", SINCE_EARLIEST), id="late"), 5, "late"))
    (scan,) = of(facts, ScanStarted)
    assert isinstance(scan, ScanStarted) and (scan.from_offset, scan.upto, scan.cause) == (-1, 10, "")
    assert of(facts, FunctionSubscribed)
    harness.do(see(app(id="late"), 6, "late"))
    facts = harness.do(see(app(subscriber("late-bill", SINCE_EARLIEST), id="late"), 7, "late"))
    assert not of(facts, ScanStarted) and not of(facts, FunctionSubscribed)


def test_a_record_starts_its_functions_once_and_a_poison_one_none() -> None:
    harness = opened(10)
    facts = harness.do(AcceptRecord(PAY, MINE, 10, (read(10),)))
    assert [type(fact) for fact in facts] == [EventAccepted, RunStarted]
    assert harness.do(AcceptRecord(PAY, MINE, 10, (read(10),))) == []
    refused, letter = harness.do(AcceptRecord(PAY, MINE, 11, (read(11, poison=True),)))
    assert isinstance(refused, CommandRefused) and refused.subject == f"{PAY}/{MINE}@11"
    assert isinstance(letter, PublishQueued) and letter.headers[0] == ("h", b"1")


def test_the_dead_letters_are_not_set_aside_once_more() -> None:
    harness = Harness()
    topic = PLACE.dead_letters_topic
    harness.do(see(app(FunctionSpec("shop-redo", "redo", (TopicTrigger(topic),)))))
    facts = harness.do(AcceptRecord(topic, 0, 0, (read(0, poison=True),)))
    assert [type(fact) for fact in facts] == [CommandRefused]


def scanning(harness: Harness, upto: int = 4) -> str:
    """A backfill of [0, upto) is under way; its id."""
    command = BackfillFunction("shop-bill", PAY, (ScanRange(MINE, 0, upto),), REQUEST, internal_id(901), 0)
    harness.do(command)
    return REQUEST


def test_a_backfill_starts_runs_of_their_own_and_ends_with_its_range() -> None:
    harness = opened(0)
    harness.do(AcceptRecord(PAY, MINE, 0, (read(0),)))
    harness.do(AcceptRecord(PAY, MINE, 1, (read(1),)))
    scan = scanning(harness)  # The range ends where the lane has read to: at 2.
    facts = harness.do(AdvanceScan(scan, MINE, 0, 9, (read(0), read(1))))
    assert len(of(facts, RunStarted)) == 2 and len(harness.runs) == 4
    assert not of(facts, EventAccepted), "the open runs hold the very events"
    assert of(facts, ScanAdvanced) == [ScanAdvanced(scan, MINE, 2, 2)]
    assert of(facts, ScanEnded) == [ScanEnded(scan, MINE, False, 2)]


def test_an_advance_counts_once_and_only_from_where_the_scan_is() -> None:
    harness = opened(4)
    scan = scanning(harness)
    page = AdvanceScan(scan, MINE, 0, 2, (read(0), read(1, poison=True)))
    facts = harness.do(page)
    assert len(of(facts, RunStarted)) == len(of(facts, PublishQueued)) == 1
    assert harness.do(page) == []
    assert harness.do(AdvanceScan(scan, MINE, 3, 4, (read(3),))) == []
    assert of(harness.do(AdvanceScan(scan, MINE, 2, 4, (read(2), read(3)))), ScanEnded)


def test_two_poison_records_of_one_page_are_two_letters() -> None:
    harness = opened(4)
    facts = harness.do(AdvanceScan(scanning(harness), MINE, 0, 2, (read(0, poison=True), read(1, poison=True))))
    letters = of(facts, PublishQueued)
    assert [fact.number for fact in letters if isinstance(fact, PublishQueued)] == [1, 2]


def test_a_backfill_asked_for_twice_is_one_and_can_be_cancelled() -> None:
    harness = opened(4)
    scan = scanning(harness)
    again = BackfillFunction("shop-bill", PAY, (ScanRange(MINE, 0, 4),), REQUEST, internal_id(901), 0)
    assert [type(fact) for fact in harness.do(again)] == [RequestAnswered]
    facts = harness.do(CancelScan(scan, internal_id(902), 0))
    assert of(facts, ScanEnded) == [ScanEnded(scan, MINE, True, 0)]
    assert harness.do(AdvanceScan(scan, MINE, 0, 2, (read(0),))) == []
    (answer,) = harness.do(CancelScan(scan, internal_id(903), 0))
    assert isinstance(answer, RequestAnswered) and b"not_open" in answer.reply


def test_a_backfill_of_what_another_lane_reads_is_refused() -> None:
    harness = opened(4)
    elsewhere = next(p for p in range(LANES) if p != MINE)
    command = BackfillFunction("shop-bill", PAY, (ScanRange(elsewhere, 0, 4),), REQUEST, REQUEST, 0)
    (answer,) = harness.do(command)
    assert isinstance(answer, RequestAnswered) and b"refused" in answer.reply


def test_a_scan_waits_while_its_function_is_not_deployed() -> None:
    harness = opened(4)
    scan = scanning(harness)
    harness.do(see(None, 9))
    assert harness.do(AdvanceScan(scan, MINE, 0, 2, (read(0),))) == []
    harness.do(see(app(subscriber("shop-bill")), 10))
    assert of(harness.do(AdvanceScan(scan, MINE, 0, 2, (read(0),))), RunStarted)


def since(harness: Harness, *, late: bool = False, upto: int = 10) -> str:
    """A function begins at the topic's beginning: before the source was opened, or after; its scan."""
    if late:
        harness.do(see(app(subscriber("late-bill", SINCE_EARLIEST), id="late"), 5, "late"))
        scan = f"since:late-bill:{PAY}"
        harness.do(AdvanceScan(scan, MINE, -1, 0))
        return scan
    harness.do(see(app(subscriber("shop-keep", SINCE_EARLIEST), subscriber("shop-also", SINCE_EARLIEST))))
    starts = (ScanStart("shop-keep", 0), ScanStart("shop-also", 0))
    harness.do(SeeTopic(PAY, LANES, (Opening(MINE, upto, starts),)))
    return f"since:shop-keep:{PAY}"


def given(offset: int, id: str) -> ReadRecord:
    """A record whose id its producer gave."""
    return ReadRecord(offset, AUTO, event(100 + offset, PAY, id=id), "", b"k", b"v", ())


def started(facts: list[Fact]) -> list[str]:
    return [fact.function for fact in facts if isinstance(fact, RunStarted)]


def test_a_since_scan_starts_its_function_once_on_a_given_id() -> None:
    harness = Harness()
    scan = since(harness)
    facts = harness.do(AdvanceScan(scan, MINE, 0, 2, (given(0, "x"), given(1, "x"))))
    assert started(facts) == ["shop-keep"]
    assert started(harness.do(AdvanceScan(scan, MINE, 2, 4, (given(2, "x"), given(3, "y"))))) == ["shop-keep"]
    other = f"since:shop-also:{PAY}"
    facts = harness.do(AdvanceScan(other, MINE, 0, 4, (given(0, "x"), given(1, "x"), given(2, "x"), given(3, "y"))))
    assert started(facts) == ["shop-also", "shop-also"], "each function has runs of its own"


def test_a_given_id_on_both_sides_of_the_border_starts_a_function_once() -> None:
    harness = Harness()
    scan = since(harness)
    harness.do(AdvanceScan(scan, MINE, 0, 1, (given(0, "scanned first"),)))
    facts = harness.do(AcceptRecord(PAY, MINE, 10, (given(10, "scanned first"),)))
    assert started(facts) == ["shop-also"], "whose scan has not come so far"
    harness.do(AcceptRecord(PAY, MINE, 11, (given(11, "live first"),)))
    assert started(harness.do(AdvanceScan(scan, MINE, 1, 2, (given(1, "live first"),)))) == []


def test_ids_that_others_took_live_do_not_keep_a_later_function_from_them() -> None:
    harness = opened(0)
    for offset in range(3):
        harness.do(AcceptRecord(PAY, MINE, offset, (given(offset, f"id-{offset}"),)))
    scan = since(harness, late=True)
    facts = harness.do(AdvanceScan(scan, MINE, 0, 3, tuple(given(n, f"id-{n}") for n in range(3))))
    assert started(facts) == ["late-bill"] * 3


def test_a_record_that_two_since_scans_cannot_read_is_one_dead_letter() -> None:
    harness = Harness()
    scan = since(harness)
    poison = (read(0, poison=True),)
    assert len(of(harness.do(AdvanceScan(scan, MINE, 0, 1, poison)), PublishQueued)) == 1
    facts = harness.do(AdvanceScan(f"since:shop-also:{PAY}", MINE, 0, 1, poison))
    assert of(facts, CommandRefused)
    assert not of(facts, PublishQueued)


def test_ids_of_a_scan_far_back_are_kept_while_it_is_there() -> None:
    harness = Harness()
    scan = since(harness)
    month_ms = 30 * 86_400_000
    harness.do(AcceptRecord(PAY, MINE, 10, (given(10, "now"),)))
    old = ReadRecord(0, AUTO, event(7, PAY, id="old", at_ms=START_MS - month_ms), "", b"k", b"v", ())
    harness.do(AdvanceScan(scan, MINE, 0, 1, (old,)))
    assert not expired(harness.tables, START_MS)
    again = ReadRecord(1, AUTO, event(8, PAY, id="old", at_ms=START_MS - month_ms + 60_000), "", b"k", b"v", ())
    assert started(harness.do(AdvanceScan(scan, MINE, 1, 2, (again,)))) == []
    assert of(harness.do(AdvanceScan(scan, MINE, 2, 10)), ScanEnded)
    harness.do(AdvanceScan(f"since:shop-also:{PAY}", MINE, 0, 10))
    assert expired(harness.tables, START_MS)


def test_a_time_in_the_future_is_a_producers_clock_and_delays_nothing() -> None:
    harness = opened(0)
    late = ReadRecord(0, AUTO, event(1, PAY, at_ms=START_MS + 3_600_000))
    (start,) = of(harness.do(AcceptRecord(PAY, MINE, 0, (late,))), RunStarted)
    assert isinstance(start, RunStarted) and start.start_at_ms == 0
