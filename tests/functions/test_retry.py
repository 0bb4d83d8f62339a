"""``Retry``: is it what it says, and is a wrong one refused where it is written?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from millstream import Exponential, FunctionError, Linear, NonRetriableError, Retry, Table
from millstream.model.function import Backoff
from millstream.model.operations import RetryPolicy


class Shape:
    """A backoff of somebody's own."""

    def __init__(self, table: object) -> None:
        self.table = table

    def spec(self) -> object:
        return self.table


def test_it_says_how_often_and_after_which_delays() -> None:
    assert Retry().policy == RetryPolicy()
    assert Retry(attempts=1).policy == RetryPolicy(0)
    assert Retry(attempts="unlimited").policy == RetryPolicy(1_000_000)
    assert Retry(attempts=5, backoff=Table(["1s", "5s"], jitter="1s")).policy == RetryPolicy(4, (1_000, 5_000), 1_000)
    assert Retry(backoff=Exponential("1s", maximum="4s")).policy == RetryPolicy(-1, (1_000, 2_000, 4_000))
    assert Retry(backoff=Linear("2s")).policy.delays_ms == (2_000,)


def test_a_subclass_counts_and_not_on_wins() -> None:
    retry = Retry(on=OSError, not_on=(FileNotFoundError,))
    assert retry.includes(ConnectionResetError) and not retry.includes(ValueError)
    assert retry.excludes(FileNotFoundError) and retry.includes(FileNotFoundError)
    assert Retry().includes(KeyboardInterrupt) and not Retry().excludes(ValueError)


def test_two_that_say_the_same_are_equal() -> None:
    assert Retry(attempts=3, on=OSError) == Retry(attempts=3, on=[OSError])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Retry(attempts=0), "attempts must be 1 to 1,000,001"),
        (lambda: Retry(attempts=True), "attempts must be"),
        (lambda: Retry(attempts="often"), "or \"unlimited\", got 'often'"),  # type: ignore[arg-type]
        (lambda: Retry(backoff=5), r"Retry refused: backoff takes Exponential"),  # type: ignore[arg-type]
        (lambda: Retry(backoff=Shape(5)), r"spec\(\) of its backoff must give a Backoff"),  # type: ignore[arg-type]
        (lambda: Retry(backoff=Shape(Backoff((10**30,)))), "in whole milliseconds"),  # type: ignore[arg-type]
        (lambda: Retry(on="ValueError"), "on takes classes of exceptions"),  # type: ignore[arg-type]
        (lambda: Retry(on=(int,)), "on takes classes of exceptions"),  # type: ignore[arg-type]
        (lambda: Retry(not_on=[ValueError("x")]), "not_on takes classes"),  # type: ignore[list-item]
        (lambda: Retry(on=[ValueError] * 101), "may have 100 classes, got 101"),
        (lambda: Retry(on=NonRetriableError), "ends the attempts whatever on says"),
    ],
)
def test_a_wrong_one_is_refused_saying_what_was_got(make: Callable[[], Retry], says: str) -> None:
    with pytest.raises(FunctionError, match=says):
        make()
