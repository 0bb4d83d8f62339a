"""Does the memory of a partition's newest records stay within its limits, and say honestly what it lacks?"""

from __future__ import annotations

from millstream.log.embedded.tail import TAIL_BYTES_MAX_PER_PARTITION, Tail, TailBudget
from millstream.log.port import Produced


def filled(budget: TailBudget, batches: int, size: int) -> Tail:
    tail = Tail(budget)
    for number in range(batches):
        tail.add(number * 2, 7, [Produced(b"a"), Produced(b"b")], size)
    return tail


def test_records_are_found_from_any_position_kept() -> None:
    tail = filled(TailBudget(), 10, 200)
    for position in range(20):
        assert [r.offset for r in tail.read(position, 100, 10_000)] == list(range(position, 20))
        assert [r.offset for r in tail.read(position, 3, 10_000)] == list(range(position, min(position + 3, 20)))
        assert [r.offset for r in tail.read(position, 100, 1)] == [position]


def test_a_partition_keeps_no_more_than_its_limit() -> None:
    budget = TailBudget()
    tail = filled(budget, 100, TAIL_BYTES_MAX_PER_PARTITION // 10)
    assert tail.size == budget.used <= TAIL_BYTES_MAX_PER_PARTITION
    assert tail.read(0, 100, 10_000) == []
    assert tail.read(199, 100, 10_000)[0].offset == 199


def test_all_partitions_together_keep_no_more_than_the_budget() -> None:
    budget = TailBudget(10_000)
    tails = [filled(budget, 20, 100) for _ in range(10)]
    assert sum(tail.size for tail in tails) == budget.used <= 10_000


def test_a_batch_too_large_to_keep_leaves_no_gap() -> None:
    tail = filled(TailBudget(), 3, 100)
    tail.add(6, 7, [Produced(b"large")], TAIL_BYTES_MAX_PER_PARTITION + 1)
    assert tail.read(4, 10, 100) == []
    tail.add(7, 7, [Produced(b"small")], 100)
    assert tail.read(6, 10, 100) == []
    assert [r.offset for r in tail.read(7, 10, 100)] == [7]
