"""What limits promise, measured from outside: pure functions over what was sent and the ledger of ``limited.py``.

Every function gives sentences about what is wrong; no sentence means all is well. What executes is what has begun and
not ended, in a process that lives. A run is open from its first line to its last one. A start may come late, by any
delay of a process that is busy or down, never early: so rates are measured from the first event on, not between starts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.chaos import limited
from tests.chaos.halts import Halts
from tests.chaos.limited import LAST, Line

CLOCKS_S: Final = 0.05
"""By so much the engine's clock may run ahead of ours."""
FUNCTIONS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "steps": ("steps",),
    "unkeyed": ("unkeyed",),
    "runs": ("runs",),
    "shared": ("shared_one", "shared_other"),
    "both": ("both",),
    "throttled": ("throttled",),
    "rated": ("rated",),
    "single": ("skipping", "latest", "cancelling"),
    "ordered": ("ordered",),
    "batched": ("batched",),
    "debounced": ("debounced",),
}
"""The events, and the functions that each starts."""
LOSSLESS: Final = frozenset(FUNCTIONS_OF) - {"rated", "single", "debounced"}
LAST_ONE_COUNTS: Final = ("latest", "cancelling", "debounced")


@dataclass(frozen=True, slots=True)
class Posted:
    """An event that was sent and acknowledged. ``number`` counts up for each name and key."""

    name: str
    key: str
    number: int
    at_ns: int

    def body(self, world: str) -> dict[str, Any]:
        """The event as it is posted; events of a key keep their order."""
        data = {"key": self.key, "n": self.number}
        id_ = f"{world}-{self.name}-{self.key}-{self.number}"
        return {"name": f"limited/{self.name}", "data": data, "id": id_, "key": self.key}


def judge(posted: Sequence[Posted], lines: Sequence[Line]) -> list[str]:
    """Everything that is wrong."""
    each, all_ = limited.BOTH_LIMITS["each"], limited.BOTH_LIMITS["all"]
    return [
        *_too_many(_executing(lines, ("steps",), _key), limited.STEPS_LIMIT, "steps at once"),
        *_too_many(_executing(lines, ("unkeyed",), _none), limited.STEPS_LIMIT, "steps of unkeyed at once"),
        *_too_many(_executing(lines, FUNCTIONS_OF["shared"], _key), limited.SHARED_LIMIT, "steps of two functions"),
        *_too_many(_executing(lines, ("both",), _key), each, "steps of both at once"),
        *_too_many(_open(lines, "both", _none), all_, "runs of both open"),
        *_too_many(_open(lines, "runs", _key), limited.RUNS_LIMIT, "runs open"),
        *_too_many(_open(lines, "skipping", _key), 1, "runs of a singleton"),
        *_too_many(_open(lines, "latest", _key), 1, "runs of a singleton"),
        *_too_many(_open(lines, "ordered", _key), 1, "runs that follow each other"),
        *_too_early(posted, lines, "throttled", "throttled", _throttled_after_s),
        *_too_early(posted, lines, "rated", "rated", _rated_after_s),
        *_out_of_order(lines),
        *_taken_twice(lines),
        *unfinished(posted, lines),
    ]


def without(lines: Iterable[Line], halts: Halts) -> list[Line]:
    """The ledger without what a process ran across a halt, or was about to run when it was halted.

    It has lost its lanes meanwhile, so another one ran the same. Without also what a process ran that ended by itself,
    since nobody has seen when.
    """
    found = list(lines)
    gone = {line.pid for line in found if line.what == "gone"}
    ends = {(line.pid, line.run, line.step): line.at_ns for line in found if line.what == "end"}
    excused: set[tuple[int, str, str]] = set()
    for line in found:
        who = (line.pid, line.run, line.step)
        if line.what == "begin" and (
            halts.excuses(line.pid, line.at_ns)
            or any(line.at_ns <= on_ns <= ends.get(who, on_ns) for on_ns in halts.went_on.get(line.pid, ()))
            or (who not in ends and line.pid not in gone)
        ):
            excused.add(who)
    return [line for line in found if (line.pid, line.run, line.step) not in excused]


def unfinished(posted: Sequence[Posted], lines: Sequence[Line]) -> list[str]:
    """Events whose run has not come to its last step, of the functions that must run for them."""
    done: dict[tuple[str, str], set[int]] = defaultdict(set)
    for line in lines:
        if line.what == "end" and line.step == LAST:
            done[line.function, line.key].update(line.numbers)
    sent: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in posted:
        sent[event.name, event.key].append(event.number)
    wrong = []
    for (name, key), numbers in sent.items():
        for function in FUNCTIONS_OF[name]:
            if name in LOSSLESS:
                wanted = set(numbers)
            elif function in LAST_ONE_COUNTS:
                wanted = {max(numbers)}
            else:
                wanted = {min(numbers)}
            if missing := wanted - done[function, key]:
                wrong.append(f"{function} of key {key}: events {sorted(missing)[:10]} have no run that is over")
    return wrong


# --- at once --------------------------------------------------------------------------------------


def _key(line: Line) -> str:
    return line.key


def _none(line: Line) -> str:
    return ""


def _executing(
    lines: Iterable[Line], functions: tuple[str, ...], group: Callable[[Line], str]
) -> dict[str, tuple[int, str]]:
    """The most that executed at once, of each group, and what that was."""
    now: dict[str, dict[tuple[int, str, str], Line]] = defaultdict(dict)
    most: dict[str, tuple[int, str]] = {}
    for line in lines:
        if line.what == "gone":
            for those in now.values():
                for one in [one for one in those if one[0] == line.pid]:
                    del those[one]
            continue
        if line.function not in functions:
            continue
        those, who = now[group(line)], (line.pid, line.run, line.step)
        if line.what == "end":
            those.pop(who, None)
            continue
        those[who] = line
        if len(those) > most.get(group(line), (0, ""))[0]:
            most[group(line)] = len(those), ", ".join(f"{run}/{step}" for _, run, step in those)
    return most


def _open(lines: Iterable[Line], function: str, group: Callable[[Line], str]) -> dict[str, tuple[int, str]]:
    """The most runs that were open at once, of each group, and which."""
    of_function = [line for line in lines if line.function == function]
    last = {line.run: place for place, line in enumerate(of_function)}
    now: dict[str, set[str]] = defaultdict(set)
    most: dict[str, tuple[int, str]] = {}
    for place, line in enumerate(of_function):
        those = now[group(line)]
        those.add(line.run)
        if len(those) > most.get(group(line), (0, ""))[0]:
            most[group(line)] = len(those), ", ".join(sorted(those))
        if last[line.run] == place:
            those.discard(line.run)
    return most


def _too_many(found: Mapping[str, tuple[int, str]], limit: int, what: str) -> list[str]:
    return [
        f"{what}, key {key!r}: expected at most {limit}, got {count}: {which}"
        for key, (count, which) in found.items()
        if count > limit
    ]


# --- in time --------------------------------------------------------------------------------------


def _throttled_after_s(number: int) -> float:
    return (number - limited.THROTTLE_BURST + 1) * limited.THROTTLE_EVERY_S


def _rated_after_s(number: int) -> float:
    return (number // limited.RATE_LIMIT) * limited.RATE_PERIOD_S


def _too_early(
    posted: Iterable[Posted], lines: Iterable[Line], name: str, function: str, after_s: Callable[[int], float]
) -> list[str]:
    """Starts, counted from 0, that came before their time: ``after_s`` after the first event of their key."""
    first_ns: dict[str, int] = {}
    for event in posted:
        if event.name == name:
            first_ns[event.key] = min(event.at_ns, first_ns.get(event.key, event.at_ns))
    began: dict[str, dict[str, int]] = defaultdict(dict)
    for line in lines:
        if line.function == function:
            began[line.key].setdefault(line.run, line.at_ns)
    wrong = []
    for key, starts in began.items():
        for number, at_ns in enumerate(sorted(starts.values())):
            after, wanted = (at_ns - first_ns[key]) / 1e9, after_s(number)
            if after < wanted - CLOCKS_S:
                wrong.append(f"{function} of key {key}: start {number} expected after {wanted:.2f} s, got {after:.2f}")
    return wrong


# --- in order, and once ---------------------------------------------------------------------------


def _out_of_order(lines: Iterable[Line]) -> list[str]:
    wrong = []
    runs: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for line in lines:
        if line.function in ("ordered", *LAST_ONE_COUNTS):
            runs[line.function, line.key].setdefault(line.run, line.numbers[0])
    for (function, key), numbers in runs.items():
        if list(numbers.values()) != sorted(numbers.values()):
            wrong.append(f"{function} of key {key}: expected the order of the events, got {[*numbers.values()]}")
    return wrong


def _taken_twice(lines: Iterable[Line]) -> list[str]:
    """Events with two runs of a function; batches that are too large."""
    of_run: dict[tuple[str, str], dict[str, tuple[int, ...]]] = defaultdict(dict)
    wrong = []
    for line in lines:
        if line.what != "gone" and of_run[line.function, line.key].setdefault(line.run, line.numbers) != line.numbers:
            wrong.append(f"run {line.run} of {line.function} had other events when it ran again: {line.numbers}")
    for (function, key), runs in of_run.items():
        twice = [n for n, count in Counter(n for numbers in runs.values() for n in numbers).items() if count > 1]
        if twice:
            wrong.append(f"{function} of key {key}: events {twice[:10]} have two runs each")
        most = limited.BATCH_MAX if function == "batched" else 1
        wrong += [f"run {run} of {function} has {len(ns)} events" for run, ns in runs.items() if len(ns) > most]
    return wrong
